"""Jobs, their attempts, and the queue."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import Field

from gooseherd.api.address_redaction import without_paths
from gooseherd.api.models.artifacts import counts_of, notes_of
from gooseherd.api.models.response import Link, PartWord, PriorityWord, ResponseModel, StatusWord
from gooseherd.api.models.waiting import WaitingView
from gooseherd.control.queue_statistics import QueuePlace, QueueSnapshot
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.failures import Reason, retryable
from gooseherd.domain.job import AttemptRecord, Job
from gooseherd.domain.states import Status

STARTING: Final = "starting a worker"
"""The step of an attempt that has no worker yet, which may take a minute."""


class Accepted(ResponseModel):
    """The artifact is being made; `Location` names the job, `Retry-After` says when to ask again."""

    job_id: str
    status: StatusWord
    percent: float = Field(ge=0, le=100)
    position: int | None = Field(description="Jobs before it in the queue; null when it has left the queue.")
    waiting: WaitingView | None = Field(description="Why it does not go on just now, if so.")
    job_url: str
    events_url: str
    data_url: str
    index_url: str

    @classmethod
    def of(
        cls,
        job: Job,
        link: Link,
        paths: Mapping[Kind, str],
        *,
        now: datetime,
        place: QueuePlace | None,
        admin: bool = False,
    ) -> Accepted:
        """What a caller needs to follow `job`; `paths` is where its parts will be."""
        return cls(
            job_id=job.job_id,
            status=job.status.value,
            percent=round(job.progress.percent, 1),
            position=place.position if place else None,
            waiting=WaitingView.of(job, now, place=place, admin=admin),
            job_url=link(f"/jobs/{job.job_id}"),
            events_url=link(f"/jobs/{job.job_id}/events"),
            data_url=link(paths[Kind.DATA]),
            index_url=link(paths[Kind.INDEX]),
        )


class PartView(ResponseModel):
    """One immutable object of an artifact; `sha256` is its strong ETag."""

    kind: PartWord
    key: str
    size: int
    sha256: str
    filename: str
    media_type: str
    url: str = Field(description="Where it is served once the job is completed.")
    artifact_url: str | None = Field(
        description="Where its bytes are served for good, by their digest; null before the job is completed."
    )

    @classmethod
    def of(cls, part: Part, url: str, artifact_url: str | None) -> PartView:
        """The part as clients see it."""
        return cls(
            kind=part.kind.value,
            key=part.key,
            size=part.size,
            sha256=part.sha256,
            filename=part.filename,
            media_type=part.media_type,
            url=url,
            artifact_url=artifact_url,
        )


class ProgressView(ResponseModel):
    """How far the current attempt is; `percent` is of the whole job and never falls."""

    step: str
    percent: float
    bytes_in: int
    bytes_out: int
    eta_seconds: float | None

    @classmethod
    def of(cls, job: Job) -> ProgressView:
        """The job's progress as clients see it."""
        progress = job.progress
        return cls(
            step=progress.step or (STARTING if job.status is Status.RUNNING and not job.worker_id else ""),
            percent=round(progress.percent, 1),
            bytes_in=progress.bytes_in,
            bytes_out=progress.bytes_out,
            eta_seconds=progress.eta_seconds,
        )


class AttemptView(ResponseModel):
    """One try of a job. Only the admin sees its `worker_id` and what was `dispatched`."""

    number: int
    started_at: datetime | None
    ended_at: datetime | None
    reason: str | None
    detail: str
    worker_id: str | None = None
    dispatched: dict[str, Any] | None = Field(
        default=None, description="What its worker was sent beside the file and the processor: build, limits."
    )

    @classmethod
    def of(cls, record: AttemptRecord, *, admin: bool) -> AttemptView:
        """The attempt as a client or the admin sees it."""
        return cls(
            number=record.number,
            started_at=record.started_at,
            ended_at=record.ended_at,
            reason=record.reason,
            detail=without_paths(record.detail, admin=admin),
            worker_id=record.worker_id if admin else None,
            dispatched=dict(record.dispatched) if admin and record.dispatched is not None else None,
        )


class JobFields(ResponseModel):
    """What is shown of a job wherever one is shown. Times are UTC, by the store's clock."""

    job_id: str
    status: StatusWord
    dcc: str
    local_id: str
    filename: str
    file_format: str
    processor: str = Field(description="`names`: it makes the index of names beside the file's own artifact.")
    position: int | None = Field(
        default=None, description="Jobs before it in the queue; only where a single pending job is asked for."
    )
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    waiting: WaitingView | None = Field(description="Why it does not go on just now, if so.")
    attempt: int
    cancel_requested: bool
    progress: ProgressView
    reason: str | None = Field(description="From the closed list of reasons; null while it lives.")
    detail: str
    retryable: bool = Field(description="After a failure: whether a new try may end better.")
    job_url: str


class JobSummary(JobFields):
    """What a list or a page shows of a job; `job_url` has all of it."""

    @classmethod
    def of(
        cls, job: Job, link: Link, *, now: datetime, place: QueuePlace | None = None, admin: bool = False
    ) -> JobSummary:
        """The job in short, as a client or the admin sees it; `now` is by the store's clock."""
        return cls(**_in_short(job, link, now, place, admin=admin))


