"""The workflow mutex and the life of a job: every edge is one conditional write.

| edge | filter (beside `_id`) | update (beside `updated_at`) |
| --- | --- | --- |
| ∅→pending | none: insert; the index `one_active_job` refuses a second | the whole document, active |
| attach | active | add requester, least priority, cancel_requested=false |
| attach, better place | pending, rank as seen | the same, rank, queued_for |
| pending→running | pending, due, fence as seen, free slot/permit | fence+1, attempt+1, lease, new record |
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
| running→cancelled | fence, running, cancel_requested, open record | the same |
| leased→pending | fence, leased, open record | close record, not_before; rank stays, so its place |
| withdraw, others stay | status and requesters as seen | requesters without the one |
| pending→cancelled | pending, requesters as seen | no requesters, reason, inactive |
| cancel flag | running, requesters as seen | no requesters, cancel_requested |
| pending→failed (expire) | pending, created before, attempt as seen | reason queue_expired, inactive |
| hand over | leased, lease's owner | no owner, lease ended long ago |

"leased" is running or finalizing; "as seen" is compare-and-set with a read before, read
again when it lost. A write that matched nothing changed nothing. A driver may repeat a write
whose answer it lost, and where the URL forbids that (DocumentDB) callers do: so a write that
matches nothing first checks whether its own effect is what stands in the way. Hot writes
(renew, progress, step) are `update_one`, one round trip.

Who ends a job of somebody else must adopt it first: two writers with the same fence are not
kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pymongo.errors import DuplicateKeyError

from gooseherd.domain.errors import InvalidInput, NewerJob, NotCancellable, NotFound, StoreUnavailable
from gooseherd.domain.failures import Reason, queue_expired_detail
from gooseherd.domain.job import Job, JobId, NewestSeen, Requester, Submission
from gooseherd.domain.keys import WorkflowKey
from gooseherd.domain.ports.store import Claim
from gooseherd.domain.queueing import Priority
from gooseherd.domain.states import Status
from gooseherd.domain.waiting import waiting_since
from gooseherd.store import edges
from gooseherd.store.mongo.connect import Document, store_operation
from gooseherd.store.mongo.documents import new_job, to_attempt, to_job
from gooseherd.store.mongo.ends import JobEndWrites
from gooseherd.store.mongo.leases import JobLeases

_TRIES: Final = 16
"""Races lost in a row before giving up; each loss means that somebody else got on."""


class MongoJobs(JobLeases, JobEndWrites):
    """The JobStore port over MongoDB and what speaks its protocol (the table above)."""

    # -- into the queue --------------------------------------------------------------------

    @store_operation
    async def claim_workflow(self, submission: Submission, *, newest: NewestSeen | None = None) -> Claim:
        """∅→pending under the mutex, or attach to the job that holds it.

        `created` also when an earlier call with this submission made the job and its answer
        was lost: claiming again with the same submission is safe. For `newest` it looks one round trip
        before it inserts: a job of that window finds the artifact and makes nothing.

        Raises:
            InvalidInput: the job id already names another job.
            NewerJob: another one than `newest` was made and has ended; nothing was changed.
            StoreUnavailable: nothing known, or the mutex changed hands too often.
        """
        if newest is not None:
            await self._refuse_newer(submission, newest)
        for _ in range(_TRIES):
            try:
                now = await self._clock.now()
                rank = await self._turns.take(submission.requester, submission.priority, now)
                document = new_job(submission, now, rank)
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

    async def _refuse_newer(self, submission: Submission, newest: NewestSeen) -> None:
        last = await self.latest(submission.workflow_key)
        if (
            last is not None
            and last.status.terminal
            and last.job_id not in (newest.job_id, submission.job_id)
        ):
            raise NewerJob

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
            job_id, now = seen["_id"], await self._clock.now()
            as_seen: Document = {"_id": job_id, "active": True}
            values: Document = {"cancel_requested": False, "updated_at": now}
            if seen["status"] == Status.PENDING:
                rank = await self._turns.peek(requester, priority, now)
                if rank < seen.get("rank", 0):
                    as_seen |= {"status": Status.PENDING.value, "rank": seen["rank"]}
                    values |= {"rank": rank, "queued_for": requester}
            joined = await self._jobs.update_one(
                as_seen,
                {
                    "$addToSet": {"requesters": requester, "asked_by": requester},
                    "$min": {"priority": int(priority)},
                    "$set": values,
                },
            )
            if joined.matched_count:
                return await self._load(job_id)
        raise StoreUnavailable("attach")

    # -- withdrawal ------------------------------------------------------------------------

    @store_operation
    async def request_cancel(self, job_id: JobId, requester: Requester | None) -> Job:
        """Withdraw a requester; None withdraws all. One who asked for nothing changes nothing."""
        for _ in range(_TRIES):
            seen = await self._jobs.find_one({"_id": job_id})
            if seen is None:
                raise NotFound("job", job_id)
            if Status(seen["status"]) not in edges.WITHDRAW.sources:
                raise NotCancellable(job_id, seen["status"])
            if requester is not None and requester not in seen["requesters"]:
                return to_job(seen)
            now = await self._clock.now()
            staying = [] if requester is None else [name for name in seen["requesters"] if name != requester]
            change: Document = {"requesters": staying, "updated_at": now}
            if staying and seen["status"] == Status.PENDING and seen.get("queued_for") not in staying:
                change["queued_for"] = staying[0]
            if not staying and seen["status"] == Status.PENDING:
                detail = (
                    "withdrawn by an operator" if requester is None else "withdrawn by everybody who asked"
                )
                change |= {
                    **self._ended(Status.CANCELLED, now),
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
    async def expire(self, before: datetime, limit: int) -> Sequence[Job]:
        """Pending jobs that have waited since before that fail with queue_expired; those this call ended.

        Old ones that wait anew are looked at each time; there are few of them.
        """
        old: Document = {"status": Status.PENDING.value, "created_at": {"$lt": before}}
        job_ids: list[str] = []
        fields = {"created_at": 1, "attempt": 1, "attempts": 1}
        seen = self._jobs.find(old, projection=fields, sort=[("created_at", 1)])
        async with seen:
            async for document in seen:
                attempts = [to_attempt(attempt) for attempt in document["attempts"]]
                if waiting_since(document["created_at"], attempts) >= before:
                    continue
                now = await self._clock.now()
                tried = [(attempt.reason, attempt.detail) for attempt in attempts]
                reason = {"reason": Reason.QUEUE_EXPIRED.value, "detail": queue_expired_detail(tried)}
                change = {"$set": {**self._ended(Status.FAILED, now), **reason}}
                as_seen = {**old, "_id": document["_id"], "attempt": document["attempt"]}
                if (await self._jobs.update_one(as_seen, change)).matched_count:
                    job_ids.append(document["_id"])
                if len(job_ids) >= limit:
                    break
        if not job_ids:
            return []
        return [to_job(document) for document in await self._jobs.find({"_id": {"$in": job_ids}}).to_list()]

    @store_operation
    async def forget_ended(self, ended_before: datetime, limit: int) -> int:
        """By age, so that few that go on are looked at in vain. By `expires_at` the server forgets, too."""
        # What an attempt used is counted before the job that says so is gone.
        old: Document = {"created_at": {"$lt": ended_before}, "active": False, "usage_due": {"$ne": True}}
        found = self._jobs.find(
            {**old, "finished_at": {"$lt": ended_before}},
            projection={"_id": 1},
            sort=[("created_at", 1)],
            limit=limit,
        )
        ids = [document["_id"] for document in await found.to_list()]
        if not ids:
            return 0
        still = {"_id": {"$in": ids}, "active": False, "usage_due": {"$ne": True}}
        return (await self._jobs.delete_many(still)).deleted_count
