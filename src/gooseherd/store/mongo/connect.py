"""The one way to MongoDB: how it is connected, and its failures translated into domain errors."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit

from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
)

from gooseherd.domain.errors import Misconfigured, StoreUnavailable
from gooseherd.domain.ports.store import StoreRefused

_log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

Document: TypeAlias = dict[str, Any]
Database: TypeAlias = AsyncDatabase[Document]
Collection: TypeAlias = AsyncCollection[Document]

CODEC: Final[CodecOptions[Document]] = CodecOptions(tz_aware=True, tzinfo=UTC)

_DEFAULTS: Final[Mapping[str, Any]] = {
    "w": "majority",
    "journal": True,
    # One election of a replica set takes up to 12 s (electionTimeoutMillis 10 s and the vote), but a
    # request must not hang that long: callers retry, and readiness says what is missing.
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 5_000,
    "socketTimeoutMS": 20_000,
    "maxPoolSize": 32,
    "appname": "gooseherd",
}
"""What holds unless the URL says otherwise; `retryWrites` is left to the URL, DocumentDB wants it false."""

_REFUSED = frozenset({13, 18, 8000})
"""Unauthorized, AuthenticationFailed, AtlasError (its authentication failure)."""


def connect(url: str, name: str) -> Database:
    """The database `name` at `url`, for durable writes and UTC times. Connects on first use.

    Options in the URL win over ours. Close it with `await db.client.close()`.

    Raises:
        Misconfigured: the URL cannot be used; the message repeats none of it, it may hold a password.
    """
    if not url.startswith(("mongodb://", "mongodb+srv://")):
        raise Misconfigured("DATABASE_URL", "must begin with mongodb:// or mongodb+srv://")
    given = {key.lower() for key, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}
    options = {key: value for key, value in _DEFAULTS.items() if key.lower() not in given}
    try:
        client: AsyncMongoClient[Document] = AsyncMongoClient(url, tz_aware=True, tzinfo=UTC, **options)
    except (ConfigurationError, ValueError, TypeError) as error:
        raise Misconfigured("DATABASE_URL", f"not a MongoDB URL ({type(error).__name__})") from None
    return client[name]


def durable(db: Database, name: str) -> Collection:
    """A collection whose writes are acknowledged only when they survive, whatever `db` was made with."""
    return db.get_collection(name, codec_options=CODEC, write_concern=WriteConcern(w="majority", j=True))


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Let no driver error out: StoreUnavailable(operation), or StoreRefused.

    Callers handle DuplicateKeyError inside, where it means something.
    """
    try:
        yield
    except OperationFailure as error:
        if error.code in _REFUSED:
            raise StoreRefused("DATABASE_URL", "MongoDB refuses the credentials") from error
        if not isinstance(error, ExecutionTimeout):
            _log.error("store refused", extra={"operation": operation, "code": error.code})
        raise StoreUnavailable(operation) from error
    except ConnectionFailure as error:
        _log.warning("store away", extra={"operation": operation, "error": type(error).__name__})
        raise StoreUnavailable(operation) from error
    except PyMongoError as error:
        _log.error("store failed", extra={"operation": operation, "error": type(error).__name__})
        raise StoreUnavailable(operation) from error


def store_operation(
    function: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """`translated`, for a whole coroutine function, under its own name; a cancellation is never lost in it.

    The driver waits with asyncio.wait_for, which in Python 3.11 drops a cancellation that
    meets the answer: one in five of those that came during a call, when it was measured.
    A loop that is cancelled would then go on for ever.
    """

    @functools.wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _cancellation_kept(), translated(function.__name__):
            return await function(*args, **kwargs)

    return call


@contextmanager
def _cancellation_kept() -> Iterator[None]:
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        yield
    except Exception as error:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError from error
        raise
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError


@store_operation
async def ping(db: Database) -> None:
    """Raises StoreUnavailable when the store does not answer."""
    await db.client.admin.command("ping")


@store_operation
async def server_pid(db: Database) -> int | None:
    """The process id the server gives for itself, if it does: tells one local server from another."""
    status = await db.client.admin.command("serverStatus")
    pid = status.get("pid")
    return int(pid) if pid is not None else None
