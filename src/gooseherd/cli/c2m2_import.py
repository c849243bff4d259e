"""`gooseherd files import --c2m2`: brings the catalog to what a data package says, changes alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gooseherd.cli import formatting
from gooseherd.cli.c2m2 import C2m2Package, NoPackage, without_filled_in
from gooseherd.cli.outcome import CommandError, Exit, print_status
from gooseherd.domain.source import SourceFile

if TYPE_CHECKING:
    from gooseherd.client import GooseherdClient

_AT_ONCE: Final = 5000
"""Lines of one request: what was stored stays when a later one fails."""
_FEW_REMOVED: Final = 10
_SHARE_REMOVED: Final = 0.2
"""More than both at once looks like half a package, and is done only when told."""
_OF_ENTRY: Final = (
    "filename", "file_format", "access_url", "md5", "sha256", "size_in_bytes", "version_tag", "status",
    "sidecars", "data_access_level", "package",
)  # fmt: skip


class PackageImport:
    """One import. The package's entries lie in a file of their own meanwhile, so memory does not grow."""

    def __init__(self, client: GooseherdClient, package: C2m2Package) -> None:
        self._client = client
        self._package = package
        self.counts: dict[str, int] = {
            "rows_taken": 0, "new_or_changed": 0, "unchanged": 0, "removed": 0, "failed": 0,
        }  # fmt: skip
        self.skipped: dict[str, int] = {}
        self._stored = self._removed = 0
        """So far, of what a service has confirmed."""

    def run(self, collection: str | None, *, remove: bool, remove_many: bool, dry_run: bool) -> None:
        """Files of one collection are a part of the package, so with `collection` none is removed.

        Raises CommandError: it cannot be read, or too much would be removed; nothing was changed then.
        """
        remove = remove and collection is None
        # A database without a name is in a file that has none either: nothing stays after a kill.
        with closing(sqlite3.connect("", isolation_level=None)) as kept:
            kept.execute("PRAGMA synchronous = OFF")
            kept.execute(
                "CREATE TABLE entries (local_id TEXT PRIMARY KEY, entry TEXT, state TEXT) WITHOUT ROWID"
            )
            kept.execute("CREATE TABLE skipped (local_id TEXT PRIMARY KEY) WITHOUT ROWID")
            kept.execute("CREATE TABLE gone (local_id TEXT PRIMARY KEY, stored TEXT) WITHOUT ROWID")
            self._read(kept, collection)
            known = self._compare(kept)
            (gone,) = kept.execute("SELECT count(*) FROM gone").fetchone()
            if remove and not remove_many and gone > max(_FEW_REMOVED, known * _SHARE_REMOVED):
                raise CommandError(
                    Exit.REFUSED,
                    f"{gone} of {known} entries of {self._package.name!r} are not in it any more: "
                    "nothing was changed",
                    "if that is meant, say --remove-many; --keep removes none",
                )
            if not dry_run:
                with _told_when_broken_off(self._progress):
                    self._send(kept)
            (new,) = kept.execute("SELECT count(*) FROM entries WHERE state = 'new'").fetchone()
            self.counts["new_or_changed"] = new - self.counts["failed"]
            if remove:
                with _told_when_broken_off(self._progress):
                    self.counts["removed"] = gone if dry_run else self._remove(kept)

    def _read(self, kept: sqlite3.Connection, collection: str | None) -> None:
        kept.execute("BEGIN")
        try:
            for entry in self._package.entries(collection, _Members(kept)):
                if not isinstance(entry, SourceFile):
                    kept.execute("INSERT OR IGNORE INTO skipped VALUES (?)", (entry,))
                    continue
                row = entry.local_id, json.dumps(entry.to_json())
                try:
                    kept.execute("INSERT INTO entries VALUES (?, ?, 'new')", row)
                except sqlite3.IntegrityError:
                    self._package.skipped["a second row of the same id"] += 1
                    continue
                self.counts["rows_taken"] += 1
        except NoPackage as error:
            raise CommandError(Exit.FAILED, str(error), "nothing was changed") from None
        kept.execute("COMMIT")
        self.skipped = dict(self._package.skipped.most_common())

    def _compare(self, kept: sqlite3.Connection) -> int:
        """Look at what the catalog has of this collection; how many of these are the package's.

        All is stored with the package's name, so what an import stored that was broken off is `same` here.
        """
        known = 0
        kept.execute("BEGIN")
        for stored in self._client.files(dcc=self._package.dcc, states=False):
            local_id = stored["local_id"]
            found = kept.execute("SELECT entry FROM entries WHERE local_id = ?", (local_id,)).fetchone()
            if stored.get("package") != self._package.name:
                if found is not None:
                    kept.execute("UPDATE entries SET state = 'other' WHERE local_id = ?", (local_id,))
                    self._skip("its id is that of an entry from elsewhere, which stays")
                    self.counts["rows_taken"] -= 1
                continue
            known += 1
            if found is None:
                # A row that cannot be taken this time is still one of the package.
                kept.execute(
                    "INSERT INTO gone SELECT ?, ? WHERE ? NOT IN (SELECT local_id FROM skipped)",
                    (local_id, json.dumps(_as_registered(stored)), local_id),
                )
            elif without_filled_in(stored, wanted := json.loads(found[0])) == wanted:
                kept.execute("UPDATE entries SET state = 'same' WHERE local_id = ?", (local_id,))
                self.counts["unchanged"] += 1
        kept.execute("COMMIT")
        return known

    def _send(self, kept: sqlite3.Connection) -> None:
        cursor = kept.execute("SELECT entry FROM entries WHERE state = 'new' ORDER BY local_id")
        while rows := cursor.fetchmany(_AT_ONCE):
            outcome = self._client.import_files(row[0].encode() for row in rows)
            self._stored += outcome["imported"]
            self.counts["failed"] += outcome["failed"]
            for error in outcome["errors"]:
                self._skip(f"{error['field']}: {error['problem']}")

    def _remove(self, kept: sqlite3.Connection) -> int:
        """Take out what is gone, unless somebody has registered it anew since it was compared."""
        from gooseherd.client import Missing

        removed = 0
        for local_id, compared in kept.execute("SELECT local_id, stored FROM gone ORDER BY local_id"):
            before = json.loads(compared)
            try:
                now = self._client.file(self._package.dcc, local_id)
                if without_filled_in(now, before) != before:
                    self._skip("it is not in the package, but was changed meanwhile: it stays")
                    continue
                self._client.remove(self._package.dcc, local_id)
                self._removed = removed = removed + 1
            except Missing:  # somebody else was faster
                continue
        return removed

    def _progress(self) -> str:
        return (
            f"broken off: {formatting.number(self._stored)} entries were stored and "
            f"{formatting.number(self._removed)} removed; the same command goes on from there"
        )

    def _skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


