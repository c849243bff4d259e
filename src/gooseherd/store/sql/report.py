"""What SQLite or PostgreSQL say of themselves, and of where the file lies, for `gooseherd doctor`."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Final

from sqlalchemy import func, select, text

from gooseherd.domain.errors import Misconfigured
from gooseherd.store.report import Danger, StoreReport
from gooseherd.store.sql.database import SqlDatabase, Transaction
from gooseherd.store.sql.filesystem import file_system_of
from gooseherd.store.sql.sqlite import APPLICATION_ID

_LITTLE_DISK_BYTES: Final = 1 << 30
"""The database itself takes 1 to 2 KB for each entry and job; others fill the disk."""

_LONG_LOG_BYTES: Final = 1 << 30
"""SQLite starts its log anew at a thousand pages (4 MB), unless somebody reads all the time."""

_LEVELS: Final = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
"""https://sqlite.org/pragma.html#pragma_synchronous"""

_OLDEST_POSTGRESQL: Final = 13


async def report(database: SqlDatabase) -> StoreReport:
    """Its version, and what endangers it.

    Raises:
        StoreUnavailable: it does not answer.
        Misconfigured: it cannot be used.
    """
    return await database.read("report", _look)


def _look(tx: Transaction) -> StoreReport:
    return _sqlite(tx) if tx.dialect == "sqlite" else _postgresql(tx)


def of_no_file_yet(path: Path) -> StoreReport:
    """Of a SQLite file that the first start will make."""
    details, dangers = _of_the_place(path)
    return StoreReport(
        "SQLite", sqlite3.sqlite_version, (f"{path.name} will be made at the first start", *details), dangers
    )


def _sqlite(tx: Transaction) -> StoreReport:
    def pragma(name: str) -> object:
        return tx.connection.execute(text(f"PRAGMA {name}")).scalar_one()

    (where,) = (row.file for row in tx.connection.execute(text("PRAGMA database_list")) if row.name == "main")
    path = Path(where)
    if pragma("application_id") != APPLICATION_ID:
        raise Misconfigured(path.name, "is another program's database")
    mode, level = str(pragma("journal_mode")), _LEVELS.get(int(str(pragma("synchronous"))), "unknown")
    details, dangers = _of_the_place(path)
    if mode != "wal":
        dangers += (Danger(f"journal mode {mode}: readers hold up the writer", "restart: a start sets wal"),)
    if level not in ("FULL", "EXTRA"):
        dangers += (Danger(f"synchronous {level}: a power cut loses what was acknowledged", "report this"),)
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size > _LONG_LOG_BYTES:
        dangers += (
            Danger("the write-ahead log has grown over 1 GiB", "end what reads the file, then restart"),
        )
    size = f"{path.stat().st_size / 2**20:.1f} MiB"
    return StoreReport(
        "SQLite",
        sqlite3.sqlite_version,
        (f"journal {mode}", f"synchronous {level}", size, *details),
        dangers,
    )


def _of_the_place(path: Path) -> tuple[tuple[str, ...], tuple[Danger, ...]]:
    folder = next(folder for folder in path.absolute().parents if folder.is_dir())
    kind, shared = file_system_of(folder)
    free = shutil.disk_usage(folder).free
    details = (f"file system {kind or 'unknown'}", f"{free / 2**30:.1f} GiB free")
    dangers: tuple[Danger, ...] = ()
    if shared:
        dangers += (
            Danger(
                f"a network file system ({kind}), where a start is refused",
                "a folder on a local disk, or a database server by DATABASE_URL",
            ),
        )
    if free < _LITTLE_DISK_BYTES:
        dangers += (Danger("less than 1 GiB is free: a full disk stops all writes", "make room"),)
    return details, dangers


def _postgresql(tx: Transaction) -> StoreReport:
    def setting(name: str) -> str:
        return str(tx.connection.execute(select(func.current_setting(name))).scalar_one())

    version = setting("server_version")
    values = {name: setting(name) for name in ("fsync", "full_page_writes", "synchronous_commit")}
    dangers: tuple[Danger, ...] = ()
    if int(setting("server_version_num")) // 10_000 < _OLDEST_POSTGRESQL:
        dangers += (Danger(f"older than {_OLDEST_POSTGRESQL}", "upgrade the server"),)
    for name, value in values.items():
        if value == "off":
            dangers += (Danger(f"{name} is off: a crash loses what was acknowledged", f"{name} = on"),)
    return StoreReport(
        "PostgreSQL",
        version.split(" ")[0],
        tuple(f"{name} {value}" for name, value in values.items()),
        dangers,
    )
