"""What control and api rely on of the store: jobs with the workflow mutex, and the catalog."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from gooseherd.domain.artifact import Part
from gooseherd.domain.errors import Misconfigured, StoreUnavailable
from gooseherd.domain.failures import Failure
from gooseherd.domain.formats import Format
from gooseherd.domain.job import (
    NOT_KNOWN,
    AttemptEnd,
    Fence,
    Job,
    JobId,
    NewestSeen,
    Owner,
    Progress,
    Requester,
    Submission,
    WorkerId,
)
from gooseherd.domain.keys import WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, Identity, LocalId, SourceFile
from gooseherd.domain.states import Status
from gooseherd.domain.visibility import EVERYTHING, Visibility
from gooseherd.domain.waiting import QueueDepth, Start
from gooseherd.domain.worker_size import WorkerResources


class StoreRefused(Misconfigured):
    """The store refuses this password or user: once the right is given back, the same call works."""


STORE_AWAY: Final = (StoreUnavailable, StoreRefused)
"""Whoever can wait for the store, or do without, does so in either case."""


@dataclass(frozen=True, slots=True)
class FileQuery:
    """`text` is matched as a case-insensitive prefix of local_id or filename words."""

    dcc: Dcc | None = None
    text: str | None = None
    file_format: Format | None = None
    package: str | None = None
    """Only entries of that import of a data package; without `text`."""
    limit: int = 50
    after: str | None = None
    """The `next` of the page before."""
    visible: Visibility = EVERYTHING
    """Only entries that it shows; no page tells that there are others."""


@dataclass(frozen=True, slots=True)
class FilePage:
    """Entries ordered by (dcc, local_id); `next` is None on the last page."""

    files: tuple[SourceFile, ...]
    next: str | None = None


class FileStore(Protocol):
    """The catalog. Raises StoreUnavailable when the store does not answer."""

    async def get(self, dcc: Dcc, local_id: LocalId) -> SourceFile | None:
        """The entry, or None."""
        ...

    async def put(self, entries: Sequence[SourceFile]) -> int:
        """Insert or replace entries by (dcc, local_id); how many were new."""
        ...

    async def remove(self, dcc: Dcc, local_id: LocalId) -> SourceFile | None:
        """Take one entry out, durably; the entry as it was then, or None when there is none.

        One atomic step: of callers at the same time exactly one gets the entry, and a `put` of the
        name falls wholly before it (and is gone) or wholly after it (and stays). A caller whose
        answer got lost (StoreUnavailable) may ask again; None then can mean its own first call.
        """
        ...

    async def fill_in(
        self, seen: SourceFile, *, size_in_bytes: int | None, version_tag: str | None
    ) -> SourceFile | None:
        """Give an entry the size and version that its source states, where the entry leaves them open.

        Written only while the stored entry has the access_url, md5, sha256, size_in_bytes and
        version_tag of `seen`; then each of the two that is None there is set, None sets nothing, and
        everything else stays as it is stored, also what has changed since it was seen. The identity
        follows: `of_identity` finds the entry by the new one and no longer by the old.

        One atomic, durable step: of callers with the same `seen` at the same time the first one's
        values stay. Returns the entry as it is stored after that, whoever wrote it; None: it is gone.
        Again with the same arguments changes nothing.
        """
        ...

    async def not_public(self, names: Collection[tuple[Dcc, LocalId]]) -> frozenset[tuple[Dcc, LocalId]]:
        """Those of the names whose entries are there and not public."""
        ...

    async def of_identity(self, identity: Identity, limit: int) -> Sequence[SourceFile]:
        """Entries whose `identity` equals that, kind and value, by (dcc, local_id), at most `limit`.

        Whatever their format, access level or status. What a finished `put` or `remove` has
        changed is seen. Found by index: the catalog's size must not show in the time it takes.
        """
        ...

    async def search(self, query: FileQuery) -> FilePage:
        """One page of matching entries."""
        ...

    async def count(self) -> int:
        """How many entries there are (an estimate will do)."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """The job of a workflow key to wait for; `created` tells whether this call made it."""

    job: Job
    created: bool


@dataclass(frozen=True, slots=True)
class Renewal:
    """`wanted` turns False when somebody cancelled the job: stop the attempt, then release."""

    expires_at: datetime
    wanted: bool


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Filters are joined with and; None filters nothing. Newest first."""

    status: Status | None = None
    requester: Requester | None = None
    dcc: Dcc | None = None
    local_id: LocalId | None = None
    limit: int = 50
    after: str | None = None
    visible: Visibility = EVERYTHING
    """Only jobs on entries that it shows, as they were when the job was submitted."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of jobs; `next` is None on the last page."""

    jobs: tuple[Job, ...]
    next: str | None = None


