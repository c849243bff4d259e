"""The real SQL store on an SQLite in memory, called without threads, by the virtual clock."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool
from tests.simulation.process import Process
from tests.simulation.virtual_time import VirtualTimeLoop

from gooseherd.domain.errors import StoreUnavailable
from gooseherd.store.sql.database import SqlDatabase, Transaction, Work
from gooseherd.store.sql.migrations import bring_up_to_date

R = TypeVar("R")

START: Final = datetime(2026, 1, 5, tzinfo=UTC)
"""What time it is when the virtual clock begins."""


class MemoryDatabase(SqlDatabase):
    """One database for all processes of a simulation. `after_write` is called after each commit."""

    def __init__(self) -> None:
        self._engine = create_engine("sqlite://", poolclass=StaticPool, isolation_level=None)
        event.listen(self._engine, "connect", _own_transactions)
        # To SQLAlchemy it is one transaction without an end, which spares it half of its work. There is one
        # connection, so that a read needs no transaction to see one state.
        self._connection = self._engine.connect()
        self._driver: sqlite3.Connection | None = None
        self.after_write: Callable[[], None] = lambda: None

    async def prepare(self) -> None:
        """Make the tables."""
        await bring_up_to_date(self, "simulation")

    @property
    def driver(self) -> sqlite3.Connection:
        """For looks that need no statement of ours."""
        if self._driver is None:
            driver = self._connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            self._driver = driver
        return self._driver

    async def read(self, operation: str, work: Work[R]) -> R:
        return work(Transaction(self._connection, _now))

    async def write(self, operation: str, work: Work[R]) -> R:
        driver = self.driver
        driver.execute("BEGIN")
        try:
            result = work(Transaction(self._connection, _now))
        except BaseException:
            driver.execute("ROLLBACK")
            raise
        driver.execute("COMMIT")
        self.after_write()
        return result

    def unfinished(self) -> int:
        """How many jobs have not ended."""
        (count,) = self.driver.execute("SELECT count(*) FROM jobs WHERE active").fetchone()
        return int(count)

    def forget(self) -> None:
        """Empty every table."""
        names = [
            name for (name,) in self.driver.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        for name in names:
            if not name.startswith(("sqlite_", "file_words", "schema_versions")):
                self.driver.execute(f"DELETE FROM {name}")

    async def close(self) -> None:
        self.__exit__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._engine.dispose()


class ProcessDatabase(SqlDatabase):
    """The same as one process reaches it: calls take time, and may fail before or after their effect."""

    def __init__(self, shared: MemoryDatabase, process: Process, faults: StoreFaults) -> None:
        self._shared, self._process, self._faults = shared, process, faults

    async def read(self, operation: str, work: Work[R]) -> R:
        return await self._call(operation, lambda: self._shared.read(operation, work))

    async def write(self, operation: str, work: Work[R]) -> R:
        return await self._call(operation, lambda: self._shared.write(operation, work))

    async def _call(self, operation: str, call: Callable[[], Awaitable[R]]) -> R:
        async def effect() -> R:
            if self._faults.before():
                raise StoreUnavailable(operation)
            result = await call()
            if self._faults.after():
                raise StoreUnavailable(operation)
            return result

        return await self._process.call(effect)

    async def close(self) -> None:
        """The shared one stays."""


class StoreFaults:
    """Away for a time for everybody, or now and then for one call."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.away = False
        self.share = 0.0
        """Of calls that fail, half of them after their effect."""

    def before(self) -> bool:
        return self.away or self._fails()

    def after(self) -> bool:
        return self._fails()

    def _fails(self) -> bool:
        return self.share > 0 and self._chance.random() < self.share / 2


def virtual_now() -> datetime:
    """By the running loop's clock, whole milliseconds."""
    return START + timedelta(milliseconds=int(asyncio.get_running_loop().time() * 1000))


def _now(_: Connection) -> datetime:
    return virtual_now()


def _own_transactions(driver: sqlite3.Connection, _: object) -> None:
    driver.isolation_level = None
    driver.execute("PRAGMA foreign_keys = ON")


def on_virtual_time(play: Callable[[MemoryDatabase], Coroutine[Any, Any, R]]) -> R:
    """What `play` gives, on a store and an event loop of its own; nothing is logged meanwhile."""
    logging.disable(logging.CRITICAL)
    with MemoryDatabase() as database, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(database.prepare())
        return runner.run(play(database))
