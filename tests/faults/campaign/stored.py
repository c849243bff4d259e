"""What the store has, read behind the services' back: the same rows of SQL and of MongoDB."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

from sqlalchemy import Select, func, insert, select
from tests.faults.campaign.deployment import DATABASE

from gooseherd.domain.job import Submission
from gooseherd.domain.queueing import Priority
from gooseherd.domain.reservation import Reservation
from gooseherd.domain.states import Status
from gooseherd.store.mongo import documents
from gooseherd.store.mongo import schema as collections
from gooseherd.store.mongo.clock import StoreClock
from gooseherd.store.mongo.connect import Database, connect, translated
from gooseherd.store.reservation_details import reservation_from
from gooseherd.store.sql import rows, schema
from gooseherd.store.sql.connect import open_database
from gooseherd.store.sql.database import SqlDatabase
from gooseherd.store.sql.jobs import SqlJobs

Row = Mapping[str, Any]
R = TypeVar("R")

_AT_WORK: Final = (Status.RUNNING.value, Status.FINALIZING.value)
_AGE: Final = timedelta(days=400)


def jobs(url: str) -> list[Row]:
    """All jobs, oldest first."""
    if _is_mongo(url):
        return [_job(document) for document in _documents(url, collections.JOBS, sort=["created_at", "_id"])]
    return _rows(url, select(schema.jobs).order_by(schema.jobs.c.created_at, schema.jobs.c.id))


def _job(document: Row) -> Row:
    lease = document["lease"] or {}
    return {
        **document,
        "id": document["_id"],
        "local_id": document["source"]["local_id"],
        "lease_owner": lease.get("owner"),
        "priority": Priority(document["priority"]),
    }


def batches(url: str) -> list[Row]:
    """All batches that a client can have been told of."""
    if _is_mongo(url):
        found = _documents(url, collections.BATCHES, {"complete": True})
        return [{**document, "id": document["_id"]} for document in found]
    return _rows(url, select(schema.batches))


def batch_members(url: str) -> list[Row]:
    """All files of all batches."""
    return (
        _documents(url, collections.BATCH_MEMBERS)
        if _is_mongo(url)
        else _rows(url, select(schema.batch_members))
    )


def reservations(url: str) -> list[Reservation]:
    """Sessions and the slots of the warm floor, those that ended, too."""
    if _is_mongo(url):
        found = _documents(url, collections.RESERVATIONS, sort=["created_at"])
        return [reservation_from({**document, "id": document["_id"]}) for document in found]
    wanted = select(schema.reservations).order_by(schema.reservations.c.created_at)
    return [reservation_from(row) for row in _rows(url, wanted)]


def live_owners(url: str) -> list[Row]:
    """Purpose and owner of each live reservation, as they are at one moment."""
    if _is_mongo(url):
        return _documents(url, collections.RESERVATIONS, {"live": True})
    table = schema.reservations
    return _rows(url, select(table.c.purpose, table.c.owner).where(table.c.live))


def running(url: str) -> Mapping[str, int]:
    """Jobs at work outside of sessions by requester, as they are at one moment."""
    if _is_mongo(url):
        wanted = {"status": {"$in": list(_AT_WORK)}, "session_id": None}
        return Counter(document["queued_for"] for document in _documents(url, collections.JOBS, wanted))
    table = schema.jobs
    at_work = (
        select(table.c.queued_for, func.count().label("running"))
        .where(table.c.status.in_(_AT_WORK), table.c.session_id.is_(None))
        .group_by(table.c.queued_for)
    )
    return {row["queued_for"]: row["running"] for row in _rows(url, at_work)}


def add_ended(url: str, submissions: Sequence[Submission]) -> None:
    """Put those in as jobs that were cancelled more than a year ago."""
    ended = {"active": False, "status": "cancelled", "reason": "cancelled"}
    if _is_mongo(url):

        async def add_documents(database: Database) -> None:
            then = await StoreClock(database).now() - _AGE
            made = [documents.new_job(wanted, then, 0) for wanted in submissions]
            await database[collections.JOBS].insert_many(
                [{**job, **ended, "finished_at": then, "expires_at": None} for job in made]
            )

        _in_mongo(url, add_documents)
        return

    async def add_rows(database: SqlDatabase) -> None:
        then = await SqlJobs(database).now() - _AGE
        made = [{**rows.new_job(wanted, then, 0), **ended, "finished_at": then} for wanted in submissions]
        await database.write("plant", lambda tx: tx.connection.execute(insert(schema.jobs), made).close())

    _in_sql(url, add_rows)


def _rows(url: str, wanted: Select[Any]) -> list[Row]:
    async def read(database: SqlDatabase) -> list[Row]:
        found = await database.read("campaign", lambda tx: tx.connection.execute(wanted).mappings().all())
        return [dict(row) for row in found]

    return _in_sql(url, read)


def _documents(url: str, collection: str, wanted: Row | None = None, sort: Sequence[str] = ()) -> list[Row]:
    async def read(database: Database) -> list[Row]:
        # Else those that change meanwhile are seen twice, or not at all.
        async with database.client.start_session(snapshot=True) as session:
            found = database[collection].find(wanted or {}, session=session)
            return [*await (found.sort([(name, 1) for name in sort]) if sort else found).to_list()]

    return _in_mongo(url, read)


def _in_sql(url: str, work: Callable[[SqlDatabase], Awaitable[R]]) -> R:
    async def run() -> R:
        database = await open_database(url, DATABASE)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def _in_mongo(url: str, work: Callable[[Database], Awaitable[R]]) -> R:
    async def run() -> R:
        database = connect(url, DATABASE)
        try:
            with translated("campaign"):
                return await work(database)
        finally:
            await database.client.close()

    return asyncio.run(run())


def _is_mongo(url: str) -> bool:
    return url.startswith("mongodb")
