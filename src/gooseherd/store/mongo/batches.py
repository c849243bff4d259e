"""The BatchStore port over MongoDB: a batch is a document, each of its members another one.

There is no transaction. A batch is stored as `complete: false`, which nobody sees, then its members,
then it is made complete. Whoever finds one that was left incomplete for longer than that takes starts
over in its place (the same idempotency key), or removes it (`forget_ended`).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from pymongo import UpdateOne
from pymongo.errors import DuplicateKeyError

from gooseherd.domain.batch import (
    IN_FLIGHT,
    Batch,
    BatchId,
    JobOutcome,
    Member,
    MemberChange,
    MemberState,
    NewBatch,
    member_change,
)
from gooseherd.domain.errors import InvalidInput, LimitReached, StoreUnavailable
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import JobId, Owner, Requester
from gooseherd.domain.ports.batches import BatchLimits, BatchPage, BatchQuery, StoredBatch
from gooseherd.domain.source import Dcc, LocalId
from gooseherd.domain.states import Status
from gooseherd.domain.visibility import from_plain, to_plain
from gooseherd.store.mongo.bookmarks import bookmark, read_bookmark
from gooseherd.store.mongo.clock import StoreClock
from gooseherd.store.mongo.connect import Database, Document, durable, store_operation
from gooseherd.store.mongo.schema import BATCH_MEMBERS, BATCHES, JOBS

_CHUNK: Final = 1000
"""Members per round trip: about 200 kB."""

_LEFT_AFTER: Final = timedelta(minutes=2)
"""Who has not completed a batch by then has died: storing ten thousand members takes seconds."""

_ANY_STATE: Final[Document] = {"$in": sorted(state.value for state in MemberState)}
_IN_FLIGHT: Final[Document] = {"$in": sorted(state.value for state in IN_FLIGHT)}


class MongoBatches:
    """The BatchStore port over MongoDB and what speaks its protocol."""

    def __init__(self, db: Database, *, clock: StoreClock | None = None) -> None:
        self._batches = durable(db, BATCHES)
        self._members = durable(db, BATCH_MEMBERS)
        self._jobs = durable(db, JOBS)
        self._clock = clock or StoreClock(db)

    @store_operation
    async def create(self, new: NewBatch, limits: BatchLimits) -> StoredBatch:
        """Limits are counted before: those stored at the same moment may exceed them by their number."""
        there = await self._with_key(new)
        if there is not None and there["complete"]:
            return await self._found(there, new)
        await self._refuse_over_limit(new.requester, limits)
        now = await self._clock.now()
        token = secrets.token_hex(16)
        if there is None:
            try:
                await self._batches.insert_one(_new_document(new, now, token))
            except DuplicateKeyError:
                there = await self._with_key(new)
                if there is None:
                    raise StoreUnavailable("create") from None
                if there["complete"]:
                    return await self._found(there, new)
        batch_id = new.batch_id if there is None else BatchId(there["_id"])
        if there is not None:
            # Stored by half. By this very call's earlier try it is taken over at once.
            if there["_id"] != new.batch_id and now - there["created_at"] < _LEFT_AFTER:
                raise StoreUnavailable("create")
            _same_request(there, new)
            mine = {"token": token, "created_at": now}
            taken = await self._batches.update_one(
                {"_id": batch_id, "complete": False, "token": there["token"]}, {"$set": mine}
            )
            if not taken.matched_count:
                raise StoreUnavailable("create")
            await self._members.delete_many({"batch_id": batch_id})
        for start in range(0, len(new.files), _CHUNK):
            chunk = enumerate(new.files[start : start + _CHUNK], start)
            await self._members.insert_many(
                [_new_member(batch_id, number, *name) for number, name in chunk], ordered=False
            )
        completed = await self._batches.update_one(
            {"_id": batch_id, "token": token}, {"$set": {"complete": True}}
        )
        stored = await self._load(batch_id)
        if not completed.matched_count or stored is None:
            raise StoreUnavailable("create")
        return StoredBatch(stored, created=True)

    async def _with_key(self, new: NewBatch) -> Document | None:
        """The batch that an earlier call began, or another one with its idempotency key."""
        found = await self._batches.find_one({"_id": new.batch_id})
        if found is None and new.idempotency_key is not None:
            found = await self._batches.find_one(
                {"requester": new.requester, "idempotency_key": new.idempotency_key, "has_key": True}
            )
        return found

    async def _found(self, there: Document, new: NewBatch) -> StoredBatch:
        _same_request(there, new)
        return StoredBatch((await self._counted([there]))[0], created=there["_id"] == new.batch_id)

    async def _refuse_over_limit(self, requester: Requester, limits: BatchLimits) -> None:
        under_way = {"ended": False, "complete": True}
        own = await self._batches.count_documents({**under_way, "requester": requester})
        if own >= limits.open_per_requester:
            raise LimitReached("open batches of this requester", limits.open_per_requester, own)
        total = await self._batches.count_documents(under_way)
        if total >= limits.open_batches:
            raise LimitReached("open batches", limits.open_batches, total)

    @store_operation
    async def get(self, batch_id: BatchId) -> Batch | None:
        """The batch with its counts, or None."""
        return await self._load(batch_id)

    @store_operation
    async def find(self, query: BatchQuery) -> BatchPage:
        """Newest first."""
        wanted: Document = {"complete": True}
        if query.requester is not None:
            wanted["requester"] = query.requester
        if query.private_of is not None:
            wanted["$or"] = [{"visible": None}, {"requester": query.private_of}]
        listed: list[str] = []
        if query.after is not None:
            moment, listed = read_bookmark(query.after)
            wanted |= {"created_at": {"$lte": moment}, "_id": {"$nin": listed}}
        found = self._batches.find(wanted, sort=[("created_at", -1), ("_id", -1)], limit=query.limit + 1)
        documents = await found.to_list()
        page, more = documents[: query.limit], documents[query.limit :]
        following = bookmark(page, query.after, listed) if more and page else None
        return BatchPage(tuple(await self._counted(page)), following)

    @store_operation
    async def unfinished(self, limit: int) -> Sequence[Batch]:
        """Batches that have not been ended, oldest first."""
        found = self._batches.find(
            {"ended": False, "complete": True}, sort=[("created_at", 1), ("_id", 1)], limit=limit
        )
        return await self._counted(await found.to_list())

    @store_operation
    async def members(
        self, batch_id: BatchId, state: MemberState | None = None, *, limit: int, after: int = -1
    ) -> Sequence[Member]:
        """Members by number."""
        # Of each state the first ones, by the index, are put in order; without it all would be sorted.
        wanted: Document = {"batch_id": batch_id, "state": _ANY_STATE, "number": {"$gt": after}}
        if state is not None:
            wanted["state"] = state.value
        found = self._members.find(wanted, sort=[("number", 1)], limit=limit)
        return [_member(document) for document in await found.to_list()]

    @store_operation
    async def hold(self, batch_id: BatchId, owner: Owner, ttl: timedelta) -> bool:
        """Become, or stay, the process that submits its files."""
        now = await self._clock.now()
        mine = {"$set": {"held_by": owner, "held_until": now + ttl}}
        for free in ({"held_by": owner}, {"held_by": None}, {"held_until": {"$lte": now}}):
            held = await self._batches.update_one({"_id": batch_id, "ended": False, **free}, mine)
            if held.matched_count:
                return True
        return False

    @store_operation
    async def moved(self, batch_id: BatchId, limit: int) -> Sequence[tuple[Member, JobOutcome]]:
        """Members in flight whose job stands otherwise than the member says."""
        found: list[tuple[Member, JobOutcome]] = []
        after = -1
        while len(found) < limit:
            wanted = {"batch_id": batch_id, "state": _IN_FLIGHT, "number": {"$gt": after}}
            page = await self._members.find(wanted, sort=[("number", 1)], limit=_CHUNK).to_list()
            outcomes = await self._outcomes([document["job_id"] for document in page])
            for document in page:
                member = _member(document)
                outcome = outcomes.get(document["job_id"], JobOutcome(None))
                if member_change(member, outcome) is not None:
                    found.append((member, outcome))
            if len(page) < _CHUNK:
                break
            after = page[-1]["number"]
        return found[:limit]

    async def _outcomes(self, job_ids: Sequence[str]) -> Mapping[str, JobOutcome]:
        if not job_ids:
            return {}
        fields = {"status": 1, "reason": 1, "detail": 1}
        jobs = await self._jobs.find({"_id": {"$in": list(job_ids)}}, projection=fields).to_list()
        return {job["_id"]: JobOutcome(Status(job["status"]), _reason(job), job["detail"]) for job in jobs}

    @store_operation
    async def record(self, batch_id: BatchId, changes: Sequence[MemberChange]) -> int:
        """Each member is one conditional write; all in one round trip."""
        if not changes:
            return 0
        writes = [
            UpdateOne(
                {"_id": _member_id(batch_id, change.number), "state": change.seen.value},
                {
                    "$set": {
                        "state": change.state.value,
                        "job_id": change.job_id,
                        "reason": None if change.reason is None else change.reason.value,
                        "detail": change.detail,
                    }
                },
            )
            for change in changes
        ]
        return (await self._members.bulk_write(writes, ordered=False)).matched_count

    @store_operation
    async def cancel(self, batch_id: BatchId) -> Batch | None:
        """The flag first: whoever submits looks at it again after each file."""
        wanted = {"_id": batch_id, "ended": False, "complete": True}
        flagged = await self._batches.update_one(wanted, {"$set": {"cancel_requested": True}})
        if flagged.matched_count:
            waiting = {"batch_id": batch_id, "state": MemberState.WAITING.value}
            values = {"state": MemberState.CANCELLED.value, "reason": Reason.CANCELLED.value}
            await self._members.update_many(waiting, {"$set": values})
        return await self._load(batch_id)

    @store_operation
    async def wanted_by_another(self, batch_id: BatchId, job_id: JobId, requester: Requester) -> bool:
        """Whether another live batch of the requester has the job."""
        others = self._members.find(
            {"job_id": job_id, "state": _IN_FLIGHT, "batch_id": {"$ne": batch_id}}, projection={"batch_id": 1}
        )
        ids = sorted({document["batch_id"] for document in await others.to_list()})
        wanted = {"_id": {"$in": ids}, "requester": requester, "cancel_requested": False}
        return bool(ids) and await self._batches.find_one(wanted, projection={"_id": 1}) is not None

    @store_operation
    async def end(self, batch_id: BatchId) -> bool:
        """Write down when it ended, and its counts."""
        batch = await self._load(batch_id)
        if batch is None or batch.ended_at is not None or batch.open:
            return False
        values = {
            "ended": True,
            "ended_at": await self._clock.now(),
            "counts": {state.value: count for state, count in batch.counts.items()},
            "held_by": None,
        }
        return (
            await self._batches.update_one({"_id": batch_id, "ended": False}, {"$set": values})
        ).matched_count == 1

    @store_operation
    async def forget_ended(self, ended_before: datetime, limit: int) -> int:
        """Members first, so that none is left without its batch. Also what was left incomplete."""
        left = {"complete": False, "created_at": {"$lt": await self._clock.now() - 10 * _LEFT_AFTER}}
        old = {"created_at": {"$lt": ended_before}, "ended_at": {"$lt": ended_before}}
        ids: list[str] = []
        for wanted in (left, old):
            found = self._batches.find(wanted, projection={"_id": 1}, sort=[("created_at", 1)], limit=limit)
            ids += [document["_id"] for document in await found.to_list()]
        for batch_id in ids[:limit]:
            await self._members.delete_many({"batch_id": batch_id})
            await self._batches.delete_one({"_id": batch_id})
        return len(ids[:limit])

    async def _load(self, batch_id: BatchId) -> Batch | None:
        document = await self._batches.find_one({"_id": batch_id, "complete": True})
        return (await self._counted([document]))[0] if document else None

    async def _counted(self, documents: Sequence[Document]) -> list[Batch]:
        """Batches with their counts: as they were written down at the end, else counted."""
        counts: dict[str, dict[MemberState, int]] = {
            document["_id"]: {MemberState(state): n for state, n in (document["counts"] or {}).items()}
            for document in documents
        }
        under_way = [document["_id"] for document in documents if document["counts"] is None]
        if under_way:
            for row in await (await self._members.aggregate(states_of(under_way))).to_list():
                counts[row["_id"]["batch_id"]][MemberState(row["_id"]["state"])] = row["count"]
        return [_batch(document, counts[document["_id"]]) for document in documents]


def states_of(batch_ids: Sequence[str]) -> list[Document]:
    """The pipeline that counts members of batches by state."""
    return [
        {"$match": {"batch_id": {"$in": list(batch_ids)}}},
        {"$group": {"_id": {"batch_id": "$batch_id", "state": "$state"}, "count": {"$sum": 1}}},
    ]


def _same_request(there: Document, new: NewBatch) -> None:
    if there["request_digest"] != new.request_digest:
        raise InvalidInput("Idempotency-Key", "was used for another request")


def _new_document(new: NewBatch, now: datetime, token: str) -> Document:
    return {
        "_id": new.batch_id,
        "requester": new.requester,
        "idempotency_key": new.idempotency_key,
        "has_key": new.idempotency_key is not None,
        "request_digest": new.request_digest,
        "retry": new.retry,
        "visible": to_plain(new.visible),
        "total": len(new.files),
        "created_at": now,
        "cancel_requested": False,
        "complete": False,
        "token": token,
        "ended": False,
        "ended_at": None,
        "counts": None,
        "held_by": None,
        "held_until": None,
    }


def _member_id(batch_id: str, number: int) -> str:
    return f"{batch_id} {number}"


def _new_member(batch_id: BatchId, number: int, dcc: Dcc, local_id: LocalId) -> Document:
    return {
        "_id": _member_id(batch_id, number),
        "batch_id": batch_id,
        "number": number,
        "dcc": dcc,
        "local_id": local_id,
        "state": MemberState.WAITING.value,
        "job_id": None,
        "reason": None,
        "detail": "",
    }


def _batch(document: Document, counts: Mapping[MemberState, int]) -> Batch:
    return Batch(
        batch_id=BatchId(document["_id"]),
        requester=Requester(document["requester"]),
        total=document["total"],
        created_at=document["created_at"],
        counts=counts,
        retry=document["retry"],
        cancel_requested=document["cancel_requested"],
        ended_at=document["ended_at"],
        held_by=None if document["held_by"] is None else Owner(document["held_by"]),
        held_until=document["held_until"],
        visible=from_plain(document.get("visible")),
    )


def _member(document: Document) -> Member:
    return Member(
        number=document["number"],
        dcc=Dcc(document["dcc"]),
        local_id=LocalId(document["local_id"]),
        state=MemberState(document["state"]),
        job_id=None if document["job_id"] is None else JobId(document["job_id"]),
        reason=_reason(document),
        detail=document["detail"],
    )


def _reason(document: Document) -> Reason | None:
    return None if document["reason"] is None else Reason(document["reason"])
