"""What the statements run on: transactions, whatever the database, called from the event loop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, literal, select

P = ParamSpec("P")
R = TypeVar("R")


class Transaction:
    """A transaction under way, and the time by the store's clock, which is read once if at all."""

    def __init__(self, connection: Connection, clock: Callable[[Connection], datetime]) -> None:
        self.connection = connection
        self._clock = clock
        self._now: datetime | None = None

    @property
    def now(self) -> datetime:
        """UTC, whole milliseconds."""
        if self._now is None:
            self._now = self._clock(self.connection)
        return self._now

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.connection.dialect.name


Work = Callable[[Transaction], R]
"""Statements and what they mean. It must not keep the transaction, and may be called again from the start."""


class SqlDatabase(Protocol):
    """A database with the tables of schema.py.

    Both calls raise StoreUnavailable(operation) when the database does not answer, and
    Misconfigured when no retry heals it. A caller that is cancelled gets the cancellation when the
    call is over. What `work` raises undoes the transaction.
    """

    async def read(self, operation: str, work: Work[R]) -> R:
        """Nothing is written. Each statement sees what was committed before it."""
        ...

    async def write(self, operation: str, work: Work[R]) -> R:
        """All of it durable when this returns; after StoreUnavailable all of it or nothing, unknown which."""
        ...

    async def close(self) -> None:
        """Free connections; idempotent."""
        ...


class Stored:
    """Whatever keeps its state in a database."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database


S = TypeVar("S", bound=Stored)


def reading(
    function: Callable[Concatenate[S, Transaction, P], R],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Make a method that reads in a transaction one that awaits it, under its own name."""

    @functools.wraps(function)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._database.read(
            function.__name__, lambda transaction: function(self, transaction, *args, **kwargs)
        )

    return call


def writing(
    function: Callable[Concatenate[S, Transaction, P], R],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """The same for a method that writes."""

    @functools.wraps(function)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._database.write(
            function.__name__, lambda transaction: function(self, transaction, *args, **kwargs)
        )

    return call


async def ping(database: SqlDatabase) -> None:
    """Raises StoreUnavailable when the store does not answer."""
    await database.read("ping", lambda transaction: transaction.connection.scalar(select(literal(1))))
