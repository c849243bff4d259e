"""The store that the environment asks for: a file of the state folder, or what DATABASE_URL names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.ports.access import AccessTimes
from gooseherd.domain.ports.batches import BatchStore
from gooseherd.domain.ports.keys import KeyStore
from gooseherd.domain.ports.reservations import ReservationStore
from gooseherd.domain.ports.store import FileStore, JobStore
from gooseherd.domain.ports.usage import UsageStore
from gooseherd.settings import Settings
from gooseherd.store.report import StoreReport, url_dangers
from gooseherd.wiring.embedded_state import take_over

if TYPE_CHECKING:
    from gooseherd.store.sql.database import SqlDatabase

_SQL: Final = ("sqlite", "postgresql", "postgres")
_MONGO: Final = ("mongodb", "mongodb+srv")


@dataclass(frozen=True, slots=True)
class Store:
    """An open store."""

    jobs: JobStore
    files: FileStore
    reservations: ReservationStore
    batches: BatchStore
    access: AccessTimes
    keys: KeyStore
    usage: UsageStore
    ping: Callable[[], Awaitable[None]]
    """Raises StoreUnavailable when the store does not answer."""


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """The store, with its schema or indexes made, for as long as the block lasts.

    The default one has taken over the catalog of an earlier version's state folder.

    Raises:
        Misconfigured: naming the variable.
        StoreUnavailable: the store does not answer.
    """
    # Each driver is for those who use it: none is imported before.
    async with AsyncExitStack() as stack:
        if _scheme(settings) in _MONGO:
            from gooseherd.store.mongo import connect, jobs, schema
            from gooseherd.store.mongo.access import MongoAccessTimes
            from gooseherd.store.mongo.batches import MongoBatches
            from gooseherd.store.mongo.clock import StoreClock
            from gooseherd.store.mongo.files import MongoFiles
            from gooseherd.store.mongo.keys import MongoKeys
            from gooseherd.store.mongo.reservations import MongoReservations
            from gooseherd.store.mongo.usage import MongoUsage

            mongo = connect.connect(settings.database_url or "", settings.database_name)
            stack.push_async_callback(mongo.client.close)
            await schema.ensure_indexes(mongo)
            await schema.rank_older_jobs(mongo)
            clock = StoreClock(mongo)
            yield Store(
                jobs.MongoJobs(mongo, clock=clock, keep_ended=_keep_ended(settings)),
                MongoFiles(mongo),
                MongoReservations(mongo, clock=clock),
                MongoBatches(mongo, clock=clock),
                MongoAccessTimes(mongo, clock=clock),
                MongoKeys(mongo, clock=clock),
                MongoUsage(mongo, clock=clock),
                lambda: connect.ping(mongo),
            )
        else:
            from gooseherd.store.sql.access import SqlAccessTimes
            from gooseherd.store.sql.batches import SqlBatches
            from gooseherd.store.sql.database import ping
            from gooseherd.store.sql.files import SqlFiles
            from gooseherd.store.sql.jobs import SqlJobs
            from gooseherd.store.sql.keys import SqlKeys
            from gooseherd.store.sql.reservations import SqlReservations
            from gooseherd.store.sql.usage import SqlUsage

            sql = await _open_sql(settings)
            stack.push_async_callback(sql.close)
            files = SqlFiles(sql)
            if settings.database_url is None:
                await take_over(settings.gooseherd_state_dir / "documents", settings.database_name, files)
            yield Store(
                SqlJobs(sql),
                files,
                SqlReservations(sql),
                SqlBatches(sql),
                SqlAccessTimes(sql),
                SqlKeys(sql),
                SqlUsage(sql),
                lambda: ping(sql),
            )


async def _open_sql(settings: Settings) -> SqlDatabase:
    if settings.database_url is None:
        from gooseherd.store.sql.sqlite import open_sqlite

        return await open_sqlite(settings.default_database, setting="GOOSEHERD_STATE_DIR")
    from gooseherd.store.sql.connect import open_database

    return await open_database(settings.database_url, settings.database_name)


def sqlite_file(settings: Settings) -> Path | None:
    """The file that is the store, whether it is there yet or not; None: the store is a server's.

    Raises:
        Misconfigured: DATABASE_URL cannot be used.
    """
    if settings.database_url is None:
        return settings.default_database
    if _scheme(settings) != "sqlite":
        return None
    from gooseherd.store.sql.connect import sqlite_path

    return sqlite_path(settings.database_url)


async def examine_store(settings: Settings) -> StoreReport:
    """Which store it is and what endangers it. Makes neither a file nor a schema nor indexes.

    Raises:
        Misconfigured: naming the variable.
        StoreUnavailable: the store does not answer.
    """
    found = await _reported(settings)
    return replace(found, dangers=(*url_dangers(settings.database_url or ""), *found.dangers))


async def _reported(settings: Settings) -> StoreReport:
    if _scheme(settings) in _MONGO:
        from gooseherd.store.mongo.connect import connect
        from gooseherd.store.mongo.report import report as report_mongo

        mongo = connect(settings.database_url or "", settings.database_name)
        try:
            return await report_mongo(mongo)
        finally:
            await mongo.client.close()
    from gooseherd.store.sql.report import of_no_file_yet, report

    file = sqlite_file(settings)
    sql: SqlDatabase
    if file is None:
        from gooseherd.store.sql.postgres import connect_postgres

        sql = connect_postgres(settings.database_url or "", settings.database_name)
    elif not file.exists():
        return of_no_file_yet(file)
    else:
        from gooseherd.store.sql.sqlite import SqliteDatabase

        setting = "GOOSEHERD_STATE_DIR" if settings.database_url is None else "DATABASE_URL"
        sql = SqliteDatabase(file, setting)
    try:
        return await report(sql)
    finally:
        await sql.close()


def _scheme(settings: Settings) -> str:
    """Of the URL. Raises Misconfigured for one that is none of ours."""
    scheme = "sqlite" if settings.database_url is None else settings.database_url.partition(":")[0]
    if scheme not in _SQL + _MONGO:
        raise Misconfigured(
            "DATABASE_URL", "must begin with sqlite:///, postgresql://, mongodb:// or mongodb+srv://"
        )
    return scheme


def _keep_ended(settings: Settings) -> timedelta | None:
    seconds = settings.workflow_keep_ended_seconds
    return timedelta(seconds=seconds) if seconds else None
