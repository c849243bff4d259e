"""An index that lies beside a local file: found, and used only when it fits.

A file with an index is served as it is, so a wrong index would give wrong records: whatever is
not certain is not used, and gooseherd makes an index of its own instead.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gooseherd.domain.formats import BAM, Family, Format
from gooseherd.processing.formats.index_file import NotUsable, check_index

INDEX_SUFFIXES: Final = frozenset({".bai", ".tbi", ".csi", ".crai", ".fai", ".gzi", ".px2", ".beddb"})
"""What is no data when a folder is added."""

_CLOCK_SECONDS: Final = 2.0
"""File systems and archives keep times to two seconds at worst (FAT, zip)."""


@dataclass(frozen=True, slots=True)
class FoundIndex:
    """An index that was found. `problem` is why it is not used; empty: it is, as `kind`."""

    path: Path
    kind: str
    problem: str = ""


def indexes_beside(data: Path, file_format: Format) -> Iterator[FoundIndex]:
    """The indexes that lie beside `data`, the likeliest first, each checked against it."""
    seen = set[Path]()
    for path, kind in _candidates(data, file_format):
        if not path.is_file() or path.resolve() in seen:
            continue
        seen.add(path.resolve())
        try:
            _check(path, kind, data, file_format)
        except NotUsable as error:
            yield FoundIndex(path, kind, str(error))
        except (OSError, EOFError, zlib.error) as error:
            yield FoundIndex(path, kind, f"cannot be read ({getattr(error, 'strerror', None) or 'damaged'})")
        else:
            yield FoundIndex(path, kind)


def _candidates(data: Path, file_format: Format) -> Iterator[tuple[Path, str]]:
    kinds = ("bai", "csi") if file_format is BAM else ("tbi", "csi")
    if file_format.family not in {Family.ALIGNMENTS, Family.INTERVALS}:
        return
    # A link and its index may lie together, and so may the file that the link leads to.
    for place in dict.fromkeys((data, data.resolve())):
        for kind in kinds:
            yield place.with_name(f"{place.name}.{kind}"), kind
        if file_format is BAM and place.suffix:
            yield place.with_suffix(".bai"), "bai"


def _check(path: Path, kind: str, data: Path, file_format: Format) -> None:
    """Raises NotUsable, OSError, EOFError or zlib.error when the index is not to be used."""
    if kind == "csi":
        raise NotUsable("is a CSI index, which genome browsers in web pages rarely read; another one is made")
    if path.resolve().parent != data.resolve().parent:
        raise NotUsable("lies in another folder than the file itself")
    about, about_index = data.stat(), path.stat()
    late = about.st_mtime - about_index.st_mtime
    if late > _CLOCK_SECONDS:
        # The file may have grown since: what was added would not be found, and nobody would notice.
        raise NotUsable("is older than the file")
    check_index(path, kind, data)
