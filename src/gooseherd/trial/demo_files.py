"""The files of the demo: where they are, and what a region of each must give."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.formats import Format, resolve
from gooseherd.domain.region import Region, parse_region
from gooseherd.trial import demodata

DCC = "demo"
MANIFEST = demodata.MANIFEST.name


@dataclass(frozen=True, slots=True)
class DemoFile:
    """One file of the demo's data; `records` overlap the region, as counted when the data was chosen."""

    local_id: str
    path: Path
    file_format: Format
    md5: str
    description: str
    region: Region | None
    records: int | None


def read_manifest(folder: Path | None) -> list[DemoFile]:
    """The files of the demo's data folder; without one the data is fetched and kept in the user's cache.

    Raises:
        Misconfigured: the folder is not what a fetch leaves, or cannot be written to.
        DataMissing: the data could not be fetched.
    """
    if folder is None:
        folder = demodata.default_folder(os.environ)
        try:
            demodata.bring(folder)
        except OSError as error:
            raise Misconfigured(
                "GOOSEHERD_DEMO_DATA",
                f"not set, and the demo's files cannot be kept in {folder} ({error.strerror}); "
                "make that possible, or name another cache folder in XDG_CACHE_HOME",
            ) from None
    folder = folder.resolve()
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return [_demo_file(folder, entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            "GOOSEHERD_DEMO_DATA",
            f"no usable {MANIFEST} in {folder} ({type(error).__name__}); fill the folder by "
            f"python -m gooseherd.trial.demodata {folder}, or leave it unset: the demo then fetches its data",
        ) from None


def _demo_file(folder: Path, entry: dict[str, Any]) -> DemoFile:
    file_format = resolve(entry["format"])
    path = folder / entry["file"]
    if file_format is None or not path.is_file():
        raise ValueError(entry["id"])
    return DemoFile(
        local_id=entry["id"],
        path=path,
        file_format=file_format,
        md5=entry["md5"],
        description=entry["description"],
        region=parse_region(entry["region"]) if entry["region"] else None,
        records=entry["records"],
    )
