"""The file of an export: JSON lines, each with a digest of itself and of all before it; pure.

    {"gooseherd_export": 1, "made_at": "…", "version": "…", "digest": "…"}
    {"file": {…}, "digest": "…"}
    {"key": {…}, "digest": "…"}
    {"end": {"files": 1, "keys": 1}, "digest": "…"}

A digest is the SHA-256 of the digest before it and of the line's own record, so that the first line that was
altered, is missing, or stands elsewhere is known by its number, and so is a file that ends too early.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gooseherd.domain.apikey import ApiKey, KeyId
from gooseherd.domain.caller import Scope
from gooseherd.domain.errors import GooseherdError, InvalidInput
from gooseherd.domain.foreign_json import read_json
from gooseherd.domain.job import Requester
from gooseherd.domain.source import Dcc, SourceFile

FORMAT: Final = 1
LONGEST_LINE: Final = 1 << 20


@dataclass(eq=False)
class DamagedExport(GooseherdError):
    """The file is not as it was written; `line` is the first that shows it."""

    line: int
    problem: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.problem}"


@dataclass(frozen=True, slots=True)
class ExportCounts:
    """How much is in it, and when it was made."""

    files: int = 0
    keys: int = 0
    made_at: datetime | None = None


class ExportWriter:
    """Makes the lines of an export, one after the other."""

    def __init__(self) -> None:
        self._digest = ""
        self._files = self._keys = 0

    def begin(self, made_at: datetime, version: str) -> bytes:
        """The first line."""
        return self._line({"gooseherd_export": FORMAT, "made_at": made_at.isoformat(), "version": version})

    def file(self, entry: SourceFile) -> bytes:
        """An entry of the catalog."""
        self._files += 1
        return self._line({"file": entry.to_json()})

    def key(self, key: ApiKey) -> bytes:
        """A key: its digest, never its text."""
        self._keys += 1
        return self._line({"key": key_to_json(key)})

    def end(self) -> bytes:
        """The last line."""
        return self._line({"end": {"files": self._files, "keys": self._keys}})

    def _line(self, record: Mapping[str, Any]) -> bytes:
        self._digest = _digest(self._digest, record)
        return _encoded({**record, "digest": self._digest}) + b"\n"


def read_export(lines: Iterable[bytes]) -> Iterator[SourceFile | ApiKey | ExportCounts]:
    """What the lines hold; the counts come last, when all of it has been read and is as it was written.

    Raises:
        DamagedExport: naming the line. What was yielded before it is good as far as its own line goes.
    """
    digest, number, files, keys = "", 0, 0, 0
    made_at: datetime | None = None
    lines = iter(lines)
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            raise DamagedExport(number, f"longer than {LONGEST_LINE} bytes")
        record = _record(number, line)
        if number == 1 and "gooseherd_export" not in record:
            raise DamagedExport(1, "this is no export of gooseherd (a catalog alone: gooseherd store import)")
        stated = record.pop("digest", None)
        digest = _digest(digest, record)
        if stated != digest:
            raise DamagedExport(number, "is not as it was written, or a line before it is missing")
        if number == 1:
            if record["gooseherd_export"] != FORMAT:
                raise DamagedExport(1, f"written by another version (format {record['gooseherd_export']})")
            made_at = _made(1, lambda begin: datetime.fromisoformat(begin["made_at"]), record)
        elif "file" in record:
            files += 1
            yield _made(number, SourceFile.from_json, record["file"])
        elif "key" in record:
            keys += 1
            yield _made(number, key_from_json, record["key"])
        elif "end" in record:
            counts = ExportCounts(files, keys, made_at)
            if record["end"] != {"files": files, "keys": keys}:
                raise DamagedExport(number, "counts other lines than there are")
            for rest in lines:
                if rest.strip():
                    raise DamagedExport(number + 1, "stands behind the last line")
            yield counts
            return
        else:
            raise DamagedExport(number, "is none of an entry, a key and the end")
    raise DamagedExport(number + 1, "the file ends before its last line")


def key_to_json(key: ApiKey) -> dict[str, Any]:
    """A stored key as plain data."""
    return {
        "key_id": key.key_id,
        "digest": key.digest,
        "owner": key.owner,
        "scopes": sorted(scope.value for scope in key.scopes),
        "collections": sorted(key.collections),
        "all_collections": key.all_collections,
        "label": key.label,
        "created_at": key.created_at.isoformat(),
        **{
            name: None if (moment := getattr(key, name)) is None else moment.isoformat()
            for name in ("expires_at", "revoked_at", "last_used_at")
        },
        "budget_per_day": key.budget_per_day,
        "budget_per_month": key.budget_per_month,
    }


def key_from_json(data: Mapping[str, Any]) -> ApiKey:
    """The inverse. Raises KeyError, TypeError or ValueError for anything else."""

    def moment(name: str) -> datetime | None:
        return None if data.get(name) is None else datetime.fromisoformat(data[name])

    return ApiKey(
        key_id=KeyId(data["key_id"]),
        digest=data["digest"],
        owner=Requester(data["owner"]),
        scopes=frozenset(map(Scope, data["scopes"])),
        collections=frozenset(map(Dcc, data["collections"])),
        all_collections=bool(data["all_collections"]),
        label=data["label"],
        created_at=datetime.fromisoformat(data["created_at"]),
        expires_at=moment("expires_at"),
        revoked_at=moment("revoked_at"),
        last_used_at=moment("last_used_at"),
        budget_per_day=data.get("budget_per_day"),
        budget_per_month=data.get("budget_per_month"),
    )


def _encoded(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode()


def _digest(before: str, record: Mapping[str, Any]) -> str:
    return hashlib.sha256(before.encode() + b"\n" + _encoded(record)).hexdigest()


def _record(number: int, line: bytes) -> dict[str, Any]:
    try:
        record = read_json(line)
    except ValueError:
        whole = line.endswith(b"\n")
        raise DamagedExport(number, "is not JSON" if whole else "is cut off: the file is not whole") from None
    if not isinstance(record, dict):
        raise DamagedExport(number, "is no JSON object")
    return record


def _made(number: int, make: Any, data: Any) -> Any:
    try:
        return make(data)
    except (InvalidInput, KeyError, TypeError, ValueError, AttributeError) as error:
        problem = str(error) if isinstance(error, InvalidInput) else type(error).__name__
        raise DamagedExport(number, f"cannot be used here ({problem})") from None
