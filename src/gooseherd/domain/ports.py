"""What control and api rely on: one Protocol per dependency, with what its users may assume.

Every adapter of a port passes the port's contract suite (tests/contract/).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from gooseherd.domain.artifact import Part
from gooseherd.domain.attempt import AttemptId, AttemptSpec, Event
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.formats import Format
from gooseherd.domain.job import Fence, Job, JobId, Owner, Progress, Requester, Submission, WorkerId
from gooseherd.domain.keys import CacheKey, WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, Identity, LocalId, SourceFile
from gooseherd.domain.states import Status

# -- artifacts -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of the cache. `modified_at` is Unix seconds, for age-based cleaning only."""

    key: CacheKey
    size: int
    modified_at: float


Body = bytes | Path | AsyncIterable[bytes]
"""What can be stored. A Path is read, never moved: it stays the caller's."""


class CacheBackend(Protocol):
    """Immutable objects under relative keys.

    An object appears whole or not at all, also when the writer is killed. Keys that could
    leave the root (absolute, `..`, empty segments, NUL) raise InvalidInput everywhere.
    All methods raise CacheUnavailable when the storage does not answer or is full.
    """

    async def head(self, key: CacheKey) -> StoredObject | None:
        """The object's size, or None when there is no such object."""
        ...

    def get(self, key: CacheKey, span: ByteRange | None = None) -> AsyncIterator[bytes]:
        """The object's bytes in chunks of at most 1 MiB, or those of `span`.

        `span` must lie in the object. Reading an absent object yields nothing. Closing the
        iterator early frees what it holds.
        """
        ...

    async def put_if_absent(self, key: CacheKey, body: Body) -> bool:
        """Store `body` unless the key exists; say whether it was stored.

        Of many writers of one key exactly one gets True, and its bytes are the object.
        True means durable: it survives a power cut.
        """
        ...

    async def delete(self, key: CacheKey) -> bool:
        """Remove the object; say whether there was one."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """All objects whose key starts with `prefix`, in key order."""
        ...

    async def close(self) -> None:
        """Free connections and handles; idempotent."""
        ...


# -- catalog -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileQuery:
    """`text` is matched as a case-insensitive prefix of local_id or filename words."""

    dcc: Dcc | None = None
    text: str | None = None
    file_format: Format | None = None
    limit: int = 50
    after: str | None = None
    """The `next` of the page before."""


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
        """Give an entry the size and version its source told, where the entry leaves them open.

        Written only while the stored entry has the access_url, md5, sha256, size_in_bytes and
        version_tag of `seen`; then each of the two that is None there is set, None sets nothing, and
        everything else stays as it is stored, also what has changed since it was seen. The identity
        follows: `of_identity` finds the entry by the new one and no longer by the old.

        One atomic, durable step: of callers with the same `seen` at the same time the first one's
        values stay. Returns the entry as it is stored after that, whoever wrote it; None: it is gone.
        Again with the same arguments changes nothing.
        """
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


# -- jobs ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """The live job of a workflow key; `created` tells whether this call made it."""

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


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of jobs; `next` is None on the last page."""

    jobs: tuple[Job, ...]
    next: str | None = None


class JobStore(Protocol):
    """Jobs, the queue and the workflow mutex.

    Each method that changes a job is one conditional write with majority write concern.
    Methods that take a `fence` raise LeaseLost when the fence is no longer the job's or
    the job's status does not have the edge; then nothing was changed. All methods raise
    StoreUnavailable when the outcome is unknown. Times are the store's clock.
    """

    async def claim_workflow(self, submission: Submission) -> Claim:
        """∅→pending under the mutex, or attach to the job that holds it; never both, never neither."""
        ...

    async def attach(self, key: WorkflowKey, requester: Requester, priority: Priority) -> Job | None:
        """Join the active job of `key`: add the requester, raise the priority if it is more urgent.

        None: there is no active job.
        """
        ...

    async def get(self, job_id: JobId) -> Job | None:
        """The job, or None."""
        ...

    async def latest(self, key: WorkflowKey) -> Job | None:
        """The newest job of that key, active or ended."""
        ...

    async def find(self, query: JobQuery) -> JobPage:
        """One page of jobs."""
        ...

    async def due(self, limit: int) -> Sequence[Job]:
        """Pending jobs whose time has come, in queue order (priority, enqueued_at, id)."""
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

    async def lease(self, seen: Job, owner: Owner, ttl: timedelta) -> Job | None:
        """pending→running: fence+1, attempt+1.

        None: somebody else has had it since it was seen, or it is not due.
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

    async def assign_worker(self, job_id: JobId, fence: Fence, worker_id: WorkerId) -> None:
        """Record, before the attempt starts there, which worker runs it."""
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
        self, job_id: JobId, fence: Fence, manifest_digest: str, parts: Sequence[Part]
    ) -> None:
        """finalizing→completed; frees the mutex."""
        ...

    async def release_workflow(self, job_id: JobId, fence: Fence, status: Status, failure: Failure) -> Job:
        """→failed or →cancelled; frees the mutex. The first writer's reason stands."""
        ...

    async def requeue(self, job_id: JobId, fence: Fence, failure: Failure, delay: timedelta) -> Job:
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

    async def expire(self, created_before: datetime, limit: int) -> Sequence[Job]:
        """Pending jobs created before that fail with queue_expired; returns those it ended."""
        ...

    async def hand_over(self, owner: Owner) -> int:
        """Let go of every lease of `owner` (an earlier life of this process, or one that is leaving)."""
        ...

    async def position(self, job: Job) -> int:
        """How many pending jobs sort before it; 0 is next."""
        ...

    async def running_by_requester(self) -> Mapping[Requester, int]:
        """Running and finalizing jobs per requester."""
        ...

    async def counts(self) -> Mapping[Status, int]:
        """Active jobs per status (ended ones are not counted)."""
        ...

    async def pending_of(self, requester: Requester) -> int:
        """Pending jobs this requester waits for."""
        ...

    async def now(self) -> datetime:
        """The store's clock, UTC."""
        ...