class _Members:
    """Ids of files, in a table."""

    def __init__(self, kept: sqlite3.Connection) -> None:
        self._kept = kept
        kept.execute(
            "CREATE TABLE members (namespace TEXT, local_id TEXT, PRIMARY KEY (namespace, local_id)) "
            "WITHOUT ROWID"
        )

    def add(self, member: tuple[str, str]) -> None:
        self._kept.execute("INSERT OR IGNORE INTO members VALUES (?, ?)", member)

    def __contains__(self, member: object) -> bool:
        found = self._kept.execute("SELECT 1 FROM members WHERE namespace = ? AND local_id = ?", member)  # type: ignore[arg-type]
        return found.fetchone() is not None


@contextmanager
def _told_when_broken_off(progress: Callable[[], str]) -> Iterator[None]:
    """Say how far it was, whatever ends it: an error, or the user."""
    try:
        yield
    except BaseException:
        print_status(progress())
        raise


def _as_registered(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What is the entry's own of what the service shows, not how far it is prepared."""
    return {name: stored.get(name) for name in _OF_ENTRY}


def import_package(
    client: GooseherdClient,
    source: Path,
    *,
    dcc: str | None,
    name: str | None,
    collection: str | None,
    remove: bool,
    remove_many: bool,
    dry_run: bool,
) -> dict[str, Any]:
    """Raises CommandError."""
    try:
        package = C2m2Package(source, dcc=dcc, name=name)
    except NoPackage as error:
        raise CommandError(Exit.USAGE, f"{source}: {error}") from None
    with package:
        work = PackageImport(client, package)
        work.run(collection, remove=remove, remove_many=remove_many, dry_run=dry_run)
        return {
            "package": package.name,
            "dcc": package.dcc,
            "dry_run": dry_run,
            **work.counts,
            "renamed": package.renamed,
            "skipped": work.skipped,
        }


def report_lines(counts: dict[str, Any]) -> Iterator[str]:
    """For people."""
    words = "would be" if counts["dry_run"] else "were"
    yield (
        f"{formatting.number(counts['rows_taken'])} files of {counts['package']!r} as {counts['dcc']}: "
        f"{formatting.number(counts['new_or_changed'])} {words} stored, "
        f"{formatting.number(counts['unchanged'])} unchanged, "
        f"{formatting.number(counts['removed'])} {words} removed"
    )
    if counts["renamed"]:
        yield f"{formatting.number(counts['renamed'])} have an id made of their own, which has other signs"
    for reason, number in counts["skipped"].items():
        yield f"{formatting.number(number)} skipped: {reason}"


def show(counts: dict[str, Any]) -> None:
    """To people."""
    first, *others = report_lines(counts)
    print(first)
    for line in others:
        print_status(line)
