"""What can be asked about jobs without changing them. Reads go to the primary: they decide writes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from gooseherd.domain.job import Job, JobId, Owner, Requester, WorkerId
from gooseherd.domain.keys import WorkflowKey
from gooseherd.domain.ports.store import JobPage, JobQuery
from gooseherd.domain.queueing import Priority
from gooseherd.domain.states import ACTIVE, Status
from gooseherd.domain.waiting import QueueDepth, Start
from gooseherd.store.edges import LEASED
from gooseherd.store.mongo.bookmarks import bookmark, read_bookmark
from gooseherd.store.mongo.clock import StoreClock
from gooseherd.store.mongo.connect import Database, Document, durable, store_operation
from gooseherd.store.mongo.documents import only_visible, to_job
from gooseherd.store.mongo.schema import JOBS
from gooseherd.store.mongo.turns import Turns

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def any_of(statuses: frozenset[Status]) -> Document:
    """A filter's value: one of these."""
    return {"$in": sorted(status.value for status in statuses)}


_ANY_PRIORITY: Final[Document] = {"$in": sorted(int(priority) for priority in Priority)}
_PENDING: Final[Document] = {"status": Status.PENDING.value}
QUEUE_DEPTH: Final[list[Document]] = [
    {"$match": _PENDING},
    {"$group": {"_id": {"queued_for": "$queued_for", "priority": "$priority"}, "count": {"$sum": 1}}},
]
"""Pipeline: pending jobs by whose turn they take and by priority."""
ACTIVE_COUNTS: Final[list[Document]] = [
    {"$match": {"status": any_of(ACTIVE)}},
    {"$group": {"_id": "$status", "count": {"$sum": 1}}},
]
"""Pipeline: active jobs by status."""


