"""Data packages of C2M2, the Common Fund's metadata model, as catalog entries.

A package is a Frictionless data package (specs.frictionlessdata.io/data-package): a folder or zip file with
a descriptor and a table (TSV) for each entity. Read are `file.tsv`, `dcc.tsv` and, to take the files of one
collection, `file_in_collection.tsv`; their columns are those of
github.com/nih-cfde/published-documentation/wiki. A table is read row by row.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Protocol, Self

from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.formats import NAMES, from_filename, resolve
from gooseherd.domain.source import LocalId, SourceFile, parse_dcc

_DESCRIPTORS: Final = ("datapackage.json", "C2M2_datapackage.json")
_ILLEGAL: Final = re.compile(r"[^A-Za-z0-9._~:+@=-]+|\.\.+")
_LONGEST_LINE: Final = 1 << 20
_ADDRESSES: Final = ("https://", "http://", "drs://", "s3://")

Row = Mapping[str, str]


class Members(Protocol):
    """A set of files, by namespace and id; a million of them need not be in memory."""

    def add(self, member: tuple[str, str], /) -> None:
        """Idempotent."""
        ...

    def __contains__(self, member: object, /) -> bool: ...


class NoPackage(Exception):
    """It cannot be read as a C2M2 package; says why."""


class C2m2Package:
    """An open package. `skipped` counts the rows that make no entry, by why."""

    def __init__(self, source: Path, *, dcc: str | None = None, name: str | None = None) -> None:
        """Raises NoPackage. `dcc` and `name` stand in for what `dcc.tsv` says."""
        self._stack = ExitStack()
        self._zip: zipfile.ZipFile | None = None
        self._folder = source
        self.skipped: Counter[str] = Counter()
        self.renamed = 0
        """Entries whose id was made of one that the catalog cannot take."""
        try:
            if source.is_file():
                self._zip = self._stack.enter_context(zipfile.ZipFile(source))
            self._names = self._all_names()
            self._paths = self._described()
            row = next(iter(self.rows("dcc")), {}) if self._has("dcc") else {}
            abbreviation = dcc or row.get("dcc_abbreviation", "")
            if not abbreviation:
                raise NoPackage("dcc.tsv does not say whose it is: give --dcc")
            self.dcc = parse_dcc(abbreviation)
            self._namespace = row.get("project_id_namespace", "")
            self.name = name or f"c2m2 {row.get('id') or self.dcc}"
            if not self._has("file"):
                raise NoPackage("it has no file.tsv")
        except (zipfile.BadZipFile, OSError) as error:
            self.close()
            raise NoPackage(f"it cannot be read ({error})") from None
        except InvalidInput as error:
            self.close()
            raise NoPackage(str(error)) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        self._stack.close()

    def entries(
        self, collection: str | None = None, members: Members | None = None
    ) -> Iterator[SourceFile | LocalId]:
        """An entry for each row that can be one, of a collection's files alone if it is named.

        `members`, an empty set, holds what is of the collection meanwhile. For a row that can be none, its
        id: the package still has that file. Raises NoPackage: the table cannot be read to its end.
        """
        wanted = None
        if collection is not None:
            wanted = set[tuple[str, str]]() if members is None else members
            self._find_files_of(collection, wanted)
        for row in self.rows("file"):
            if wanted is not None and (row.get("id_namespace", ""), row.get("local_id", "")) not in wanted:
                self.skipped["not in the collection"] += 1
                continue
            local_id, renamed = self._local_id(row)
            entry = self._entry(row, local_id)
            if entry is not None:
                self.renamed += renamed
            yield LocalId(local_id) if entry is None else entry

    def rows(self, table: str) -> Iterator[Row]:
        """A table's rows by column. Raises NoPackage: naming the line that is none."""
        with self._opened(table) as lines:
            head = next(self._cells(table, lines), None)
            if head is None:
                return
            for number, cells in enumerate(self._cells(table, lines), 2):
                if len(cells) != len(head):
                    raise NoPackage(
                        f"{table}.tsv: line {number} has {len(cells)} cells, the head has {len(head)}"
                    )
                yield dict(zip(head, cells, strict=True))

    # -- rows to entries -----------------------------------------------------------------------

    def _entry(self, row: Row, local_id: str) -> SourceFile | None:
        address = row.get("access_url") or row.get("persistent_id") or ""
        if not address.startswith(_ADDRESSES):
            self.skipped["no address to fetch it from (access_url, or a persistent_id that is one)"] += 1
            return None
        filename = PurePosixPath(row.get("filename", "").replace("\\", "/")).name
        filename = filename or address.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
        found = resolve(row.get("file_format", "").replace("format:", "format_")) or from_filename(filename)
        if found is None or found.name not in NAMES:
            self.skipped[f"format {row.get('file_format') or 'not stated'}"] += 1
            return None
        size = row.get("size_in_bytes", "")
        try:
            entry = SourceFile.from_json(
                {
                    "dcc": self.dcc,
                    "local_id": local_id,
                    "filename": filename,
                    "file_format": found.name,
                    "access_url": address,
                    "md5": row.get("md5"),
                    "sha256": row.get("sha256"),
                    "size_in_bytes": int(size) if size else None,
                    # What dbGaP gives out is for those whom it let in.
                    "data_access_level": "protected" if row.get("dbgap_study_id") else "public",
                    "package": self.name,
                }
            )
        except InvalidInput as error:
            self.skipped[f"{error.field}: {error.problem}"] += 1
            return None
        except ValueError:
            self.skipped["size_in_bytes: must be a whole number of bytes"] += 1
            return None
        return entry

    def _local_id(self, row: Row) -> tuple[str, bool]:
        """The file's own where the catalog can take it: in the package's namespace, of plain signs.

        Else one that is made of it, and True.
        """
        namespace, given = row.get("id_namespace", ""), row.get("local_id", "")
        plain = _ILLEGAL.sub("_", given).strip("_.~:+@=-")
        if plain == given and len(given) <= 255 and namespace in ("", self._namespace or namespace):
            return given, False
        digest = hashlib.sha256(f"{namespace}\n{given}".encode()).hexdigest()[:12]
        return f"{plain[-200:].lstrip('_.~:+@=-') or 'file'}-{digest}", True

    def _find_files_of(self, collection: str, members: Members) -> None:
        if not self._has("file_in_collection"):
            raise NoPackage("it has no file_in_collection.tsv")
        found = False
        for row in self.rows("file_in_collection"):
            if row.get("collection_local_id") == collection:
                members.add((row.get("file_id_namespace", ""), row.get("file_local_id", "")))
                found = True
        if not found:
            raise NoPackage(f"no file is in the collection {collection!r}")

    # -- tables --------------------------------------------------------------------------------

    def _all_names(self) -> list[str]:
        if self._zip is not None:
            return self._zip.namelist()
        if not self._folder.is_dir():
            raise NoPackage("no such folder or zip file")
        return [path.name for path in self._folder.iterdir() if path.is_file()]

    def _described(self) -> dict[str, str]:
        """Where each table lies, by its name in the descriptor; a zip file may have one folder around all."""
        found = sorted(
            (name for name in self._names if PurePosixPath(name).name in _DESCRIPTORS),
            key=lambda name: (name.count("/"), name),
        )
        if not found:
            raise NoPackage(f"it has no {_DESCRIPTORS[0]}")
        with self._open(found[0]) as file:
            try:
                resources = json.load(file)["resources"]
                paths = {str(one["name"]): str(one["path"]) for one in resources}
            except (ValueError, KeyError, TypeError, RecursionError):
                raise NoPackage(f"{found[0]} is no descriptor of tables") from None
        top = found[0].rpartition("/")[0]
        for name, path in paths.items():
            if path.startswith("/") or ".." in PurePosixPath(path).parts or "://" in path:
                raise NoPackage(f"the table {name} lies outside of the package")
        return {name: f"{top}/{path}" if top else path for name, path in paths.items()}

    def _has(self, table: str) -> bool:
        path = self._paths.get(table)
        if path is None:
            return False
        return path in self._names if self._zip is not None else (self._folder / path).is_file()

    @contextmanager
    def _opened(self, table: str) -> Iterator[IO[str]]:
        with self._open(self._paths[table]) as raw:
            yield io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n")

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        if self._zip is not None:
            with self._zip.open(name) as member:
                yield member
        else:
            with (self._folder / name).open("rb") as file:
                yield file

    @staticmethod
    def _cells(table: str, lines: IO[str]) -> Iterator[list[str]]:
        """C2M2 quotes nothing: a tab ends a cell, a line feed the row."""
        try:
            while line := lines.readline(_LONGEST_LINE + 1):
                if len(line) > _LONGEST_LINE:
                    raise NoPackage(f"{table}.tsv has a line longer than {_LONGEST_LINE} characters")
                yield [cell.strip() for cell in line.rstrip("\r\n").split("\t")]
        except (UnicodeDecodeError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise NoPackage(f"{table}.tsv cannot be read to its end ({type(error).__name__})") from None


def without_filled_in(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored of the same members, less what the service found out where `wanted` says nothing."""
    open_members = [name for name in ("size_in_bytes", "version_tag") if wanted.get(name) is None]
    return {name: None if name in open_members else stored.get(name) for name in wanted}
