"""PostgreSQL: a pool of connections, and its failures in the domain's words."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

import asyncpg
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gooseherd.domain.errors import Misconfigured, StoreUnavailable
from gooseherd.domain.ports.store import StoreRefused
from gooseherd.store.sql.columns import whole_milliseconds
from gooseherd.store.sql.database import Transaction, Work
from gooseherd.store.sql.migrations import bring_up_to_date

_log = logging.getLogger(__name__)

R = TypeVar("R")

SETTING: Final = "DATABASE_URL"

POOL_SIZE: Final = 16
"""Connections per process at most; a server takes 100 unless told otherwise."""

CONNECT_SECONDS: Final = 5.0
"""A request must not hang for a whole failover: callers retry, and readiness says what is missing."""

COMMAND_SECONDS: Final = 20.0
"""One statement, waiting for locks included; ours take milliseconds. Not of schema steps."""

_PLANNING: Final = "SET enable_bitmapscan = off"
"""Ours read an index in its order, as far as a page goes; a bitmap reads all that matches first."""

_CLOCK: Final = select(func.clock_timestamp())

_TRIES: Final = 3
"""Transactions that certainly came to nothing are tried so often before the caller hears of it."""

_REFUSED: Final = frozenset({"28000", "28P01", "42501"})
"""Invalid authorization, invalid password, insufficient privilege."""
_NO_DATABASE: Final = "3D000"

_AGAIN: Final = frozenset({"40001", "40P01"})
"""Serialization failure, deadlock: rolled back by the server."""

_STANDBY: Final = "25006"
"""Read-only transaction: the server that was the primary is none any more."""

_FULL: Final = "53100"

_AWAY: Final = (OSError, TimeoutError, PoolTimeout, asyncpg.InterfaceError, asyncpg.InternalClientError)


class PostgresDatabase:
    """The SqlDatabase port over PostgreSQL 13 and later. Make it with `open_postgres`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # A statement is a consistent view. Those that read before theirs ask for the time or for counts.
        self._reads = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def read(self, operation: str, work: Work[R]) -> R:
        """Repeated when the connection turns out to be gone: nothing was changed."""
        return await self._call(operation, self._reads, work)

    async def write(self, operation: str, work: Work[R]) -> R:
        """Repeated when it certainly came to nothing: until the commit was sent."""
        return await self._call(operation, self._engine, work)

    async def close(self) -> None:
        """Close the pool."""
        await self._engine.dispose()

    async def _call(self, operation: str, engine: AsyncEngine, work: Work[R]) -> R:
        return await _to_its_end(self._tried(operation, engine, work))

    async def _tried(self, operation: str, engine: AsyncEngine, work: Work[R]) -> R:
        for last in (*[False] * (_TRIES - 1), True):
            attempt = _Attempt()
            try:
                return await attempt.run(engine, work)
            except (DBAPIError, asyncpg.PostgresError, *_AWAY) as error:
                cause = _cause(error)
                if _code(cause) == _STANDBY:
                    await self._engine.dispose()  # The next connection looks for the primary.
                if last or not (attempt.undone and _may_pass(cause)):
                    raise _translated(operation, cause) from error
        raise AssertionError("not reached")


class _Attempt:
    """One try of a transaction, and whether it has certainly changed nothing."""

    def __init__(self) -> None:
        self.undone = True

    async def run(self, engine: AsyncEngine, work: Work[R]) -> R:
        async with engine.connect() as connection:
            transaction = await connection.begin()
            result = await connection.run_sync(functools.partial(_work, work))
            self.undone = False
            await transaction.commit()
            return result


def _work(work: Work[R], connection: Connection) -> R:
    return work(Transaction(connection, _now))


def _now(connection: Connection) -> Any:
    return whole_milliseconds(connection.execute(_CLOCK).scalar_one())


async def _to_its_end(call: Coroutine[Any, Any, R]) -> R:
    """The call's result; a cancellation is delivered when the call is over.

    Its time is bounded, and a connection is not torn down in the middle of a statement.
    """
    work = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # Nobody will ask for it.
        raise