class JobReads:
    """The reading half of the JobStore port.

    Every filter begins with an equality that an index has, and the index has the order, too
    (tests/contract/test_mongo_plans.py).
    """

    def __init__(
        self,
        db: Database,
        *,
        clock: StoreClock | None = None,
        keep_ended: timedelta | None = None,
    ) -> None:
        """`keep_ended`: how long jobs stay after their end; None: for ever."""
        self._keep_ended = keep_ended
        self._jobs = durable(db, JOBS)
        self._turns = Turns(db)
        self._clock = clock or StoreClock(db)

    @store_operation
    async def now(self) -> datetime:
        """The store's clock, UTC, whole milliseconds."""
        return await self._clock.now()

    @store_operation
    async def get(self, job_id: JobId) -> Job | None:
        """The job, or None."""
        document = await self._jobs.find_one({"_id": job_id})
        return to_job(document) if document else None

    @store_operation
    async def latest(self, key: WorkflowKey) -> Job | None:
        """The newest job of that key; of two from the same millisecond the active one."""
        found = self._jobs.find(
            {"workflow_key": key}, sort=[("created_at", -1), ("active", -1), ("_id", -1)], limit=1
        )
        return next((to_job(document) for document in await found.to_list()), None)

    @store_operation
    async def latest_of(self, keys: Collection[WorkflowKey]) -> Mapping[WorkflowKey, Job]:
        """Two round trips: which they are, and those alone."""
        if not keys:
            return {}
        of_all = self._jobs.find(
            {"workflow_key": {"$in": sorted(keys)}},
            projection={"workflow_key": 1, "created_at": 1, "active": 1},
        )
        newest: dict[str, tuple[datetime, bool, str]] = {}
        async for document in of_all:
            order = document["created_at"], document["active"], document["_id"]
            known = newest.get(document["workflow_key"])
            if known is None or order > known:
                newest[document["workflow_key"]] = order
        found = self._jobs.find({"_id": {"$in": sorted(job_id for _, _, job_id in newest.values())}})
        return {job.workflow_key: job for job in map(to_job, await found.to_list())}

    @store_operation
    async def find(self, query: JobQuery) -> JobPage:
        """Newest first. `requester` finds whoever ever asked, also those who withdrew.

        Raises:
            InvalidInput: `after` is not the `next` of a page.
        """
        wanted: Document = {}
        if query.status is not None:
            wanted["status"] = query.status.value
        if query.requester is not None:
            wanted["asked_by"] = query.requester
        if query.dcc is not None:
            wanted["source.dcc"] = query.dcc
        if query.local_id is not None:
            wanted["source.local_id"] = query.local_id
        wanted |= only_visible(query.visible, "source.")
        seen: list[str] = []
        if query.after is not None:
            moment, seen = read_bookmark(query.after)
            wanted["created_at"] = {"$lte": moment}
            wanted["_id"] = {"$nin": seen}
        found = self._jobs.find(wanted, sort=[("created_at", -1), ("_id", -1)], limit=query.limit + 1)
        documents = await found.to_list()
        page, more = documents[: query.limit], documents[query.limit :]
        return JobPage(tuple(map(to_job, page)), bookmark(page, query.after, seen) if more and page else None)

    @store_operation
    async def due(self, limit: int, passing_over: Collection[Requester] = ()) -> Sequence[Job]:
        """Pending jobs whose time has come, in queue order (rank, id)."""
        found = self._jobs.find(
            await self._due_but(passing_over),
            sort=[("rank", 1), ("_id", 1)],
            limit=limit,
        )
        return [to_job(document) for document in await found.to_list()]

    @store_operation
    async def due_for(self, requester: Requester, limit: int) -> Sequence[Job]:
        """Those of one requester, in the same order."""
        # Of each priority the first ones, by the index, are put in order; without it all would be sorted.
        theirs = {**await self._due_but(()), "queued_for": requester, "priority": _ANY_PRIORITY}
        found = self._jobs.find(theirs, sort=[("rank", 1), ("_id", 1)], limit=limit)
        return [to_job(document) for document in await found.to_list()]

    @store_operation
    async def unowned(self, limit: int) -> Sequence[Job]:
        """Jobs whose lease has run out or was handed over; the handed-over first, then the longest stale."""
        found = self._jobs.find(
            {"status": any_of(LEASED), "lease.expires_at": {"$lte": await self._clock.now()}},
            sort=[("lease.expires_at", 1), ("_id", 1)],
            limit=limit,
        )
        return [to_job(document) for document in await found.to_list()]

    @store_operation
    async def owned(self, owner: Owner) -> Sequence[Job]:
        """Running or finalizing jobs under that owner's unexpired lease."""
        found = self._jobs.find(
            {
                "status": any_of(LEASED),
                "lease.owner": owner,
                "lease.expires_at": {"$gt": await self._clock.now()},
            }
        )
        return [to_job(document) for document in await found.to_list()]

    @store_operation
    async def at_work(self) -> Sequence[Job]:
        """All running and finalizing jobs, leases fresh or not."""
        return [to_job(document) for document in await self._jobs.find({"status": any_of(LEASED)}).to_list()]

    @store_operation
    async def naming(self, worker_ids: Collection[WorkerId], since: datetime) -> Sequence[Job]:
        """Jobs changed after `since`, any of whose attempts names one of the workers."""
        found = self._jobs.find(
            {"attempts.worker_id": {"$in": sorted(worker_ids)}, "updated_at": {"$gt": since}}
        )
        return [to_job(document) for document in await found.to_list()]

    @store_operation
    async def position(self, job: Job, passing_over: Collection[Requester] = ()) -> int:
        """How many due jobs sort before it; 0 is next. Two index ranges, no sorting."""
        due = await self._due_but(passing_over)
        before: tuple[Document, ...] = (
            {**due, "rank": {"$lt": job.rank}},
            {**due, "rank": job.rank, "_id": {"$lt": job.job_id}},
        )
        return sum(await asyncio.gather(*map(self._jobs.count_documents, before)))

    async def _due_but(self, passing_over: Collection[Requester]) -> Document:
        due: Document = {
            "status": Status.PENDING.value,
            "not_before": {"$lte": await self._clock.now()},
        }
        return due | {"queued_for": {"$nin": sorted(passing_over)}} if passing_over else due

    @store_operation
    async def running_by_requester(self) -> Mapping[Requester, int]:
        """Running and finalizing jobs per requester; there are never more of them than workers."""
        found = self._jobs.find({"status": any_of(LEASED)}, projection={"queued_for": 1})
        return Counter(Requester(document.get("queued_for", "")) for document in await found.to_list())

    @store_operation
    async def queue_depth(self) -> QueueDepth:
        """Who waits, and since when."""
        rows = await (await self._jobs.aggregate(QUEUE_DEPTH)).to_list()
        first = self._jobs.find(_PENDING, projection={"created_at": 1}, sort=[("created_at", 1)], limit=1)
        waiting = {
            (Requester(row["_id"].get("queued_for") or ""), Priority(row["_id"]["priority"])): row["count"]
            for row in rows
        }
        return QueueDepth(waiting, next((row["created_at"] for row in await first.to_list()), None))

    @store_operation
    async def recent_starts(self, limit: int) -> Sequence[Start]:
        """The newest first leases, newest first."""
        found = self._jobs.find(
            {"started_at": {"$gt": _EPOCH}},
            projection={"queued_for": 1, "enqueued_at": 1, "started_at": 1},
            sort=[("started_at", -1)],
            limit=limit,
        )
        return [
            Start(Requester(row.get("queued_for", "")), row["enqueued_at"], row["started_at"])
            for row in await found.to_list()
        ]

    @store_operation
    async def counts(self) -> Mapping[Status, int]:
        """Active jobs per status; a status without jobs counts 0."""
        rows = await (await self._jobs.aggregate(ACTIVE_COUNTS)).to_list()
        return {status: 0 for status in Status if status in ACTIVE} | {
            Status(row["_id"]): row["count"] for row in rows
        }

    @store_operation
    async def pending_of(self, requester: Requester, at_most: int) -> int:
        """Pending jobs this requester waits for, whosever turn they take; counted up to `at_most`."""
        # `active` says no more than the status does: it is what the index of requesters is of.
        theirs = {**_PENDING, "active": True, "requesters": requester}
        return await self._jobs.count_documents(theirs, limit=at_most)

    @store_operation
    async def queued_for(self, requester: Requester, at_most: int) -> int:
        """Pending jobs that take this requester's turn, due or not; counted up to `at_most`."""
        return await self._jobs.count_documents({**_PENDING, "queued_for": requester}, limit=at_most)
