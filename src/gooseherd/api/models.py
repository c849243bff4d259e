"""The JSON of the API: what answers look like, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from gooseherd.control.assignments import attempt_of
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.failures import Reason, retryable
from gooseherd.domain.job import AttemptRecord, Job
from gooseherd.domain.ports.fleet import WorkerHealth, WorkerView
from gooseherd.domain.source import AccessLevel, SourceFile
from gooseherd.domain.states import Status

Link = Callable[[str], str]
"""From a path of this API to an absolute URL."""

StatusWord = Literal["pending", "running", "finalizing", "completed", "failed", "cancelled"]
PriorityWord = Literal["interactive", "normal", "batch"]


class ResponseModel(BaseModel):
    """An answer; members may be added, so readers ignore what they do not know."""

    model_config = ConfigDict(extra="forbid")


class ProblemView(BaseModel):
    """RFC 9457 problem details; an error's own members follow the standard ones."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["/problems/not-found"], description="Stable; compare it, not the title.")
    title: str
    status: int
    detail: str
    instance: str = Field(description="The path that was asked for.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    request_id: str


class WaitingView(ResponseModel):
    """Why a job does not go on just now, and when it will be tried again."""

    reason: str = Field(
        description="`queued`, `launching` (a worker is being started), else from the list of reasons.",
        examples=["source_unavailable"],
    )
    detail: str = Field(examples=["upstream host name does not resolve"])
    next_try_at: datetime | None = Field(description="UTC; null when no time is set.")
    next_try_seconds: float | None = Field(description="From when this was said; 0 when it is due.")

    @classmethod
    def of(cls, job: Job, now: datetime, *, position: int | None) -> WaitingView | None:
        """What `job` waits for; None when it works, or has ended. `now` is by the store's clock."""
        progress, tried = job.progress, job.attempts[-1] if job.attempts else None
        if job.status is Status.PENDING:
            if job.not_before is not None and job.not_before > now and tried is not None and tried.reason:
                return cls._until(job.not_before, now, tried.reason, tried.detail)
            return cls(
                reason="queued",
                detail=_queued(position),
                next_try_at=None,
                next_try_seconds=None,
            )
        if job.status is not Status.RUNNING:
            return None
        if progress.waiting and progress.waiting_until is not None:
            again = datetime.fromtimestamp(progress.waiting_until, UTC)
            return cls._until(again, now, Reason.SOURCE_UNAVAILABLE, progress.waiting)
        if job.worker_id is None:
            return cls(
                reason="launching",
                detail="a worker is being started",
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


def _queued(position: int | None) -> str:
    if position is None:
        return "in the queue"
    if position == 0:
        return "next in the queue, for a worker that is free"
    return f"in the queue, behind {position} other job{'s' if position > 1 else ''}"


class Accepted(ResponseModel):
    """The artifact is being made; `Location` names the job, `Retry-After` when to ask again."""

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
    def of(cls, job: Job, link: Link, *, now: datetime, position: int | None) -> Accepted:
        """What a caller needs to follow `job`."""
        name = job.source.name
        return cls(
            job_id=job.job_id,
            status=job.status.value,
            percent=round(job.progress.percent, 1),
            position=position,
            waiting=WaitingView.of(job, now, position=position),
            job_url=link(f"/jobs/{job.job_id}"),
            events_url=link(f"/jobs/{job.job_id}/events"),
            data_url=link(f"/data/{name}"),
            index_url=link(f"/index/{name}"),
        )


class PartView(ResponseModel):
    """One immutable object of an artifact; `sha256` is its strong ETag."""

    kind: Literal["data", "index", "density"]
    key: str
    size: int
    sha256: str
    filename: str
    media_type: str

    @classmethod
    def of(cls, part: Part) -> PartView:
        """The part as told."""
        return cls(
            kind=part.kind.value,
            key=part.key,
            size=part.size,
            sha256=part.sha256,
            filename=part.filename,
            media_type=part.media_type,
        )


class ProgressView(ResponseModel):
    """How far the current attempt is; `percent` is of the whole job and never falls."""

    step: str
    percent: float
    bytes_in: int
    bytes_out: int
    eta_seconds: float | None


class AttemptView(ResponseModel):
    """One try of a job. `worker_id` is told to the admin only."""

    number: int
    started_at: datetime | None
    ended_at: datetime | None
    reason: str | None
    detail: str
    worker_id: str | None = None

    @classmethod
    def of(cls, record: AttemptRecord, *, admin: bool) -> AttemptView:
        """The attempt as told."""
        return cls(
            number=record.number,
            started_at=record.started_at,
            ended_at=record.ended_at,
            reason=record.reason,
            detail=record.detail,
            worker_id=record.worker_id if admin else None,
        )


class JobView(ResponseModel):
    """A job as clients follow it. Times are UTC, by the store's clock."""

    job_id: str
    status: StatusWord
    dcc: str
    local_id: str
    filename: str
    file_format: str
    processor: str
    processor_version: str
    priority: PriorityWord
    position: int | None = Field(
        default=None, description="Jobs before it in the queue; only told of a single pending job."
    )
    created_at: datetime
    enqueued_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    not_before: datetime | None
    waiting: WaitingView | None = Field(description="Why it does not go on just now, if so.")
    attempt: int
    attempts: list[AttemptView]
    cancel_requested: bool
    steps_completed: list[str]
    parts: list[PartView]
    progress: ProgressView
    reason: str | None = Field(description="From the closed list of reasons; null while it lives.")
    detail: str
    retryable: bool = Field(description="After a failure: whether a new try may end better.")
    manifest_digest: str | None
    notes: list[str] = Field(
        description="What was dropped, changed or could not be done; told of a single completed job."
    )
    counts: dict[str, int] = Field(
        description="Such as records read or lines dropped; told of a single completed job."
    )
    requester_count: int
    requesters: list[str] | None = Field(default=None, description="Told to the admin only.")
    job_url: str
    events_url: str
    data_url: str
    index_url: str
    density_url: str | None = Field(default=None, description="Once the artifact has a density.")

    @classmethod
    def of(
        cls,
        job: Job,
        link: Link,
        *,
        now: datetime,
        position: int | None = None,
        manifest: Manifest | None = None,
        admin: bool = False,
    ) -> JobView:
        """The job as told to a client or to the admin; `now` is by the store's clock.

        `manifest` is what it published, as far as that is to be told.
        """
        name = job.source.name
        progress = job.progress
        return cls(
            job_id=job.job_id,
            status=job.status.value,
            dcc=job.source.dcc,
            local_id=job.source.local_id,
            filename=job.source.filename,
            file_format=job.recipe.source_format.name,
            processor=job.recipe.processor,
            processor_version=job.recipe.processor_version,
            priority=_priority(job),
            position=position,
            created_at=job.created_at,
            enqueued_at=job.enqueued_at,
            updated_at=job.updated_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            not_before=job.not_before,
            waiting=WaitingView.of(job, now, position=position),
            attempt=job.attempt,
            attempts=[AttemptView.of(record, admin=admin) for record in job.attempts],
            cancel_requested=job.cancel_requested,
            steps_completed=list(job.steps_completed),
            parts=[PartView.of(part) for part in job.parts],
            progress=ProgressView(
                step=progress.step,
                percent=round(progress.percent, 1),
                bytes_in=progress.bytes_in,
                bytes_out=progress.bytes_out,
                eta_seconds=progress.eta_seconds,
            ),
            reason=job.reason,
            detail=job.detail,
            retryable=isinstance(job.reason, Reason) and retryable(job.reason),
            manifest_digest=job.manifest_digest,
            notes=notes_of(manifest) if manifest else [],
            counts=counts_of(manifest) if manifest else {},
            requester_count=len(job.requesters),
            requesters=list(job.requesters) if admin else None,
            job_url=link(f"/jobs/{job.job_id}"),
            events_url=link(f"/jobs/{job.job_id}/events"),
            data_url=link(f"/data/{name}"),
            index_url=link(f"/index/{name}"),
            density_url=link(f"/density/{name}")
            if any(part.kind is Kind.DENSITY for part in job.parts)
            else None,
        )


def _priority(job: Job) -> PriorityWord:
    words: tuple[PriorityWord, ...] = ("interactive", "normal", "batch")
    return words[job.priority]


class JobList(ResponseModel):
    """One page of jobs, newest first; `next` goes into `after`."""

    jobs: list[JobView]
    next: str | None


class Readiness(ResponseModel):
    """Whether a GET would answer bytes now; asking starts nothing."""

    ready: bool
    job_id: str | None = None
    status: StatusWord | None = None
    job_url: str | None = None
    size: int | None = None
    etag: str | None = None


class SidecarView(ResponseModel):
    """An index that upstream publishes."""

    kind: str
    access_url: str | None
    size_in_bytes: int | None


class FileView(ResponseModel):
    """A catalog entry. Addresses of files that are not public are told to the admin only."""

    dcc: str
    local_id: str
    filename: str
    file_format: str
    access_url: str | None
    md5: str | None
    sha256: str | None
    size_in_bytes: int | None
    version_tag: str | None
    data_access_level: str
    status: str
    sidecars: list[SidecarView]
    identity: str = Field(description="What keys are made of; `weak-…` when no digest is known.")
    data_url: str
    index_url: str

    @classmethod
    def of(cls, entry: SourceFile, link: Link, *, admin: bool) -> FileView:
        """The entry as told to a client or to the admin."""
        fields: dict[str, Any] = entry.to_json()
        if entry.access_level is not AccessLevel.PUBLIC and not admin:
            fields["access_url"] = None
            fields["sidecars"] = [{**sidecar, "access_url": None} for sidecar in fields["sidecars"]]
        return cls(
            **fields,
            identity=str(entry.identity),
            data_url=link(f"/data/{entry.name}"),
            index_url=link(f"/index/{entry.name}"),
        )


class FileList(ResponseModel):
    """One page of the catalog by (dcc, local_id); `next` goes into `after`."""

    files: list[FileView]
    next: str | None


class Registered(ResponseModel):
    """How many entries were stored, and how many of them were new."""

    imported: int
    new: int


class Removed(ResponseModel):
    """What became of an entry that was taken out, and of the work on its content."""

    dcc: str
    local_id: str
    filename: str
    access_url: str
    identity: str
    same_content: list[str] = Field(
        description="Other entries (DCC/ID) with this content, at most 10; with one, the job goes on."
    )
    job_id: str | None = Field(description="The job that was working on this content, if one was.")
    job_withdrawn: bool = Field(description="Whether that job was cancelled, or asked to stop.")


class LineError(ResponseModel):
    """A line of an import that was not stored."""

    line: int = Field(ge=1)
    field: str | None
    problem: str


class Imported(Registered):
    """What became of an import; `errors` has the first 100 of the `failed`."""

    failed: int
    errors: list[LineError]


NOTES_TOLD: Final = 50
COUNTS_TOLD: Final = 200
_NOTE_CHARACTERS: Final = 1000
CONTIGS_TOLD: Final = 10_000


def notes_of(manifest: Manifest) -> list[str]:
    """The first NOTES_TOLD notes, each of bounded length; how many more there are is a note too."""
    notes = [
        note if len(note) <= _NOTE_CHARACTERS else note[:_NOTE_CHARACTERS] + "…"
        for note in manifest.notes[:NOTES_TOLD]
    ]
    more = len(manifest.notes) - len(notes)
    return [*notes, f"{more} more notes"] if more > 0 else notes


def counts_of(manifest: Manifest) -> dict[str, int]:
    """The first COUNTS_TOLD counts by name."""
    return dict(sorted(manifest.counts.items())[:COUNTS_TOLD])


class ManifestPart(ResponseModel):
    """One object of an artifact; `sha256` is its strong ETag."""

    kind: Literal["data", "index", "density"]
    size: int
    sha256: str
    filename: str
    media_type: str
    url: str


class ManifestView(ResponseModel):
    """What was made of a file: its parts, by what, and what was noticed on the way."""

    dcc: str
    local_id: str
    source: str = Field(description="Identity of the source's content; `weak-…` without a checksum.")
    source_format: str
    processor: str
    processor_version: str
    digest: str = Field(description="sha256 of the manifest; the job that made it has it too.")
    parts: list[ManifestPart]
    counts: dict[str, int] = Field(description="Such as records read, lines dropped and why.")
    notes: list[str] = Field(description="What was dropped, changed or could not be done, for people.")
    tools: dict[str, str] = Field(description="Versions of the programs that made it.")
    contig_count: int
    contigs: list[tuple[str, int | None]] | None = Field(
        default=None, description="With `?contigs=true`: the first 10000; `contigs_url` has all."
    )
    contigs_url: str

    @classmethod
    def of(cls, entry: SourceFile, manifest: Manifest, link: Link, *, contigs: bool) -> ManifestView:
        """The manifest as told to a client: no keys of the cache."""
        return cls(
            dcc=entry.dcc,
            local_id=entry.local_id,
            source=manifest.source,
            source_format=manifest.source_format,
            processor=manifest.processor,
            processor_version=manifest.processor_version,
            digest=manifest.digest,
            parts=[
                ManifestPart(
                    kind=part.kind.value,
                    size=part.size,
                    sha256=part.sha256,
                    filename=part.filename,
                    media_type=part.media_type,
                    url=link(f"/{part.kind}/{entry.name}"),
                )
                for part in manifest.parts
            ],
            counts=counts_of(manifest),
            notes=notes_of(manifest),
            tools=dict(manifest.tools),
            contig_count=len(manifest.contigs),
            contigs=[(contig.name, contig.length) for contig in manifest.contigs[:CONTIGS_TOLD]]
            if contigs
            else None,
            contigs_url=link(f"/contigs/{entry.name}"),
        )


class Contigs(ResponseModel):
    """Reference sequences, in the shape of a Gosling `assembly`; a length may be unknown (null)."""

    contigs: list[tuple[str, int | None]] = Field(examples=[[["chr1", 248956422], ["chr2", 242193529]]])


class QueueView(ResponseModel):
    """The queue now. `requesters` (running jobs of each) is told to the admin only."""

    pending: int
    running: int
    finalizing: int
    active: int
    finalizers_active: int
    finalizer_defers_total: int
    requesters_running: int
    requesters: dict[str, int] | None = None


class FleetMember(ResponseModel):
    """A worker. `attempt` and `job_id` are those that work with it now."""

    worker_id: str
    health: Literal["starting", "healthy", "unhealthy", "draining", "gone"]
    job_id: str | None
    job_url: str | None
    attempt: str | None = Field(description="JOB.NUMBER")
    launched_for: str | None = Field(description="The attempt it was launched for, if that is told.")
    warm: bool = Field(description="Idle, and kept for the next job by the process that answers.")
    started_at: datetime | None
    age_seconds: float | None
    size: str
    detail: str
    diagnosis: str | None = Field(description="Why it ended.")

    @classmethod
    def of(cls, worker: WorkerView, job: Job | None, link: Link, *, now: datetime) -> FleetMember:
        """The worker as told to the admin; `job` works with it, `now` is by the store's clock."""
        started = datetime.fromtimestamp(worker.started_at, UTC) if worker.started_at else None
        gone = worker.health is WorkerHealth.GONE
        return cls(
            worker_id=worker.worker_id,
            health=worker.health.value,
            job_id=job.job_id if job else None,
            job_url=link(f"/jobs/{job.job_id}") if job else None,
            attempt=attempt_of(job) if job else worker.attempt,
            launched_for=worker.launched_for,
            warm=worker.warm,
            started_at=started,
            age_seconds=max(0.0, round((now - started).total_seconds(), 1)) if started and not gone else None,
            size=worker.size,
            detail="" if gone else worker.detail,
            diagnosis=worker.detail if gone else None,
        )


class FleetView(ResponseModel):
    """Live workers, the oldest first; then those that ended lately, the newest first."""

    slots: int = Field(ge=0, description="How many more workers could be had now.")
    workers: list[FleetMember]
    ended: list[FleetMember]


class Health(ResponseModel):
    """The process answers."""

    status: Literal["ok"]
    version: str
    build: str


class Ready(ResponseModel):
    """Dependencies by name: "ok" or the problem."""

    status: Literal["ok", "unready"]
    dependencies: dict[str, str]