class JobView(JobFields):
    """A job as clients follow it. Times are UTC, by the store's clock."""

    processor_version: str
    priority: PriorityWord
    enqueued_at: datetime
    updated_at: datetime
    not_before: datetime | None
    session_id: str | None = Field(description="The session whose worker it has, or had last.")
    attempts: list[AttemptView]
    steps_completed: list[str]
    parts: list[PartView]
    manifest_digest: str | None
    notes: list[str] = Field(
        description="What was dropped, changed or could not be done; only for a single completed job."
    )
    counts: dict[str, int] = Field(
        description="Such as records read or lines dropped; only for a single completed job."
    )
    requester_count: int
    requesters: list[str] | None = Field(default=None, description="For the admin only.")
    events_url: str
    data_url: str
    index_url: str
    density_url: str | None = Field(default=None, description="Once the artifact has a density.")

    @classmethod
    def of(
        cls,
        job: Job,
        link: Link,
        paths: Mapping[Kind, str],
        *,
        artifacts: Mapping[Kind, str],
        now: datetime,
        place: QueuePlace | None = None,
        manifest: Manifest | None = None,
        admin: bool = False,
    ) -> JobView:
        """The job as a client or the admin sees it; `now` is by the store's clock.

        `paths` is where its parts are, or will be; `artifacts` where their bytes are for good; `manifest`
        is what it published, None when its notes and counts are not to be shown.
        """
        return cls(
            **_in_short(job, link, now, place, admin=admin),
            processor_version=job.recipe.processor_version,
            priority=_priority(job),
            enqueued_at=job.enqueued_at,
            updated_at=job.updated_at,
            not_before=job.not_before,
            attempts=[AttemptView.of(record, admin=admin) for record in job.attempts],
            session_id=job.session_id,
            steps_completed=list(job.steps_completed),
            parts=[
                PartView.of(
                    part,
                    link(paths[part.kind]),
                    link(artifacts[part.kind]) if part.kind in artifacts else None,
                )
                for part in job.parts
            ],
            manifest_digest=job.manifest_digest,
            notes=notes_of(manifest) if manifest else [],
            counts=counts_of(manifest) if manifest else {},
            requester_count=len(job.requesters),
            requesters=list(job.requesters) if admin else None,
            events_url=link(f"/jobs/{job.job_id}/events"),
            data_url=link(paths[Kind.DATA]),
            index_url=link(paths[Kind.INDEX]),
            density_url=link(paths[Kind.DENSITY])
            if any(part.kind is Kind.DENSITY for part in job.parts)
            else None,
        )


def _in_short(
    job: Job, link: Link, now: datetime, place: QueuePlace | None, *, admin: bool
) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "status": job.status.value,
        "dcc": job.source.dcc,
        "local_id": job.source.local_id,
        "filename": job.source.filename,
        "file_format": job.recipe.source_format.name,
        "processor": job.recipe.processor,
        "position": place.position if place else None,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "waiting": WaitingView.of(job, now, place=place, admin=admin),
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested,
        "progress": ProgressView.of(job),
        "reason": job.reason,
        "detail": without_paths(job.detail, admin=admin),
        "retryable": isinstance(job.reason, Reason) and retryable(job.reason),
        "job_url": link(f"/jobs/{job.job_id}"),
    }


def _priority(job: Job) -> PriorityWord:
    words: tuple[PriorityWord, ...] = ("interactive", "normal", "batch")
    return words[job.priority]


class JobList(ResponseModel):
    """One page of jobs, newest first; `next` goes into `after`."""

    jobs: list[JobView]
    next: str | None


class PriorityCounts(ResponseModel):
    """Jobs by priority."""

    interactive: int = Field(ge=0)
    normal: int = Field(ge=0)
    batch: int = Field(ge=0)


class Waits(ResponseModel):
    """How long the jobs that were started last had waited, in seconds; null when there are none."""

    p50: float | None
    p95: float | None


class Finalizer(ResponseModel):
    """A job that this API process is finalizing, and for how long."""

    job_id: str
    seconds: float


class RequesterQueue(ResponseModel):
    """One requester's jobs, by whose turn they take."""

    pending: int
    running: int


class QueueView(ResponseModel):
    """The queue of all API processes within the last second; `finalizers_*` are of the one that answers."""

    pending: int
    running: int
    finalizing: int
    active: int
    pending_by_priority: PriorityCounts
    oldest_seconds: float | None = Field(description="Of the job that waits longest; null: none waits.")
    wait_seconds: Waits
    finalizers_active: int
    finalizers_owned: list[Finalizer]
    finalizer_defers_total: int = Field(description="Stale jobs left alone because their finalizer lives.")
    requesters_running: int
    requesters: dict[str, RequesterQueue] | None = Field(default=None, description="For the admin only.")

    @classmethod
    def of(cls, seen: QueueSnapshot, *, admin: bool) -> QueueView:
        """The snapshot as a client or the admin sees it."""
        counts = {status: max(count, 0) for status, count in seen.counts.items()}
        pending = seen.pending_by_requester
        return cls(
            pending=counts.get(Status.PENDING, 0),
            running=counts.get(Status.RUNNING, 0),
            finalizing=counts.get(Status.FINALIZING, 0),
            active=sum(counts.values()),
            pending_by_priority=PriorityCounts(
                **{priority.label: count for priority, count in seen.by_priority.items()}
            ),
            oldest_seconds=seen.oldest_seconds,
            wait_seconds=Waits(p50=seen.wait_seconds(50), p95=seen.wait_seconds(95)),
            finalizers_active=len(seen.finalizers),
            finalizers_owned=[
                Finalizer(job_id=job_id, seconds=round(seconds, 1))
                for job_id, seconds in seen.finalizers.items()
            ],
            finalizer_defers_total=seen.defers_total,
            requesters_running=len(seen.running),
            requesters={
                name: RequesterQueue(pending=pending.get(name, 0), running=seen.running.get(name, 0))
                for name in sorted({*pending, *seen.running})
            }
            if admin
            else None,
        )
