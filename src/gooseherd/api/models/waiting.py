"""What a job waits for."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import Field

from gooseherd.api.address_redaction import without_paths
from gooseherd.api.models.response import ResponseModel
from gooseherd.control.queue_statistics import QueuePlace
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import Job
from gooseherd.domain.states import Status


class WaitingView(ResponseModel):
    """Why a job does not go on just now, and when it will be tried again."""

    reason: str = Field(
        description="`queued`, `launching` (a worker is being started), else from the list of reasons.",
        examples=["source_unavailable"],
    )
    detail: str = Field(examples=["upstream host name does not resolve"])
    wait_seconds: float | None = Field(
        default=None,
        description="Of what is queued or launching: until a worker has it, by the work before it and the "
        "time that launches take, or as fast as jobs were started lately; null: unknown.",
    )
    next_try_at: datetime | None = Field(description="UTC; null when no time is set.")
    next_try_seconds: float | None = Field(description="Counted from this response; 0 when it is due.")

    @classmethod
    def of(
        cls, job: Job, now: datetime, *, place: QueuePlace | None, admin: bool = False
    ) -> WaitingView | None:
        """What `job` waits for; None when it works, or has ended. `now` is by the store's clock."""
        progress, tried = job.progress, job.attempts[-1] if job.attempts else None
        if job.status is Status.PENDING:
            if job.not_before is not None and job.not_before > now and tried is not None and tried.reason:
                return cls._until(job.not_before, now, tried.reason, without_paths(tried.detail, admin=admin))
            return cls(
                reason="queued",
                detail=_queued(place),
                wait_seconds=place.wait_seconds if place else None,
                next_try_at=None,
                next_try_seconds=None,
            )
        if job.status is not Status.RUNNING:
            return None
        if progress.waiting and progress.waiting_until is not None:
            again = datetime.fromtimestamp(progress.waiting_until, UTC)
            return cls._until(
                again, now, Reason.SOURCE_UNAVAILABLE, without_paths(progress.waiting, admin=admin)
            )
        if job.worker_id is None:
            return cls(
                reason="launching",
                detail=_about("a worker is being started", place),
                wait_seconds=place.wait_seconds if place else None,
                next_try_at=None,
                next_try_seconds=None,
            )
        return None

    @classmethod
    def _until(cls, again: datetime, now: datetime, reason: Reason, detail: str) -> WaitingView:
        return cls(
            reason=reason,
            detail=detail,
            next_try_at=again,
            next_try_seconds=round(max((again - now).total_seconds(), 0.0), 1),
        )


def _queued(place: QueuePlace | None) -> str:
    if place is None:
        return "in the queue"
    if place.at_limit:
        return "in the queue, until one of the requester's running jobs ends"
    if not place.position:
        return _about("next in the queue, for a worker that is free", place)
    jobs = "jobs" if place.position > 1 else "job"
    return _about(f"in the queue, behind {place.position} other {jobs}", place)


def _about(what: str, place: QueuePlace | None) -> str:
    """With how long it will take, if that is known; of less than a second nothing is said."""
    if place is None or not place.wait_seconds or (place.wait_seconds < 1 and not place.position):
        return what
    return f"{what}, about {_span(place.wait_seconds)}"


def _span(seconds: float) -> str:
    """Rounded as an estimate is."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{round(seconds / 3600)} h"
