"""Jobs, batches, the queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from gooseherd.client.models.display import Live
from gooseherd.client.models.model import Model
from gooseherd.domain.states import TERMINAL

JobStatus = Literal["pending", "running", "finalizing", "completed", "failed", "cancelled"]
BatchStatus = Literal["active", "completed", "partial", "failed", "cancelled"]
FileState = Literal["waiting", "pending", "running", "ready", "failed", "cancelled"]


@dataclass(frozen=True, eq=False)
class Waiting(Model):
    """Why a job does not go on just now."""

    reason: str = ""
    detail: str = ""
    wait_seconds: float | None = None
    next_try_at: datetime | None = None
    next_try_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Progress(Model):
    """How far an attempt is; `percent` is of the whole job and never falls."""

    step: str = ""
    percent: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    eta_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Part(Model):
    """An immutable object of an artifact; `sha256` is its ETag, `artifact_url` its address for good."""

    kind: str = ""
    size: int = 0
    sha256: str = ""
    filename: str = ""
    media_type: str = ""
    url: str = ""
    artifact_url: str | None = None
    key: str = ""


@dataclass(frozen=True, eq=False)
class Attempt(Model):
    """One try of a job."""

    number: int
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str | None = None
    detail: str = ""
    worker_id: str | None = None
    dispatched: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Job(Live):
    """A job. In a notebook it is shown as a bar that goes on moving until the job has ended."""

    job_id: str
    status: JobStatus
    dcc: str = ""
    local_id: str = ""
    filename: str = ""
    file_format: str = ""
    processor: str = ""
    processor_version: str = ""
    priority: str = "normal"
    position: int | None = None
    created_at: datetime | None = None
    enqueued_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    not_before: datetime | None = None
    waiting: Waiting | None = None
    session_id: str | None = None
    attempt: int = 0
    attempts: tuple[Attempt, ...] = ()
    cancel_requested: bool = False
    steps_completed: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    progress: Progress = field(default_factory=Progress)
    reason: str | None = None
    detail: str = ""
    retryable: bool = False
    manifest_digest: str | None = None
    notes: tuple[str, ...] = ()
    counts: Mapping[str, int] | None = None
    requester_count: int = 0
    requesters: tuple[str, ...] | None = None
    job_url: str = ""
    events_url: str = ""
    data_url: str = ""
    index_url: str = ""
    density_url: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it is at its end, whichever."""
        return self.status in TERMINAL

    @property
    def file(self) -> str:
        """DCC/ID."""
        return f"{self.dcc}/{self.local_id}"


@dataclass(frozen=True, eq=False)
class JobTicket(Model):
    """A job that was just asked for."""

    job_id: str
    status: JobStatus
    percent: float = 0.0
    position: int | None = None
    waiting: Waiting | None = None
    job_url: str = ""
    events_url: str = ""
    data_url: str = ""
    index_url: str = ""


@dataclass(frozen=True, eq=False)
class FileCounts(Model):
    """Files of a batch by where they stand."""

    waiting: int = 0
    pending: int = 0
    running: int = 0
    ready: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(frozen=True, eq=False)
class BatchFile(Model):
    """What became of one file of a batch."""

    dcc: str
    local_id: str
    state: FileState
    number: int = 0
    reason: str | None = None
    detail: str = ""
    retryable: bool = False
    job_id: str | None = None
    job_url: str | None = None
    data_url: str = ""
    artifact_urls: Mapping[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Batch(Live):
    """Files that are prepared as one thing, shown as a job is; `percent` is of the files that have ended."""

    batch_id: str
    status: BatchStatus
    total: int = 0
    counts: FileCounts = field(default_factory=FileCounts)
    percent: float = 0.0
    created_at: datetime | None = None
    ended_at: datetime | None = None
    cancel_requested: bool = False
    failures: tuple[BatchFile, ...] | None = None
    requester: str | None = None
    batch_url: str = ""
    events_url: str = ""
    files_url: str = ""

    @property
    def ended(self) -> bool:
        """Whether all its files have ended."""
        return self.status != "active"


@dataclass(frozen=True, eq=False)
class PriorityCounts(Model):
    """Jobs by priority."""

    interactive: int = 0
    normal: int = 0
    batch: int = 0


@dataclass(frozen=True, eq=False)
class Waits(Model):
    """How long the jobs that were started last had waited, in seconds."""

    p50: float | None = None
    p95: float | None = None


@dataclass(frozen=True, eq=False)
class Finalizer(Model):
    """A job that the process which answered is finalizing."""

    job_id: str
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class RequesterQueue(Model):
    """One requester's jobs."""

    pending: int = 0
    running: int = 0


@dataclass(frozen=True, eq=False)
class Queue(Model):
    """Who waits, and for how long; what runs and who finalizes."""

    pending: int
    running: int = 0
    finalizing: int = 0
    active: int = 0
    pending_by_priority: PriorityCounts = field(default_factory=PriorityCounts)
    oldest_seconds: float | None = None
    wait_seconds: Waits = field(default_factory=Waits)
    finalizers_active: int = 0
    finalizers_owned: tuple[Finalizer, ...] = ()
    finalizer_defers_total: int = 0
    requesters_running: int = 0
    requesters: Mapping[str, RequesterQueue] | None = None
