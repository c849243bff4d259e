"""Checking, compacting and copying the file of SQLite, beside services that go on using it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gooseherd.domain.errors import GooseherdError
from gooseherd.store.sql.sqlite import APPLICATION_ID

_BUSY_SECONDS: Final = 60.0
"""Nobody waits for the command; an import of a catalog writes for longer than a request may wait."""

_MOST_FINDINGS: Final = 20

_PAGES_AT_ONCE: Final = 4096
"""Of 4 KiB: a backup reads so many between two looks at whether it shall go on."""


@dataclass(eq=False)
class MaintenanceFailed(GooseherdError):
    """What was asked for was not done; the file is as it was."""

    problem: str

    def __str__(self) -> str:
        return self.problem


def check(path: Path) -> list[str]:
    """What is wrong with the file, at most twenty findings; empty when it is sound. Reads all of it.

    Raises:
        MaintenanceFailed: it cannot be read, or is none of ours.
    """
    with _opened(path) as database:
        try:
            findings = [
                str(line)
                for (line,) in database.execute(f"PRAGMA integrity_check({_MOST_FINDINGS})")
                if line != "ok"
            ]
            for table, row, parent, _ in database.execute("PRAGMA foreign_key_check"):
                findings.append(f"row {row} of {table} has no {parent}")
            # The index of words against the entries it was made of: sqlite.org/fts5.html, integrity-check.
            try:
                database.execute("INSERT INTO file_words(file_words, rank) VALUES ('integrity-check', 1)")
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                    raise
                findings.append(f"the index of words differs from the entries ({error})")
        except sqlite3.DatabaseError as error:
            if not error.sqlite_errorname.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                raise
            findings = [f"it cannot be read to its end ({error})"]
    return findings[:_MOST_FINDINGS]


_BYTES: Final = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
"""The file alone has none of what still is in the log beside it, which may be most."""


def vacuum(path: Path) -> tuple[int, int]:
    """Give back the space of removed entries and jobs; the bytes before and after, the log included.

    Writers wait meanwhile, and services answer 503 to what waits for more than ten seconds.

    Raises:
        MaintenanceFailed: among others when the disk has no room for a second copy.
    """
    with _opened(path) as database:
        (before,) = database.execute(_BYTES).fetchone()
        if shutil.disk_usage(path.parent).free < 2 * before:
            raise MaintenanceFailed(f"{path.name} has {before} bytes: twice as many must be free on its disk")
        database.execute("INSERT INTO file_words(file_words) VALUES ('optimize')")
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (after,) = database.execute(_BYTES).fetchone()
    return before, after


def backup(path: Path, target: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Copy the database as it is at one moment to the new file `target`; the copy's bytes.

    The copy gets its name when it is complete, checked and on the disk. `progress` is told pages.

    Raises:
        MaintenanceFailed: `target` is there already or cannot be written.
    """
    if target.exists():
        raise MaintenanceFailed(f"{target} is there already")
    partial = target.with_name(f"{target.name}.partial")
    with _opened(path) as database, _removed(partial):
        with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
            # One read transaction: others' writes would make the copying begin anew.
            database.execute("BEGIN")
            database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            database.backup(
                copy, pages=_PAGES_AT_ONCE, progress=lambda _, left, total: progress(total - left, total)
            )
            database.execute("COMMIT")
            # One file, whatever it is copied with; a start sets the log again.
            copy.execute("PRAGMA journal_mode = DELETE")
            (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise MaintenanceFailed(f"the copy is damaged ({verdict}): run gooseherd store check")
        partial.chmod(0o600)
        _synced(partial)
        _name_it(partial, target)
        _synced(target.parent)
    return target.stat().st_size


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.exists():
        raise MaintenanceFailed(f"{path} is not there: nothing was ever stored")
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
            if database.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
                raise MaintenanceFailed(f"{path} is another program's database")
            yield database
    except sqlite3.Error as error:
        raise MaintenanceFailed(f"{path}: {error}") from error


@contextmanager
def _removed(partial: Path) -> Iterator[None]:
    """Without a file of that name before and after."""
    try:
        partial.unlink(missing_ok=True)
        yield
    except OSError as error:
        raise MaintenanceFailed(f"{partial}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _name_it(partial: Path, target: Path) -> None:
    try:
        os.link(partial, target)  # unlike a renaming it replaces nothing
    except FileExistsError:
        raise MaintenanceFailed(f"{target} is there already") from None
    except OSError:  # a file system without links, of a removable disk
        partial.rename(target)


def _synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
