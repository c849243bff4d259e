"""Real matrices of contacts and 2bit files, by their readers, on artifacts of a running service.

They are served as they are, so every region is read by range over HTTP: a cooler by cooler
(_cooler_reader.py), .hic by hic-straw, 2bit by @gmod/twobit (readers.mjs). What has to be found is read from
the source by others: a scan of all pixels, hictkpy, py2bit (_matrix_source.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from _matrices import matrices_python
from _reference import Differs
from _viewers import Readers, bundle_of_viewers

from gooseherd.client import GooseherdClient
from gooseherd.domain.formats import COOL, HIC, MCOOL, TWOBIT, Format
from gooseherd.trial.private_service import running_service

HERE = Path(__file__).parent
MATRICES: Final = frozenset({COOL, MCOOL, HIC, TWOBIT})
_SETTINGS: Final = (
    *("GOOSEHERD_", "API_", "SOURCE_", "WORKFLOW_", "WORKER_", "DATABASE_", "SYNC_", "AWS_", "ECS_"),
)
BIG_ENDIAN: Final = bytes.fromhex("1a412743")
"""How a 2bit begins whose numbers neither @gmod/twobit nor py2bit reads: of these the bytes are compared."""
_SECONDS: Final = 300


class Served:
    """A service that serves files of `folders`, and the readers; all of it is started when it is needed."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self._stack = contextlib.ExitStack()
        self._client: GooseherdClient | None = None
        self._readers: Readers | None = None
        self._registered = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def compare(self, source: Path, file_format: Format) -> tuple[int, int]:
        """How many contacts (or sequences) and regions there are in the artifact.

        Raises:
            Differs: naming the first difference.
            NotMade: an environment of the readers cannot be made.
            NotBundled: likewise.
        """
        url = self._url_of(source, file_format)
        if file_format is TWOBIT and source.read_bytes()[:4] == BIG_ENDIAN:
            return 0, 0
        if file_format in (COOL, MCOOL):
            counts = _program("_cooler_reader.py", source, url)
            return counts["records"], counts["regions"]
        wanted = _program("_matrix_source.py", file_format.name, source)
        compare = self._compare_2bit if file_format is TWOBIT else self._compare_hic
        return compare(url, wanted)

    def _url_of(self, source: Path, file_format: Format) -> str:
        if self._client is None:
            home = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="served-")))
            environ = {k: v for k, v in os.environ.items() if not k.startswith(_SETTINGS)}
            service = self._stack.enter_context(
                running_service(state_dir=home / "state", allow_roots=self._folders, environ=environ)
            )
            self._client = self._stack.enter_context(GooseherdClient(service.url, service.admin_key))
        self._registered += 1
        local_id = f"f{self._registered}"
        about = {"filename": source.name, "file_format": file_format.name}
        place = {"access_url": source.resolve().as_uri(), "version_tag": f"{time.time_ns()}"}
        self._client.register({"dcc": "t", "local_id": local_id, **about, **place})
        return self._client.ready("t", local_id, timeout_seconds=_SECONDS).url

    def _ask(self, kind: str, url: str, regions: Sequence[Any], **options: Any) -> tuple[list[Any], Any]:
        if self._readers is None:
            self._readers = Readers(bundle_of_viewers() / "readers.mjs")
            self._stack.callback(self._readers.close)
        try:
            found, header = self._readers.ask(kind, {"data": url}, regions, **options)
        except AssertionError as error:
            raise Differs(f"{kind}: {str(error).splitlines()[0]}") from None
        return found, header

    def _compare_2bit(self, url: str, wanted: dict[str, Any]) -> tuple[int, int]:
        found, lengths = self._ask("twobit", url, [one["region"] for one in wanted["regions"]])
        if lengths != wanted["lengths"]:
            raise Differs(f"{len(lengths)} sequences, the source has {len(wanted['lengths'])}")
        for one, letters in zip(wanted["regions"], found, strict=True):
            # Of a masked N one reader gives the mask, the other does not.
            if letters.replace("n", "N") != one["letters"].replace("n", "N"):
                raise Differs(f"{one['region']}: other letters than py2bit reads")
        return len(lengths), len(found)

    def _compare_hic(self, url: str, wanted: dict[str, Any]) -> tuple[int, int]:
        records = regions = 0
        for resolution, asked in wanted["resolutions"].items():
            size = int(resolution)
            # Of a place that ends within a bin hic-straw leaves that bin out.
            places = [
                [(name, begin, -(-end // size) * size) for name, begin, end in one["places"]] for one in asked
            ]
            found, lengths = self._ask("hic", url, places, resolution=size)
            named = {name: size for name, size in lengths.items() if name.lower() != "all"}
            if named != wanted["lengths"]:
                raise Differs(f"{len(named)} sequences, the source has {len(wanted['lengths'])}")
            for one, contacts in zip(asked, found, strict=True):
                regions += 1
                records += len(one["contacts"])
                if problem := unlike(one, contacts, size):
                    raise Differs(f"{one['places']} at {resolution}: {problem}")
        return records, regions


def unlike(wanted: dict[str, Any], contacts: Sequence[Sequence[float]], resolution: int) -> str:
    """Why these are not the contacts of two places. hic-straw gives whole blocks: more than was asked for."""
    (_, begin, end), (_, other_begin, other_end) = wanted["places"]

    def inside(row: float, column: float) -> bool:
        return bool(begin <= row * resolution < end and other_begin <= column * resolution < other_end)

    # Within a sequence each reader gives the one or the other of two mirror images.
    same = wanted["places"][0][0] == wanted["places"][1][0]

    def images(found: Sequence[Sequence[float]]) -> set[tuple[float, float, float]]:
        return {
            (row, column, round(count, 3))
            for one, other, count in found
            for row, column in ({(one, other), (other, one)} if same else {(one, other)})
            if inside(row, column)
        }

    given, expected = images(contacts), images(wanted["contacts"])
    return "" if given == expected else f"{len(given)} contacts, hictkpy finds {len(expected)}"


def _program(name: str, *options: str | Path) -> Any:
    """What a program of the environment prints, as JSON."""
    argv = [matrices_python(), HERE / name, *options]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        raise Differs(done.stderr.strip()[-300:])
    return json.loads(done.stdout)
