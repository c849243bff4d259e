"""What was used, in MongoDB: the UsageStore port.

A write changes one document, so the end of an attempt notes in the job itself what the attempt used and
that it is to be counted (`usage_due`). Whoever reads or writes usage counts first: the rows have names, so
that one that was written by a process that died before it took the note back is the same row again.
Retention leaves a job alone as long as it bears the note; MongoDB's own expiry comes a day later at least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from gooseherd.domain.job import JobId, Requester, WorkerId
from gooseherd.domain.source import Dcc
from gooseherd.domain.usage import AMOUNTS, Amounts, UsageKind, UsageQuery, UsageRow, UsageSum, work_rows
from gooseherd.domain.worker_size import Capacity, LaunchPurpose
from gooseherd.store.mongo.clock import StoreClock
from gooseherd.store.mongo.connect import Database, Document, durable, store_operation
from gooseherd.store.mongo.documents import to_job
from gooseherd.store.mongo.schema import JOBS, USAGE

_AT_ONCE: Final = 500
_DUPLICATE_KEY: Final = 11000
_GROUPED: Final = ("kind", "day", "requester", "dcc", "capacity", "purpose")


def sums_of(wanted: Document, *, by_job: bool) -> list[Document]:
    """The pipeline that adds the amounts of those rows up."""
    names = [*_GROUPED, "job_id"] if by_job else [*_GROUPED]
    group: Document = {"_id": {name: f"${name}" for name in names}}
    return [{"$match": wanted}, {"$group": group | {name: {"$sum": f"${name}"} for name in AMOUNTS}}]


class MongoUsage:
    """The UsageStore port over MongoDB and what speaks its protocol."""

    def __init__(self, db: Database, *, clock: StoreClock | None = None) -> None:
        self._jobs = durable(db, JOBS)
        self._usage = durable(db, USAGE)
        self._clock = clock or StoreClock(db)

    @store_operation
    async def record(self, rows: Sequence[UsageRow]) -> None:
        """Store rows whose amounts only grow."""
        await self._count_due()
        await self._record(rows)

    @store_operation
    async def open_workers(self, since: date) -> Sequence[WorkerId]:
        """Workers that are not known to have ended."""
        its = {"open": True, "day": {"$gte": since.isoformat()}}
        found = await self._usage.find(its, projection={"worker_id": 1}).to_list()
        return sorted({WorkerId(document["worker_id"]) for document in found})

    @store_operation
    async def sums(self, query: UsageQuery, *, by_job: bool = False) -> Sequence[UsageSum]:
        """Rows of some days, summed up."""
        await self._count_due()
        wanted: Document = {"day": {"$gte": query.first.isoformat(), "$lte": query.last.isoformat()}}
        if query.requester is not None:
            wanted["requester"] = query.requester
        if query.dcc is not None:
            wanted["dcc"] = query.dcc
        if query.requester is not None or query.dcc is not None:
            wanted["kind"] = {"$in": [UsageKind.WORK.value, UsageKind.SERVED.value]}
        cursor = await self._usage.aggregate(sums_of(wanted, by_job=by_job))
        return sorted([_sum(document) async for document in cursor], key=_order)

    @store_operation
    async def now(self) -> datetime:
        """The store's clock."""
        return await self._clock.now()

    @store_operation
    async def forget(self, before: date, limit: int) -> int:
        """The oldest first."""
        old = {"day": {"$lt": before.isoformat()}}
        found = self._usage.find(old, projection={"_id": 1}, sort=[("day", 1), ("_id", 1)], limit=limit)
        ids = [document["_id"] for document in await found.to_list()]
        if not ids:
            return 0
        return (await self._usage.delete_many({"_id": {"$in": ids}})).deleted_count

    async def _count_due(self) -> None:
        """Store what attempts used that have ended since; any number of processes at once may do so."""
        while documents := await self._jobs.find({"usage_due": True}, limit=_AT_ONCE).to_list():
            jobs = [to_job(document) for document in documents]
            await self._record([row for job in jobs for row in work_rows(job)])
            # Not of a job whose next attempt has ended meanwhile.
            counted = [
                UpdateOne(
                    {"_id": job.job_id, "attempt": job.attempt, "status": job.status.value},
                    {"$unset": {"usage_due": ""}},
                )
                for job in jobs
            ]
            await self._jobs.bulk_write(counted, ordered=False)

    async def _record(self, rows: Sequence[UsageRow]) -> None:
        ordered = sorted(rows, key=lambda row: row.row_id)
        for start in range(0, len(ordered), _AT_ONCE):
            some = ordered[start : start + _AT_ONCE]
            # When a worker ended is known exactly; until then it was only seen, a little later perhaps.
            ended = [_closing(row) for row in some if row.kind is UsageKind.WORKER and not row.open]
            if ended:
                await self._usage.bulk_write(ended, ordered=False)
            await self._grow(some)

    async def _grow(self, rows: Sequence[UsageRow]) -> None:
        for last in (False, False, True):
            try:
                await self._usage.bulk_write([_growing(row) for row in rows], ordered=False)
                return
            except BulkWriteError as error:
                refused = error.details.get("writeErrors") or []
                if not refused or any(item["code"] != _DUPLICATE_KEY for item in refused):
                    raise
                # Two upserts of one name may both decide to insert; the loser grows it, the next time.
                rows = [rows[item["index"]] for item in refused]
                if last and not all(row.open for row in rows):
                    raise
        # Those that are open found a row that is not: their workers have ended.


def _closing(row: UsageRow) -> UpdateOne:
    return UpdateOne(
        {"_id": row.row_id, "open": True},
        {"$set": {"open": False, **{name: getattr(row.amounts, name) for name in AMOUNTS}}},
    )


def _growing(row: UsageRow) -> UpdateOne:
    update: Document = {
        "$setOnInsert": {
            "kind": row.kind.value,
            "day": row.day.isoformat(),
            "requester": row.requester,
            "dcc": row.dcc,
            "capacity": row.capacity.value,
            "purpose": row.purpose.value,
            "job_id": row.job_id,
            "worker_id": row.worker_id,
            # Else it is what the filter asks for.
            **({} if row.open else {"open": False}),
        },
        "$max": {name: getattr(row.amounts, name) for name in AMOUNTS},
    }
    return UpdateOne({"_id": row.row_id, **({"open": True} if row.open else {})}, update, upsert=True)


def _sum(document: Mapping[str, Any]) -> UsageSum:
    names = document["_id"]
    job_id = names.get("job_id")
    return UsageSum(
        UsageKind(names["kind"]),
        date.fromisoformat(names["day"]),
        Requester(names["requester"]),
        Dcc(names["dcc"]),
        Capacity(names["capacity"]),
        LaunchPurpose(names["purpose"]),
        None if job_id is None else JobId(job_id),
        Amounts(*(int(document[name]) for name in AMOUNTS)),
    )


def _order(one: UsageSum) -> tuple[Any, ...]:
    return (
        one.kind, one.day, one.requester, one.dcc, one.capacity, one.purpose, one.job_id or "",
    )  # fmt: skip
