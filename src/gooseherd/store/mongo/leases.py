"""Who holds a job, and what its holder reports while the attempt is under way."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pymongo.errors import DuplicateKeyError

from gooseherd.domain.artifact import Part
from gooseherd.domain.job import Fence, Job, JobId, Owner, Progress, WorkerId
from gooseherd.domain.ports.store import Renewal
from gooseherd.domain.states import Status
from gooseherd.domain.worker_size import WorkerResources
from gooseherd.store import edges
from gooseherd.store.mongo.connect import Document, store_operation
from gooseherd.store.mongo.documents import from_parts, new_attempt, to_job
from gooseherd.store.mongo.fenced import OPEN_ATTEMPT, FencedWrites, lost
from gooseherd.store.mongo.reading import any_of

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The end of a handed-over lease: past on every clock, and first in the order of `unowned`."""


class JobLeases(FencedWrites):
    """The part of the JobStore port that gives, renews and uses leases."""

    @store_operation
    async def lease(
        self,
        seen: Job,
        owner: Owner,
        ttl: timedelta,
        running_limit: int | None = None,
        session_id: str | None = None,
    ) -> Job | None:
        """pending→running: fence+1, attempt+1.

        None: somebody else has had it since, it is not due, its requester's limit is reached, or the
        session's permit is taken.
        """
        if session_id is not None:
            try:
                return await self._lease(seen, owner, ttl, {"session_id": session_id, "holds_permit": True})
            except DuplicateKeyError:
                return None
        if running_limit is None:
            return await self._lease(seen, owner, ttl, {})
        for _ in range(running_limit):
            slot = await self._free_slot(seen, running_limit)
            if slot is None:
                return None
            try:
                return await self._lease(seen, owner, ttl, {"running_slot": slot, "holds_slot": True})
            except DuplicateKeyError:
                continue  # another process was faster: one slot fewer is free
        return None

    async def _free_slot(self, seen: Job, limit: int) -> int | None:
        """One that no job of the requester has; None: `limit` are taken."""
        theirs = {"queued_for": seen.queued_for, "active": True, "holds_slot": True}
        found = await self._jobs.find(theirs, projection={"running_slot": 1}).to_list()
        taken = {document["running_slot"] for document in found}
        if len(taken) >= limit:
            return None
        return next(slot for slot in range(limit) if slot not in taken)

    async def _lease(self, seen: Job, owner: Owner, ttl: timedelta, slot: Document) -> Job | None:
        now = await self._clock.now()
        same = {"queued_for": seen.queued_for} if slot else {}
        fresh = {f"progress.{name}": value for name, value in asdict(Progress()).items() if name != "percent"}
        return await self._own(
            {
                "_id": seen.job_id,
                "status": Status.PENDING.value,
                "fence": seen.fence,
                "not_before": {"$lte": now},
                **same,
            },
            owner,
            now + ttl,
            {
                "$inc": {"fence": 1, "attempt": 1},
                "$set": {
                    "session_id": None,
                    **slot,
                    "status": Status.RUNNING.value,
                    "started_at": seen.started_at or now,
                    "updated_at": now,
                    **fresh,
                },
                "$push": {"attempts": new_attempt(seen.attempt + 1, now)},
            },
        )

    @store_operation
    async def adopt(self, job_id: JobId, seen: Fence, owner: Owner, ttl: timedelta) -> Job | None:
        """Take over a leased job whose lease ran out, same attempt, fence+1. None: not to be had."""
        now = await self._clock.now()
        return await self._own(
            {
                "_id": job_id,
                "status": any_of(edges.ADOPT.sources),
                "fence": seen,
                "lease.expires_at": {"$lte": now},
            },
            owner,
            now + ttl,
            {"$inc": {"fence": 1}, "$set": {"updated_at": now}},
        )

    async def _own(self, wanted: Document, owner: Owner, until: datetime, update: Document) -> Job | None:
        token = secrets.token_hex(8)
        lease = {"owner": owner, "expires_at": until, "token": token}
        await self._jobs.update_one(wanted, {**update, "$set": {**update["$set"], "lease": lease}})
        document = await self._jobs.find_one({"_id": wanted["_id"], "lease.token": token})
        return to_job(document) if document else None

    @store_operation
    async def renew(self, job_id: JobId, fence: Fence, ttl: timedelta) -> Renewal:
        """Extend the lease, never shorten it, and learn whether the job is still wanted.

        Late is forgiven (nobody took over), superseded and handed over are not.
        """
        now = await self._clock.now()
        held = {"lease.owner": {"$ne": None}}
        update = {"$max": {"lease.expires_at": now + ttl}, "$set": {"updated_at": now}}
        if await self._fenced(edges.RENEW, job_id, fence, update, {**held, "cancel_requested": False}):
            return Renewal(now + ttl, wanted=True)
        if await self._fenced(edges.RENEW, job_id, fence, update, held):
            return Renewal(now + ttl, wanted=False)
        raise lost(job_id, fence, "renew")

    @store_operation
    async def shorten_lease(
        self, job_id: JobId, seen: Fence, worker_id: WorkerId | None, diagnosis: str
    ) -> bool:
        """The job's worker has ended: its lease runs out now. False: it is no longer as seen."""
        now = await self._clock.now()
        fresh = {"lease.owner": {"$ne": None}, "lease.expires_at": {"$gt": now}}
        its_worker = {"attempts": {"$elemMatch": {"ended_at": None, "worker_id": worker_id}}}
        update = {
            "$set": {"lease.expires_at": now, "attempts.$.detail": diagnosis, "updated_at": now},
        }
        return await self._fenced(edges.SHORTEN_LEASE, job_id, seen, update, {**fresh, **its_worker})

    @store_operation
    async def hand_over(self, owner: Owner) -> int:
        """Let go of every lease of `owner`; how many there were. They are unowned from now on."""
        result = await self._jobs.update_many(
            {"status": any_of(edges.HAND_OVER.sources), "lease.owner": owner},
            {
                "$set": {
                    "lease.owner": None,
                    "lease.expires_at": _LONG_AGO,
                    "lease.token": None,
                    "updated_at": await self._clock.now(),
                }
            },
        )
        return result.modified_count

    # -- news of an attempt ----------------------------------------------------------------

    @store_operation
    async def assign_worker(
        self,
        job_id: JobId,
        fence: Fence,
        worker_id: WorkerId,
        dispatched: Mapping[str, Any] | None = None,
        resources: WorkerResources | None = None,
    ) -> None:
        """Record, before the attempt starts there, which worker runs it."""
        now = await self._clock.now()
        update = {
            "$set": {
                "attempts.$.worker_id": worker_id,
                "attempts.$.dispatched": dispatched,
                "attempts.$.assigned_at": now,
                "attempts.$.resources": None if resources is None else resources.to_json(),
                "updated_at": now,
            }
        }
        if not await self._fenced(edges.ASSIGN_WORKER, job_id, fence, update, OPEN_ATTEMPT):
            raise lost(job_id, fence, "assign_worker")

    @store_operation
    async def record_progress(self, job_id: JobId, fence: Fence, progress: Progress) -> None:
        """Store how far it is. A smaller percentage than the stored one is not written."""
        fields = {f"progress.{name}": value for name, value in asdict(progress).items() if name != "percent"}
        update = {
            "$set": {**fields, "updated_at": await self._clock.now()},
            # Two decimals are plenty.
            "$max": {"progress.percent": round(progress.percent, 2)},
        }
        if not await self._fenced(edges.PROGRESS, job_id, fence, update):
            raise lost(job_id, fence, "record_progress")

    @store_operation
    async def record_step_complete(
        self, job_id: JobId, fence: Fence, step: str, parts: Sequence[Part]
    ) -> None:
        """Add a step and its parts; again with the same step changes nothing."""
        update = {
            "$push": {"steps_completed": step, "parts": {"$each": from_parts(parts)}},
            "$set": {"updated_at": await self._clock.now()},
        }
        if await self._fenced(edges.STEP_COMPLETE, job_id, fence, update, {"steps_completed": {"$ne": step}}):
            return
        job = await self._load(job_id)
        if job is None or job.fence != fence or job.status not in edges.STEP_COMPLETE.sources:
            raise lost(job_id, fence, "record_step_complete")
