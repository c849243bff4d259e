"""SQLite: one file on this machine, for any number of processes on it.

Writes go through one thread with one connection: SQLite has one writer at a time, and threads that
wait for a lock of their own process would only poll for it. Reads have threads and connections
of their own; in WAL mode they neither wait for the writer nor hold it up.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from gooseherd.blocking import in_executor
from gooseherd.domain.errors import Misconfigured, StoreUnavailable
from gooseherd.store.sql.columns import whole_milliseconds
from gooseherd.store.sql.database import Transaction, Work
from gooseherd.store.sql.filesystem import refuse_network_file_system
from gooseherd.store.sql.migrations import bring_up_to_date
from gooseherd.store.sql.pending import HintingCompiler
from gooseherd.store.sql.write_queue import WriteQueue

_log = logging.getLogger(__name__)

R = TypeVar("R")

READERS: Final = 3
"""Threads that read. Statements take well under a millisecond; a few long ones must not hold up the rest."""

BUSY_SECONDS: Final = 10.0
"""How long a write waits for another process's; theirs take milliseconds, an import's some ten."""

_PAUSE_SECONDS: Final = 0.001
"""Between two looks at a write lock that another process holds."""

APPLICATION_ID: Final = 0x676F6F73
"""`goos`, in the file's header: tells our file from another program's."""

_PRAGMAS: Final = (
    # Acknowledged means written through to the disk, as it does with the other stores.
    "synchronous = FULL",
    "foreign_keys = ON",
    "temp_store = MEMORY",
    # KiB: the upper levels of the indexes of a million entries.
    "cache_size = -32768",
)

_ENDED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
"""Extended codes begin with these; no retry heals them."""


_HELD_BY_ANOTHER: Final = "another process holds the store's write lock"


class _NotOurTurn(Exception):
    """To write."""


class SqliteDatabase:
    """The SqlDatabase port over a file. Make it with `open_sqlite`."""

    def __init__(self, path: Path, setting: str, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path, self._setting, self._busy_seconds = path, setting, busy_seconds
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._engine = create_engine("sqlite://", creator=self._connect, poolclass=NullPool)
        self._engine.dialect.statement_compiler = HintingCompiler
        event.listen(self._engine, "begin", self._begin)
        # Each thread keeps its connection: a pool's checks take longer than a statement.
        self._mine = threading.local()
        self._opened: list[Connection] = []
        self._queue = WriteQueue(path.with_name(f"{path.name}-writer"))
        self._closed = False

    async def read(self, operation: str, work: Work[R]) -> R:
        """One consistent view of the file."""
        return await self._call(operation, self._readers, lambda: self._transact(work, writes=False))

    async def write(self, operation: str, work: Work[R]) -> R:
        """All or nothing, synced."""
        return await self._call(operation, self._writer, lambda: self._transact(work, writes=True))

    async def close(self) -> None:
        """Close the file; the last process that does moves what is in the log into it."""
        self._closed = True
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        while self._opened:
            self._opened.pop().close()
        self._engine.dispose()
        self._queue.close()

    def _transact(self, work: Work[R], *, writes: bool) -> R:
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._engine.connect().execution_options(writes=writes)
            self._mine.connection = connection
            self._opened.append(connection)
            driver = connection.connection.driver_connection
            if writes and driver is not None:
                driver.execute("PRAGMA busy_timeout = 0")  # see _begin
        if not writes:
            with connection.begin():
                return work(Transaction(connection, _now))
        self._enter()
        try:
            with connection.begin():
                return work(Transaction(connection, _now))
        finally:
            self._queue.leave()

    def _enter(self) -> None:
        try:
            if not self._queue.enter(self._busy_seconds):
                raise _NotOurTurn(_HELD_BY_ANOTHER)
        except OSError as error:
            raise _NotOurTurn(f"the file of the write lock cannot be made ({error.strerror})") from error

    def _begin(self, connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert driver is not None
        if not connection.get_execution_options().get("writes"):
            driver.execute("BEGIN")
            return
        # IMMEDIATE: a transaction that read first could not begin to write once somebody else has written.
        # It is this process's turn, but other programs open the file too: a backup, a shell.
        began = time.monotonic()
        while True:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - began
                if not error.sqlite_errorname.startswith("SQLITE_BUSY") or waited > self._busy_seconds:
                    raise
                time.sleep(_PAUSE_SECONDS)
            else:
                return

    async def _call(self, operation: str, executor: ThreadPoolExecutor, call: Callable[[], R]) -> R:
        if self._closed:
            raise StoreUnavailable(operation)
        try:
            return await in_executor(executor, call)
        except _NotOurTurn as error:
            _log.warning(str(error), extra={"operation": operation})
            raise StoreUnavailable(operation) from error
        except DBAPIError as error:
            raise self._translated(operation, error.orig) from error
        except sqlite3.Error as error:  # when connecting
            raise self._translated(operation, error) from error

    def _translated(self, operation: str, error: BaseException | None) -> StoreUnavailable | Misconfigured:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if name.startswith(_ENDED):
            return Misconfigured(self._setting, f"{self._path.name} is damaged ({error}): restore a copy")
        extra = {"operation": operation, "error": name, "detail": str(error)}
        if name.startswith("SQLITE_BUSY"):
            _log.warning(_HELD_BY_ANOTHER, extra=extra)
        elif name == "SQLITE_FULL":
            _log.error("no space left for the store", extra=extra)
        else:
            _log.error("store failed", extra=extra)
        return StoreUnavailable(operation)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection


async def open_sqlite(path: Path, *, setting: str, busy_seconds: float = BUSY_SECONDS) -> SqliteDatabase:
    """The database in the file `path`, made or brought up to the present schema.

    Raises:
        Misconfigured: naming `setting`: the folder cannot be written, is on a network file system or
            cannot hold a write-ahead log; the file is damaged, another program's, or of a newer gooseherd.
        StoreUnavailable: the disk is full, or another process holds the lock.
    """
    await asyncio.to_thread(_prepare, path, setting)
    database = SqliteDatabase(path, setting, busy_seconds)
    try:
        await bring_up_to_date(database, setting)
    except BaseException:
        await database.close()
        raise
    return database


def _prepare(path: Path, setting: str) -> None:
    """Make sure that this is a place for a database, with an error that says what is wrong with it."""
    refuse_network_file_system(path.parent, setting)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(setting, f"the folder of {path.name} cannot be made ({error.strerror})") from None
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            _prepare_file(connection, path, setting)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise _unusable(error, path, setting) from error


def _prepare_file(connection: sqlite3.Connection, path: Path, setting: str) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and tables:
        raise Misconfigured(setting, f"{path.name} is another program's database")
    if _set_log(connection) != "wal":
        raise Misconfigured(setting, "the file system cannot hold a write-ahead log: choose a local folder")
    connection.execute("BEGIN IMMEDIATE")  # fails where nothing can be written
    if application != APPLICATION_ID:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("COMMIT")


def _set_log(connection: sqlite3.Connection) -> str:
    """The mode of the journal then. Of many processes that find an empty file one gets to write first.

    SQLite does not wait here by itself: who reads the header and then wants to write it, when somebody
    else does too, is told at once that the file is busy.
    """
    began = time.monotonic()
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorname.startswith("SQLITE_BUSY")
            if not busy or time.monotonic() - began > BUSY_SECONDS:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return str(mode)


def _unusable(error: sqlite3.Error, path: Path, setting: str) -> Misconfigured | StoreUnavailable:
    name = error.sqlite_errorname
    if name.startswith(_ENDED):
        return Misconfigured(setting, f"{path.name} is no SQLite database, or a damaged one: move it away")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        return Misconfigured(setting, f"{path.name} and its folder must be writable ({error})")
    _log.error("store cannot be opened", extra={"error": name, "detail": str(error)})
    return StoreUnavailable("open")


def _now(connection: Any) -> datetime:
    """This machine's clock: all processes that share the file have the same."""
    return whole_milliseconds(datetime.now(UTC))