# -- fleet ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shortage:
    """An attempt ended out_of_memory, out_of_disk or worker_lost, on that worker if one is known.

    The last is one only if the fleet has learnt since that the worker ran out of memory.
    """

    reason: Reason
    worker_id: WorkerId | None = None


@dataclass(frozen=True, slots=True)
class WorkerNeed:
    """What an attempt asks of a worker; the fleet maps it to a size."""

    attempt: AttemptId
    source_format: Format
    source_bytes: int | None
    shortages: tuple[Shortage, ...] = ()
    """How earlier attempts of the job ended, oldest first: each asks for a larger worker."""


@dataclass(frozen=True, slots=True)
class WorkerHandle:
    """A worker that answers. `address` is host:port of its Wool port."""

    worker_id: WorkerId
    address: str


class WorkerHealth(StrEnum):
    """How a worker is. Closed: metrics rely on the list."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    """It runs and its health checks fail."""
    DRAINING = "draining"
    """It takes nothing new and is about to end."""
    GONE = "gone"
    """It has certainly ended."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as operators see it."""

    worker_id: WorkerId
    health: WorkerHealth
    started_at: float
    """Unix seconds; 0: not known."""
    attempt: str | None = None
    """Who uses it, as far as this process knows."""
    detail: str = ""
    """For people; of one that is gone: the diagnosis."""
    launched_for: str | None = None
    """The attempt it was launched for, whoever uses it now; None: not told."""
    warm: bool = False
    """Idle, and this process may hand it out."""
    stoppable: bool = True
    """It lives and nobody has told it to end."""
    size: str = ""


class Fleet(Protocol):
    """Workers: launched for work, reused while warm, found again after a restart."""

    async def acquire(self, need: WorkerNeed) -> WorkerHandle:
        """A healthy worker for this caller alone, warm or launched. Idempotent by the attempt.

        Raises:
            NoCapacity: none to be had now.
            LaunchFailed: one was started and did not become healthy.
            Misconfigured: no retry heals it.
        """
        ...

    async def find(self, worker_id: WorkerId) -> WorkerHandle | None:
        """The worker by that name if it lives, also one that another process launched."""
        ...

    async def gone(self, worker_id: WorkerId) -> str:
        """Return when the worker has certainly ended, with the diagnosis; not seeing it is not enough."""
        ...

    async def verdict(self, worker_id: WorkerId) -> Reason:
        """How an attempt ended whose worker is silent: out_of_memory where that is known, else worker_lost.

        Waits a few seconds at most for what can be known.
        """
        ...

    def limit_reached(self, need: WorkerNeed) -> str | None:
        """The limit, and its setting, that leaves no larger worker after the newest shortage of `need`.

        None: there is a larger one, or workers here have no sizes.
        """
        ...

    async def release(self, worker_id: WorkerId, *, reusable: bool, attempt: AttemptId | None = None) -> None:
        """The caller, who had it for `attempt`, is done with it. Not reusable: stop it.

        Nothing happens to a worker that this fleet has given to another attempt since. Never
        raises for one that is gone.
        """
        ...

    async def disown(self, worker_id: WorkerId) -> None:
        """It works for somebody else: it is neither stopped nor, as far as that is known, handed out."""
        ...

    def slots(self) -> int:
        """How many more workers could be acquired now."""
        ...

    async def view(self) -> Sequence[WorkerView]:
        """All workers of this fleet as they are known now; does not wait."""
        ...

    async def survey(self, also: Collection[WorkerId] = ()) -> Sequence[WorkerView]:
        """All workers of this fleet, seen completely and just now, and those that ended a while ago.

        Of `also` those too that were not seen by this process yet, if they are of this fleet
        and can be seen: a worker that is not in the answer is not known to have ended.
        Raises Unavailable when not all of that could be seen.
        """
        ...

    async def stop(self, worker_id: WorkerId, reason: str) -> None:
        """Ask a worker to end, whoever uses it; idempotent.

        Raises:
            NotFound: none by that name lives in this fleet.
            Unavailable: it could not be asked.
        """
        ...

    async def close(self) -> None:
        """Stop idle workers; leave busy ones to be found again."""
        ...