def _cause(error: BaseException) -> BaseException:
    """The driver's error."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def _code(error: BaseException) -> str | None:
    """The server's SQLSTATE, if it is the server that speaks."""
    code = getattr(error, "sqlstate", None)
    return code if isinstance(code, str) else None


def _may_pass(error: BaseException) -> bool:
    """Whether the same transaction may work at once: it lost a race, or its connection was an old one."""
    code = _code(error)
    if code is not None:
        return code in _AGAIN or code == _STANDBY or code.startswith(("08", "57P"))
    return isinstance(error, (asyncpg.InterfaceError, ConnectionError))


def _translated(operation: str, error: BaseException) -> StoreUnavailable | Misconfigured:
    code = _code(error)
    if code in _REFUSED:
        return StoreRefused(SETTING, f"PostgreSQL refuses: {error}")
    if code == _NO_DATABASE:
        return Misconfigured(SETTING, f"PostgreSQL refuses: {error}")
    extra = {"operation": operation, "error": type(error).__name__, "code": code}
    if code == _FULL:
        _log.error("no space left for the store", extra=extra)
    elif code is None or code.startswith(("08", "57P", "53")) or code == _STANDBY:
        _log.warning("store away", extra=extra)
    else:
        _log.error("store failed", extra={**extra, "detail": str(error)})
    return StoreUnavailable(operation)


def connector(
    url: str, name: str, command_seconds: float | None
) -> Callable[[], Coroutine[Any, Any, asyncpg.Connection[Any]]]:
    """What connects to the database at `url`; `name` is its database when the URL names none.

    The URL is libpq's: several hosts, sslmode, passfile and target_session_attrs work as there.

    Raises:
        Misconfigured: the URL cannot be used; the message repeats none of it, it may hold a password.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise Misconfigured(SETTING, "must begin with postgresql://")
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        raise Misconfigured(SETTING, "not a PostgreSQL URL") from None
    chosen: dict[str, Any] = {"timeout": CONNECT_SECONDS, "command_timeout": command_seconds}
    if not parts.path.strip("/") and not {"dbname", "database"} & set(options):
        chosen["database"] = name
    if "target_session_attrs" not in options:
        chosen["target_session_attrs"] = "read-write"
    if "application_name" not in options:
        chosen["server_settings"] = {"application_name": "gooseherd"}

    async def connect() -> asyncpg.Connection[Any]:
        try:
            connection = await asyncpg.connect(url, **chosen)
        except (ValueError, TypeError, asyncpg.ClientConfigurationError) as error:
            raise Misconfigured(SETTING, f"not a PostgreSQL URL ({type(error).__name__})") from None
        try:
            await connection.execute(_PLANNING)
        except BaseException:
            connection.terminate()
            raise
        return connection

    return connect


def connect_postgres(url: str, name: str) -> PostgresDatabase:
    """The database at `url`, whatever is in it. Connects on first use.

    Raises:
        Misconfigured: the URL cannot be used.
    """
    return _connect(url, name, COMMAND_SECONDS, POOL_SIZE)


def _connect(url: str, name: str, command_seconds: float | None, connections: int) -> PostgresDatabase:
    """`command_seconds` of None: statements take as long as they take.

    Raises:
        Misconfigured: the URL cannot be used.
    """
    return PostgresDatabase(
        create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connector(url, name, command_seconds),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=CONNECT_SECONDS,
            isolation_level="READ COMMITTED",
        )
    )


async def open_postgres(url: str, name: str) -> PostgresDatabase:
    """The database at `url`, brought up to the present schema.

    Raises:
        Misconfigured: the URL or the credentials cannot be used, or the database is another
            program's or of a newer gooseherd.
        StoreUnavailable: again later.
    """
    migrating = _connect(url, name, None, 1)
    try:
        await bring_up_to_date(migrating, SETTING)
    finally:
        await migrating.close()
    return connect_postgres(url, name)