class JobStore(Protocol):
    """Jobs, the queue and the workflow mutex.

    Each method that changes a job is one conditional write with majority write concern.
    Methods that take a `fence` raise LeaseLost when the fence is no longer the job's or
    the job's status does not have the edge; then nothing was changed. Those that end an attempt
    record in the same write what it used, once (UsageStore). All methods raise
    StoreUnavailable when the outcome is unknown. Times are the store's clock.
    """

    async def claim_workflow(self, submission: Submission, *, newest: NewestSeen | None = None) -> Claim:
        """∅→pending under the mutex, or attach to the job that holds it; never both, never neither.

        Raises NewerJob: another job than `newest` has ended, and may have published. Nothing was changed.
        """
        ...

    async def attach(self, key: WorkflowKey, requester: Requester, priority: Priority) -> Job | None:
        """Join the active job of `key`: add the requester, raise the priority if it is more urgent.

        A pending job takes the better of two places in the queue: its own, and the one that the requester
        would get for a job of `priority` now. A running one is wanted again.

        None: there is no active job.
        """
        ...

    async def get(self, job_id: JobId) -> Job | None:
        """The job, or None."""
        ...

    async def latest(self, key: WorkflowKey) -> Job | None:
        """The newest job of that key, active or ended."""
        ...

    async def latest_of(self, keys: Collection[WorkflowKey]) -> Mapping[WorkflowKey, Job]:
        """The newest job of each key that has one, as `latest` finds it; one look for all."""
        ...

    async def find(self, query: JobQuery) -> JobPage:
        """One page of jobs."""
        ...

    async def due(self, limit: int, passing_over: Collection[Requester] = ()) -> Sequence[Job]:
        """Pending jobs whose time has come, by (rank, id), without those queued for `passing_over`."""
        ...

    async def due_for(self, requester: Requester, limit: int) -> Sequence[Job]:
        """Those of them that are queued for one requester, in the same order."""
        ...

    async def unowned(self, limit: int) -> Sequence[Job]:
        """Running or finalizing jobs whose lease has run out or was handed over, oldest first."""
        ...

    async def owned(self, owner: Owner) -> Sequence[Job]:
        """Running or finalizing jobs under that owner's unexpired lease."""
        ...

    async def at_work(self) -> Sequence[Job]:
        """All running and finalizing jobs, whoever owns them; never many more than there are workers."""
        ...

    async def naming(self, worker_ids: Collection[WorkerId], since: datetime) -> Sequence[Job]:
        """Jobs changed after `since`, any of whose attempts names one of the workers."""
        ...

    async def lease(
        self,
        seen: Job,
        owner: Owner,
        ttl: timedelta,
        running_limit: int | None = None,
        session_id: str | None = None,
    ) -> Job | None:
        """pending→running: fence+1, attempt+1.

        With a limit the requester it is queued for never has more jobs leased so than that, however
        many processes lease at once: the job takes one of that many slots in the same write.
        With a session it takes that session's only permit in the same way, and needs no slot.

        None: somebody else has had it since it was seen, it is not due, the limit is reached, or
        another job has the permit.
        """
        ...

    async def adopt(self, job_id: JobId, seen: Fence, owner: Owner, ttl: timedelta) -> Job | None:
        """Take over a running or finalizing job whose lease ran out: same attempt, fence+1.

        None: not to be had.
        """
        ...

    async def renew(self, job_id: JobId, fence: Fence, ttl: timedelta) -> Renewal:
        """Extend the lease (the heartbeat) and learn whether the job is still wanted.

        Late is forgiven (nobody took over), superseded is not.
        """
        ...

    async def shorten_lease(
        self, job_id: JobId, seen: Fence, worker_id: WorkerId | None, diagnosis: str
    ) -> bool:
        """The worker of a running job has ended: its lease runs out now, so that somebody adopts it.

        The diagnosis is noted on the attempt; the status stays. A holder that lives can still
        renew. False, and nothing changed: the job is no longer as seen (running under that
        fence, its attempt on that worker, its lease fresh).
        """
        ...

    async def assign_worker(
        self,
        job_id: JobId,
        fence: Fence,
        worker_id: WorkerId,
        dispatched: Mapping[str, Any] | None = None,
        resources: WorkerResources | None = None,
    ) -> None:
        """Record, before the attempt starts there, which worker runs it and what it is sent (plain data).

        From now on the attempt uses what that worker costs.
        """
        ...

    async def record_progress(self, job_id: JobId, fence: Fence, progress: Progress) -> None:
        """Store how far it is; also counts as news for `updated_at`."""
        ...

    async def record_step_complete(
        self, job_id: JobId, fence: Fence, step: str, parts: Sequence[Part]
    ) -> None:
        """Add a step and its parts; again with the same step changes nothing."""
        ...

    async def begin_finalize(self, job_id: JobId, fence: Fence, steps: Sequence[str] = ()) -> None:
        """running→finalizing: the attempt reported all parts published.

        Adds those of `steps` that are not recorded as complete; their parts come with `finalize`.
        """
        ...

    async def finalize(
        self,
        job_id: JobId,
        fence: Fence,
        manifest_digest: str,
        parts: Sequence[Part],
        attempt: AttemptEnd = NOT_KNOWN,
    ) -> None:
        """finalizing→completed; frees the mutex."""
        ...

    async def release_workflow(
        self,
        job_id: JobId,
        fence: Fence,
        status: Status,
        failure: Failure,
        attempt: AttemptEnd = NOT_KNOWN,
    ) -> Job:
        """→failed or →cancelled; frees the mutex. The first writer's reason stands.

        Raises:
            StillWanted: →cancelled, and nobody has asked for that or somebody attached since. Looked
                at in the write itself: whoever attaches gets a job that goes on, or another one.
        """
        ...

    async def requeue(
        self,
        job_id: JobId,
        fence: Fence,
        failure: Failure,
        delay: timedelta,
        attempt: AttemptEnd = NOT_KNOWN,
    ) -> Job:
        """running/finalizing→pending, due after `delay`; the attempt's record keeps the failure."""
        ...

    async def request_cancel(self, job_id: JobId, requester: Requester | None) -> Job:
        """Withdraw a requester; None (an operator) withdraws all.

        When none is left: a pending job is cancelled at once, a running one gets
        `cancel_requested` for its holder to act on.

        Raises:
            NotFound: no such job.
            NotCancellable: finalizing or ended.
        """
        ...

    async def expire(self, before: datetime, limit: int) -> Sequence[Job]:
        """Pending jobs that have waited since before that fail with queue_expired, naming their last try.

        What a job waited before an attempt that had a worker does not count (waiting.waiting_since).
        """
        ...

    async def forget_ended(self, ended_before: datetime, limit: int) -> int:
        """Remove jobs that ended before that, the oldest first; how many. Never one that is active."""
        ...

    async def hand_over(self, owner: Owner) -> int:
        """Let go of every lease of `owner` (an earlier life of this process, or one that is leaving)."""
        ...

    async def position(self, job: Job, passing_over: Collection[Requester] = ()) -> int:
        """How many due jobs sort before it, without those queued for `passing_over`; 0 is next."""
        ...

    async def running_by_requester(self) -> Mapping[Requester, int]:
        """Running and finalizing jobs per requester they were queued for."""
        ...

    async def queue_depth(self) -> QueueDepth:
        """Who waits. Read from an index that has pending jobs only."""
        ...

    async def recent_starts(self, limit: int) -> Sequence[Start]:
        """The newest first leases, newest first."""
        ...

    async def counts(self) -> Mapping[Status, int]:
        """Active jobs per status (ended ones are not counted)."""
        ...

    async def pending_of(self, requester: Requester, at_most: int) -> int:
        """Pending jobs this requester waits for, whosever turn they take; counted up to `at_most`."""
        ...

    async def queued_for(self, requester: Requester, at_most: int) -> int:
        """Pending jobs that take this requester's turn, due or not; counted up to `at_most`."""
        ...

    async def now(self) -> datetime:
        """The store's clock, UTC."""
        ...
