"""The workflow mutex and the life of a job: every edge is one conditional write.

| edge | filter (beside `_id`) | update (beside `updated_at`) |
| --- | --- | --- |
| ∅→pending | none: insert; the index `one_active_job` refuses a second | the whole document, active |
| attach | active | add requester, least priority, cancel_requested=false |
| pending→running | pending, due, fence as seen | fence+1, attempt+1, lease, open a record in attempts |
| adopt | fence as seen, leased, lease run out | fence+1, lease |
| renew | fence, leased, lease has an owner, not cancel_requested | latest of both lease ends |
| renew, unwanted | fence, leased, lease has an owner | latest of both lease ends |
| shorten lease | fence, running, lease fresh, open record with the worker as seen | lease, record's detail |
| assign worker | fence, running, open record | the open record's worker |
| progress | fence, leased | progress; percent only upwards |
| step complete | fence, leased, step not in steps_completed | add step and parts |
| running→finalizing | fence, running | status, add steps |
| finalizing→completed | fence, finalizing, open record | digest, parts, close record, inactive, no lease |
| leased→failed | fence, leased, open record | reason, close record, inactive, no lease |
| running→cancelled | fence, running, open record | the same |
| leased→pending | fence, leased, open record | close record, not_before; enqueued_at stays, so its place |
| withdraw, others stay | status and requesters as seen | requesters without the one |
| pending→cancelled | pending, requesters as seen | no requesters, reason, inactive |
| cancel flag | running, requesters as seen | no requesters, cancel_requested |
| pending→failed (expire) | pending, created before | reason queue_expired, inactive |
| hand over | leased, lease's owner | no owner, lease ended long ago |

"leased" is running or finalizing; "as seen" is compare-and-set with a read before, looked at
again when it lost. A write that matched nothing changed nothing. A driver may repeat a write
whose answer it lost, and the server may have forgotten the first (the embedded one does, in
a kill): so a write that matches nothing first looks whether its own effect is what stands in
the way. Hot writes (renew, progress, step) are `update_one`, one round trip.

Who ends a job of somebody else must adopt it first: two writers with the same fence are not
kept apart.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pymongo.errors import DuplicateKeyError

from gooseherd.domain.artifact import Part
from gooseherd.domain.errors import InvalidInput, LeaseLost, NotCancellable, NotFound, StoreUnavailable
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import Fence, Job, JobId, Owner, Progress, Requester, Submission, WorkerId
from gooseherd.domain.keys import WorkflowKey
from gooseherd.domain.ports.store import Claim, Renewal
from gooseherd.domain.queueing import Priority
from gooseherd.domain.states import Status, may
from gooseherd.store.mongo.connect import Document, store_operation
from gooseherd.store.mongo.documents import from_parts, new_attempt, new_job, to_job
from gooseherd.store.mongo.reading import LEASED, JobReads, any_of

_log = logging.getLogger(__name__)

_TRIES: Final = 16
"""Races lost in a row before giving up; each loss means that somebody else got on."""

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The end of a handed-over lease: past on every clock, and first in the order of `unowned`."""

_OPEN_ATTEMPT: Final[Mapping[str, Any]] = {"attempts": {"$elemMatch": {"ended_at": None}}}
"""Matches while an attempt is under way, and makes `attempts.$` its record."""


