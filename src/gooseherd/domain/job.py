"""A job: one effort to publish one workflow key, with every attempt made for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NewType

from gooseherd.domain.artifact import Part
from gooseherd.domain.failures import Reason
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.domain.states import Status
from gooseherd.domain.visibility import Visibility
from gooseherd.domain.worker_size import WorkerResources

JobId = NewType("JobId", str)
Fence = NewType("Fence", int)
"""Grows with each lease and guards every write of its holder."""
Owner = NewType("Owner", str)
"""One API process, named so that it knows its own leases again after a restart."""
Requester = NewType("Requester", str)
WorkerId = NewType("WorkerId", str)
"""Names a worker for as long as it lives, so that another API process can find it again."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt has come. `percent` is of the whole job, 0 to 100, never falling."""

    step: str = ""
    percent: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    eta_seconds: float | None = None
    seq: int = 0
    """Journal position of the newest event seen; adoption watches from the one after."""
    waiting: str = ""
    """What the attempt waits for before it goes on, for people; empty: it does not."""
    waiting_until: float | None = None
    """When it tries again, Unix seconds by the worker's clock."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Time-bounded ownership of a job. `expires_at` is by the store's clock."""

    owner: Owner
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try: which worker, how it ended. `reason` is None while it runs."""

    number: int
    worker_id: WorkerId | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: Reason | None = None
    detail: str = ""
    dispatched: Mapping[str, Any] | None = None
    """What its worker was sent beside the job's source and recipe: `build`, `limits`, `session_id`."""
    assigned_at: datetime | None = None
    """Since when it has its worker."""
    resources: WorkerResources | None = None
    """Of that worker, as far as its fleet tells."""
    worked_until: datetime | None = None
    """When its worker ended before the attempt's end was known."""
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """What the end of an attempt is recorded with, beside how it ended."""

    bytes_in: int = 0
    bytes_out: int = 0
    worked_until: datetime | None = None
    """Its worker had ended by then."""


NOT_KNOWN: Final = AttemptEnd()
"""Of an attempt of which only the end itself is known."""


@dataclass(frozen=True, slots=True)
class Submission:
    """All it takes to insert a job; the request as dispatched stays with the job."""

    job_id: JobId
    workflow_key: WorkflowKey
    source: SourceFile
    recipe: Recipe
    priority: Priority
    requester: Requester
    traceparent: str | None = None
    """Where in a trace it was asked for (traceparent.py); None: in none."""


@dataclass(frozen=True, slots=True)
class NewestSeen:
    """The newest job of a workflow key when the caller looked for it; None: there was none."""

    job_id: JobId | None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the store has it. Times are UTC, by the store's clock."""

    job_id: JobId
    workflow_key: WorkflowKey
    source: SourceFile
    recipe: Recipe
    status: Status
    priority: Priority
    requesters: tuple[Requester, ...]
    created_at: datetime
    enqueued_at: datetime
    updated_at: datetime
    session_id: str | None = None
    """The session whose worker it works with, or worked with last: while it is leased no other job does."""
    queued_for: Requester = Requester("")
    """Whose turn in the queue it takes and whose running limit it counts for: one of those who asked."""
    rank: int = 0
    """Its place in the queue, smaller first (queueing.py); kept when it is put back."""
    attempt: int = 0
    fence: Fence = Fence(0)
    lease: Lease | None = None
    not_before: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested: bool = False
    steps_completed: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    progress: Progress = field(default_factory=Progress)
    attempts: tuple[AttemptRecord, ...] = ()
    reason: Reason | None = None
    detail: str = ""
    manifest_digest: str | None = None
    traceparent: str | None = None
    """Of the request that made it, if that is traced."""

    @property
    def worker_id(self) -> WorkerId | None:
        """The worker of the attempt under way, if one was assigned."""
        current = self.current_attempt
        return current.worker_id if current else None

    @property
    def current_attempt(self) -> AttemptRecord | None:
        """The record of attempt number `attempt`."""
        return next((a for a in reversed(self.attempts) if a.number == self.attempt), None)

    def detail_for(self, dcc: Dcc, local_id: LocalId, visible: Visibility) -> str:
        """Why it ended so, for who asked for that entry and sees what is `visible`.

        What it says of another one of the same content, if that is hidden from them, is left out.
        """
        own = (self.source.dcc, self.source.local_id) == (dcc, local_id)
        return self.detail if own or visible.shows(self.source) else ""