class WorkerLink(Protocol):
    """A conversation with one worker. All methods raise WorkerLost when it does not answer."""

    async def start_attempt(self, spec: AttemptSpec) -> None:
        """Start the attempt; again for the same attempt changes nothing.

        Raises:
            WorkerBusy: it runs another attempt.
            Misconfigured: another build, or settings that cannot work.
        """
        ...

    def watch_attempt(self, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        """The attempt's events from that position on, to the last one; heartbeats when nothing happens.

        Raises:
            NotFound: the worker knows no such attempt.
            WorkerLost: the worker or the attempt's process ended without a last event.
        """
        ...

    async def cancel_attempt(self, attempt: AttemptId) -> None:
        """End the attempt's process group; returns when it is gone. Unknown attempts are fine."""
        ...

    async def describe(self) -> Mapping[str, Any]:
        """The worker's `build`, `uptime_seconds`, `attempts` at work (names) and whether it is `draining`."""
        ...


class Workers(Protocol):
    """How to talk to workers. Enter the link in the task that uses it."""

    def connect(self, worker: WorkerHandle) -> AbstractAsyncContextManager[WorkerLink]:
        """Open a link; closing it leaves the attempt running."""
        ...


# -- sources -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Upstream:
    """Upstream's answer to one request, headers lowercased; `body` must be read or closed."""

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A verified local copy of a source; `md5` is lowercase hex of what was read."""

    path: Path
    size: int
    md5: str


@dataclass(frozen=True, slots=True)
class SourceDetails:
    """What a source says of itself before it is read; None: not told."""

    size_in_bytes: int | None = None
    version_tag: str | None = None
    """ETag, else date of the last change; of a file its modification time; of a DRS object its checksum."""


Pausing = Callable[[str, float], None]
"""Called with what is wrong, in words without hosts or addresses, and the seconds until the next try."""


def ignore_pause(_: str, __: float) -> None:
    """Nobody wants to know."""


class Sources(Protocol):
    """Outbound reads.

    Raises OutboundRefused, UpstreamUnavailable, NotFound, AccessDenied, and InvalidInput for
    a URL that names nothing readable (an unknown DRS prefix, a bundle).
    """

    def judge(self, url: str) -> None:
        """Refuse now what a fetch would refuse by the URL alone; asks and resolves nothing, so it is quick.

        Raises:
            OutboundRefused: scheme, host, port or path are not allowed, with the rule and its setting.
            InvalidInput: a drs or s3 URL that names nothing readable.
        """
        ...

    def open(self, url: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Upstream]:
        """One guarded GET, Range passed on; redirects are followed and re-checked."""
        ...

    async def details(self, url: str) -> SourceDetails:
        """Size and version by one guarded HEAD (a file's by stat), tried once; no byte is read.

        How long that may take is the caller's to bound, by cancelling it.
        """
        ...

    async def fetch(
        self,
        source: SourceFile,
        into: Path,
        *,
        limit: int,
        report: Callable[[int, int | None], None],
        pausing: Pausing = ignore_pause,
    ) -> Fetched:
        """Download into the file `into`, resuming what broke off, digests computed while streaming.

        `report(bytes so far, total or None)` is called often. `limit` is in bytes. So many bytes
        are in the file then and stay as they are, so that they can be read already; unless a later
        report says fewer: then what lay beyond was wrong and is gone. They are verified once
        this returns. `pausing` is called before each wait between two tries.

        Raises:
            StepFailed: source_missing, source_forbidden (by upstream or by the guard, the
                rule named), source_changed (digest or size differ from the catalog),
                source_too_large, source_invalid (a URL that names nothing readable),
                source_unavailable or out_of_disk.
        """
        ...

    async def close(self) -> None:
        """Free connections; idempotent."""
        ...