class MongoJobs(JobReads):
    """The JobStore port over MongoDB and what speaks its protocol (the table above)."""

    # -- into the queue --------------------------------------------------------------------

    @store_operation
    async def claim_workflow(self, submission: Submission) -> Claim:
        """∅→pending under the mutex, or attach to the job that holds it.

        `created` also when an earlier call with this submission made the job and its answer
        was lost: claiming again with the same submission is safe.

        Raises:
            InvalidInput: the job id already names another job.
            StoreUnavailable: nothing known, or the mutex changed hands too often.
        """
        for _ in range(_TRIES):
            try:
                document = new_job(submission, await self._clock.now())
                await self._jobs.insert_one(document)
                return Claim(to_job(document), created=True)
            except DuplicateKeyError:
                # Which key it was is not asked: servers tell it in different ways, and the
                # documents themselves say it.
                job = await self.attach(submission.workflow_key, submission.requester, submission.priority)
            if job is not None:
                return Claim(job, created=job.job_id == submission.job_id)
            if await self._jobs.find_one({"_id": submission.job_id}, projection={"_id": 1}):
                raise InvalidInput("job_id", f"{submission.job_id!r} already names another job")
        raise StoreUnavailable("claim_workflow")

    @store_operation
    async def attach(self, key: WorkflowKey, requester: Requester, priority: Priority) -> Job | None:
        """Join the active job of `key`; a running one that was to be cancelled is wanted again."""
        for _ in range(_TRIES):
            seen = await self._jobs.find_one({"workflow_key": key, "active": True})
            if seen is None:
                return None
            if (
                requester in seen["requesters"]
                and priority >= seen["priority"]
                and not seen["cancel_requested"]
            ):
                return to_job(seen)
            job_id = seen["_id"]
            joined = await self._jobs.update_one(
                {"_id": job_id, "active": True},
                {
                    "$addToSet": {"requesters": requester, "asked_by": requester},
                    "$min": {"priority": int(priority)},
                    "$set": {"cancel_requested": False, "updated_at": await self._clock.now()},
                },
            )
            if joined.matched_count:
                return await self._load(job_id)
        raise StoreUnavailable("attach")

    # -- leases ----------------------------------------------------------------------------

    @store_operation
    async def lease(self, seen: Job, owner: Owner, ttl: timedelta) -> Job | None:
        """pending→running: fence+1, attempt+1. None: somebody else has had it since, or it is not due."""
        now = await self._clock.now()
        fresh = {f"progress.{name}": value for name, value in asdict(Progress()).items() if name != "percent"}
        return await self._own(
            {
                "_id": seen.job_id,
                "status": Status.PENDING.value,
                "fence": seen.fence,
                "not_before": {"$lte": now},
            },
            owner,
            now + ttl,
            {
                "$inc": {"fence": 1, "attempt": 1},
                "$set": {
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
            {"_id": job_id, "status": any_of(LEASED), "fence": seen, "lease.expires_at": {"$lte": now}},
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
        if await self._fenced(job_id, fence, LEASED, update, {**held, "cancel_requested": False}):
            return Renewal(now + ttl, wanted=True)
        if await self._fenced(job_id, fence, LEASED, update, held):
            return Renewal(now + ttl, wanted=False)
        raise self._lost(job_id, fence, "renew")

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
        return await self._fenced(job_id, seen, frozenset({Status.RUNNING}), update, {**fresh, **its_worker})

    @store_operation
    async def hand_over(self, owner: Owner) -> int:
        """Let go of every lease of `owner`; how many there were. They are unowned from now on."""
        result = await self._jobs.update_many(
            {"status": any_of(LEASED), "lease.owner": owner},
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
    async def assign_worker(self, job_id: JobId, fence: Fence, worker_id: WorkerId) -> None:
        """Record, before the attempt starts there, which worker runs it."""
        update = {"$set": {"attempts.$.worker_id": worker_id, "updated_at": await self._clock.now()}}
        if not await self._fenced(job_id, fence, frozenset({Status.RUNNING}), update, _OPEN_ATTEMPT):
            raise self._lost(job_id, fence, "assign_worker")

    @store_operation
    async def record_progress(self, job_id: JobId, fence: Fence, progress: Progress) -> None:
        """Store how far it is. A smaller percentage than the stored one is not written."""
        fields = {f"progress.{name}": value for name, value in asdict(progress).items() if name != "percent"}
        update = {
            "$set": {**fields, "updated_at": await self._clock.now()},
            # Two decimals are plenty, and the embedded server's $max takes 1e-308 for more than 27.
            "$max": {"progress.percent": round(progress.percent, 2)},
        }
        if not await self._fenced(job_id, fence, LEASED, update):
            raise self._lost(job_id, fence, "record_progress")

    @store_operation
    async def record_step_complete(
        self, job_id: JobId, fence: Fence, step: str, parts: Sequence[Part]
    ) -> None:
        """Add a step and its parts; again with the same step changes nothing."""
        update = {
            "$push": {"steps_completed": step, "parts": {"$each": from_parts(parts)}},
            "$set": {"updated_at": await self._clock.now()},
        }
        if await self._fenced(job_id, fence, LEASED, update, {"steps_completed": {"$ne": step}}):
            return
        job = await self._load(job_id)
        if job is None or job.fence != fence or job.status not in LEASED:
            raise self._lost(job_id, fence, "record_step_complete")

    # -- ends ------------------------------------------------------------------------------

    @store_operation
    async def begin_finalize(self, job_id: JobId, fence: Fence, steps: Sequence[str] = ()) -> None:
        """running→finalizing, and the steps not recorded yet. Again by the same holder changes nothing."""
        update = {
            "$set": {"status": Status.FINALIZING.value, "updated_at": await self._clock.now()},
            "$addToSet": {"steps_completed": {"$each": list(steps)}},
        }
        if not await self._fenced(job_id, fence, frozenset({Status.RUNNING}), update):
            await self._same(job_id, fence, "begin_finalize", lambda job: job.status is Status.FINALIZING)

    @store_operation
    async def finalize(
        self, job_id: JobId, fence: Fence, manifest_digest: str, parts: Sequence[Part]
    ) -> None:
        """finalizing→completed; frees the mutex. Again with the same digest changes nothing.

        Somebody waits for the bytes: the job is not read again.
        """
        now = await self._clock.now()
        update = {
            "$set": {
                **_ended(Status.COMPLETED, now),
                **_attempt_ended(Reason.PUBLISHED, "", now),
                "reason": Reason.PUBLISHED.value,
                "manifest_digest": manifest_digest,
                "parts": from_parts(parts),
                "progress.percent": 100.0,
                "progress.eta_seconds": None,
            }
        }
        if not await self._fenced(job_id, fence, frozenset({Status.FINALIZING}), update, _OPEN_ATTEMPT):
            await self._same(
                job_id,
                fence,
                "finalize",
                lambda job: job.status is Status.COMPLETED and job.manifest_digest == manifest_digest,
            )

    @store_operation
    async def release_workflow(self, job_id: JobId, fence: Fence, status: Status, failure: Failure) -> Job:
        """→failed or →cancelled; frees the mutex. The first writer's reason stands.

        Only a leased job can be released: one that went back to the queue has no holder.
        """
        if status not in (Status.FAILED, Status.CANCELLED):
            raise ValueError(f"a job is not released to {status}")
        now = await self._clock.now()
        update = {
            "$set": {
                **_ended(status, now),
                **_attempt_ended(failure.reason, failure.detail, now),
                "reason": failure.reason.value,
                "detail": failure.detail,
            }
        }
        return await self._end(
            job_id, fence, "release_workflow", frozenset(s for s in LEASED if may(s, status)), update,
            lambda job: job.status is status and (job.reason, job.detail) == (failure.reason, failure.detail),
        )  # fmt: skip

    @store_operation
    async def requeue(self, job_id: JobId, fence: Fence, failure: Failure, delay: timedelta) -> Job:
        """running/finalizing→pending, due after `delay`, at its old place in the queue."""
        now = await self._clock.now()
        update = {
            "$set": {
                **_attempt_ended(failure.reason, failure.detail, now),
                "status": Status.PENDING.value,
                "not_before": now + delay,
                "lease": None,
                "updated_at": now,
            }
        }
        return await self._end(
            job_id, fence, "requeue", LEASED, update,
            lambda job: job.status is Status.PENDING and _last_reason(job) is failure.reason,
        )  # fmt: skip

    async def _end(
        self,
        job_id: JobId,
        fence: Fence,
        operation: str,
        sources: frozenset[Status],
        update: Document,
        already: Callable[[Job], bool],
    ) -> Job:
        if not await self._fenced(job_id, fence, sources, update, _OPEN_ATTEMPT):
            return await self._same(job_id, fence, operation, already)
        job = await self._load(job_id)
        if job is None:  # jobs are never deleted while somebody works on them
            raise self._lost(job_id, fence, operation)
        return job

    # -- withdrawal ------------------------------------------------------------------------

    @store_operation
    async def request_cancel(self, job_id: JobId, requester: Requester | None) -> Job:
        """Withdraw a requester; None withdraws all. One who asked for nothing changes nothing."""
        for _ in range(_TRIES):
            seen = await self._jobs.find_one({"_id": job_id})
            if seen is None:
                raise NotFound("job", job_id)
            if seen["status"] not in (Status.PENDING, Status.RUNNING):
                raise NotCancellable(job_id, seen["status"])
            if requester is not None and requester not in seen["requesters"]:
                return to_job(seen)
            now = await self._clock.now()
            staying = [] if requester is None else [name for name in seen["requesters"] if name != requester]
            change: Document = {"requesters": staying, "updated_at": now}
            if not staying and seen["status"] == Status.PENDING:
                detail = (
                    "withdrawn by an operator" if requester is None else "withdrawn by everybody who asked"
                )
                change |= {
                    **_ended(Status.CANCELLED, now),
                    "reason": Reason.CANCELLED.value,
                    "detail": detail,
                }
            elif not staying:
                change["cancel_requested"] = True
            as_seen = {"_id": job_id, "status": seen["status"], "requesters": seen["requesters"]}
            if (await self._jobs.update_one(as_seen, {"$set": change})).matched_count:
                job = await self._load(job_id)
                if job is not None:
                    return job
        raise StoreUnavailable("request_cancel")

    @store_operation
    async def expire(self, created_before: datetime, limit: int) -> Sequence[Job]:
        """Pending jobs created before that fail with queue_expired; returns those this call ended."""
        old: Document = {"status": Status.PENDING.value, "created_at": {"$lt": created_before}}
        found = await self._jobs.find(old, projection={"_id": 1}, limit=limit).to_list()
        ended = []
        for row in found:
            now = await self._clock.now()
            reason = {"reason": Reason.QUEUE_EXPIRED.value, "detail": "waited in the queue for too long"}
            change = {"$set": {**_ended(Status.FAILED, now), **reason}}
            if (await self._jobs.update_one({**old, **row}, change)).matched_count:
                ended.append(row["_id"])
        if not ended:
            return []
        return [to_job(document) for document in await self._jobs.find({"_id": {"$in": ended}}).to_list()]

    # -- the one kind of write -------------------------------------------------------------

    async def _fenced(
        self,
        job_id: JobId,
        fence: Fence,
        sources: frozenset[Status],
        update: Document,
        also: Mapping[str, Any] | None = None,
    ) -> bool:
        wanted = {"_id": job_id, "fence": fence, "status": any_of(sources), **(also or {})}
        return (await self._jobs.update_one(wanted, update)).matched_count == 1

    async def _same(self, job_id: JobId, fence: Fence, operation: str, already: Callable[[Job], bool]) -> Job:
        """The job, if what stands in the way of the write is the write itself."""
        job = await self._load(job_id)
        if job is None or job.fence != fence or not already(job):
            raise self._lost(job_id, fence, operation)
        return job

    async def _load(self, job_id: JobId) -> Job | None:
        document = await self._jobs.find_one({"_id": job_id})
        return to_job(document) if document else None

    @staticmethod
    def _lost(job_id: JobId, fence: Fence, operation: str) -> LeaseLost:
        _log.warning("late write refused", extra={"job_id": job_id, "fence": fence, "operation": operation})
        return LeaseLost(job_id, fence)


def _ended(status: Status, now: datetime) -> Document:
    return {"status": status.value, "active": False, "lease": None, "finished_at": now, "updated_at": now}


def _last_reason(job: Job) -> Reason | None:
    return job.attempts[-1].reason if job.attempts else None


def _attempt_ended(reason: Reason, detail: str, now: datetime) -> Document:
    return {
        "attempts.$.reason": reason.value,
        "attempts.$.detail": detail,
        "attempts.$.ended_at": now,
    }
