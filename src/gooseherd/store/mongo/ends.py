"""How a held job ends: completed, failed, cancelled, or back in the queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from gooseherd.domain.artifact import Part
from gooseherd.domain.errors import StillWanted
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import NOT_KNOWN, AttemptEnd, Fence, Job, JobId
from gooseherd.domain.states import Status
from gooseherd.store import edges
from gooseherd.store.edges import Edge
from gooseherd.store.mongo.connect import Document, store_operation
from gooseherd.store.mongo.documents import from_parts
from gooseherd.store.mongo.fenced import NOT_HELD, OPEN_ATTEMPT, FencedWrites, lost


class JobEndWrites(FencedWrites):
    """The part of the JobStore port that ends attempts, and jobs that were leased."""

    @store_operation
    async def begin_finalize(self, job_id: JobId, fence: Fence, steps: Sequence[str] = ()) -> None:
        """running→finalizing, and the steps not recorded yet. Again by the same holder changes nothing."""
        update = {
            "$set": {"status": Status.FINALIZING.value, "updated_at": await self._clock.now()},
            "$addToSet": {"steps_completed": {"$each": list(steps)}},
        }
        if not await self._fenced(edges.BEGIN_FINALIZE, job_id, fence, update):
            await self._same(job_id, fence, "begin_finalize", lambda job: job.status is Status.FINALIZING)

    @store_operation
    async def finalize(
        self,
        job_id: JobId,
        fence: Fence,
        manifest_digest: str,
        parts: Sequence[Part],
        attempt: AttemptEnd = NOT_KNOWN,
    ) -> None:
        """finalizing→completed; frees the mutex. Again with the same digest changes nothing.

        Somebody waits for the bytes: the job is not read again.
        """
        now = await self._clock.now()
        update = {
            "$set": {
                **self._ended(Status.COMPLETED, now),
                **_attempt_ended(Reason.PUBLISHED, "", now, attempt),
                "reason": Reason.PUBLISHED.value,
                "manifest_digest": manifest_digest,
                "parts": from_parts(parts),
                "progress.percent": 100.0,
                "progress.eta_seconds": None,
            }
        }
        if not await self._fenced(edges.FINALIZE, job_id, fence, update, OPEN_ATTEMPT):
            await self._same(
                job_id,
                fence,
                "finalize",
                lambda job: job.status is Status.COMPLETED and job.manifest_digest == manifest_digest,
            )

    @store_operation
    async def release_workflow(
        self,
        job_id: JobId,
        fence: Fence,
        status: Status,
        failure: Failure,
        attempt: AttemptEnd = NOT_KNOWN,
    ) -> Job:
        """→failed or →cancelled; frees the mutex. The first writer's reason stands.

        Only a leased job can be released: one that went back to the queue has no holder.
        """
        if status not in (Status.FAILED, Status.CANCELLED):
            raise ValueError(f"a job is not released to {status}")
        now = await self._clock.now()
        update = {
            "$set": {
                **self._ended(status, now),
                **_attempt_ended(failure.reason, failure.detail, now, attempt),
                "reason": failure.reason.value,
                "detail": failure.detail,
            }
        }
        edge = edges.FAIL if status is Status.FAILED else edges.CANCEL
        return await self._end(
            edge, job_id, fence, "release_workflow", update,
            lambda job: job.status is status and (job.reason, job.detail) == (failure.reason, failure.detail),
        )  # fmt: skip

    @store_operation
    async def requeue(
        self,
        job_id: JobId,
        fence: Fence,
        failure: Failure,
        delay: timedelta,
        attempt: AttemptEnd = NOT_KNOWN,
    ) -> Job:
        """running/finalizing→pending, due after `delay`, at its old place in the queue."""
        now = await self._clock.now()
        update = {
            "$set": {
                **_attempt_ended(failure.reason, failure.detail, now, attempt),
                "status": Status.PENDING.value,
                "not_before": now + delay,
                "updated_at": now,
                **NOT_HELD,
            }
        }
        return await self._end(
            edges.REQUEUE, job_id, fence, "requeue", update,
            lambda job: job.status is Status.PENDING and _last_reason(job) is failure.reason,
        )  # fmt: skip

    async def _end(
        self,
        edge: Edge,
        job_id: JobId,
        fence: Fence,
        operation: str,
        update: Document,
        already: Callable[[Job], bool],
    ) -> Job:
        if not await self._fenced(edge, job_id, fence, update, OPEN_ATTEMPT):
            if edge.unwanted:
                await self._refuse_if_wanted(job_id, fence)
            return await self._same(job_id, fence, operation, already)
        job = await self._load(job_id)
        if job is None:  # jobs are never deleted while somebody works on them
            raise lost(job_id, fence, operation)
        return job

    async def _refuse_if_wanted(self, job_id: JobId, fence: Fence) -> None:
        """Raises StillWanted for a job that could be cancelled but for that."""
        job = await self._load(job_id)
        if (
            job is not None
            and (job.fence, job.status) == (fence, Status.RUNNING)
            and not job.cancel_requested
        ):
            raise StillWanted(job_id)


def _last_reason(job: Job) -> Reason | None:
    return job.attempts[-1].reason if job.attempts else None


def _attempt_ended(reason: Reason, detail: str, now: datetime, attempt: AttemptEnd) -> Document:
    return {
        "attempts.$.reason": reason.value,
        "attempts.$.detail": detail,
        "attempts.$.ended_at": now,
        "attempts.$.worked_until": attempt.worked_until,
        "attempts.$.bytes_in": attempt.bytes_in,
        "attempts.$.bytes_out": attempt.bytes_out,
        "usage_due": True,
    }
