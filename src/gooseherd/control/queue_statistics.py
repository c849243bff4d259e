"""What can be told of the queue: a job's position, how long it will take, who waits and who finalizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gooseherd import telemetry
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.session_permits import SessionPermits, runs_outside
from gooseherd.control.shared_read import SharedRead
from gooseherd.control.start_forecast import StartForecast
from gooseherd.control.task_groups import all_or_first_error
from gooseherd.domain.job import Job, JobId, Requester
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.queueing import Priority, expected_wait, percentile
from gooseherd.domain.states import ACTIVE, Status
from gooseherd.domain.waiting import QueueDepth, Start

_STARTS: Final = 500
"""The newest first leases that waits and the estimate are computed from."""

_OWN_LOOK: Final = 1000
"""Jobs of a session's owner that are looked through for a position."""

_FRESH_SECONDS: Final = 1.0
"""What was read is shared for so long: many poll, and counting a long queue takes tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a pending job stands."""

    position: int
    """Due jobs that go before it, without those whose requester has as many running as allowed."""
    wait_seconds: float | None
    """Until it is its turn: until the worker is free that it waits for, else by how fast jobs were started
    lately; 0: it would be started now; None: not to be told."""
    at_limit: bool
    """Its own requester has as many running as allowed: one of them must end first."""


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The queue of all API processes at one moment; `finalizers` are this process's, with their seconds."""

    now: datetime
    counts: Mapping[Status, int]
    depth: QueueDepth
    running: Mapping[Requester, int]
    starts: Sequence[Start]
    running_since: Sequence[datetime]
    """When the attempts at work began; empty where the starts tell how fast the queue moves."""
    finalizers: Mapping[JobId, float]
    defers_total: int

    @property
    def by_priority(self) -> Mapping[Priority, int]:
        """Pending jobs."""
        pending = dict.fromkeys(Priority, 0)
        for (_, priority), count in self.depth.pending.items():
            pending[priority] += count
        return pending

    @property
    def pending_by_requester(self) -> Mapping[Requester, int]:
        """Pending jobs by whose turn they take."""
        pending: Counter[Requester] = Counter()
        for (requester, _), count in self.depth.pending.items():
            pending[requester] += count
        return pending

    @property
    def oldest_seconds(self) -> float | None:
        """Age of the pending job that waits longest; None: nothing waits."""
        oldest = self.depth.oldest
        return None if oldest is None else max((self.now - oldest).total_seconds(), 0.0)

    def wait_seconds(self, percent: int) -> float | None:
        """That percentile of how long the jobs started last had waited; None: there were none."""
        waits = [(start.started_at - start.enqueued_at).total_seconds() for start in self.starts]
        return percentile(waits, percent)


@dataclass(frozen=True, slots=True)
class JobAges:
    """In seconds; 0 where there is no such job."""

    oldest_pending: float
    """Of the pending job that waits longest."""
    oldest_attempt: float
    """Since the current attempt began that began first."""
    lease_overdue: float
    """Since the lease ended that ended first."""


@dataclass(frozen=True, slots=True)
class _Pace:
    """How fast jobs were started lately. To read it takes the same however many wait."""

    now: datetime
    starts: Sequence[Start]
    running_since: Sequence[datetime]


class QueueStatistics:
    """Reads the store for all who ask. `forecast` knows this process's workers; without one none is free."""

    def __init__(
        self,
        jobs: JobStore,
        *,
        finalizers: Finalizers | None = None,
        forecast: StartForecast | None = None,
        running_limit: int | None = None,
        permits: SessionPermits | None = None,
        fresh_seconds: float = _FRESH_SECONDS,
    ) -> None:
        self._jobs = jobs
        self._finalizers = finalizers or Finalizers()
        self._forecast = forecast
        self._running_limit = running_limit
        self._permits = permits
        self._snapshot = SharedRead(self._read, fresh_seconds)
        self._pace = SharedRead(self._read_pace, fresh_seconds)
        self._at_work = SharedRead(self._read_at_work, fresh_seconds)

    async def place(self, job: Job) -> QueuePlace | None:
        """Where a pending job stands now; None: it is not in the queue. Raises StoreUnavailable."""
        if job.status is not Status.PENDING:
            return None
        async with all_or_first_error() as reads:
            # Not the snapshot: who polls for a job does not count the queue.
            reading = reads.create_task(self._jobs.running_by_requester())
            reading_pace = reads.create_task(self._pace.get())
        running, pace = reading.result(), reading_pace.result()
        seats = await self._permits.seats() if self._permits is not None else {}
        if job.queued_for in seats and not runs_outside(job):
            before = await self._jobs.due_for(job.queued_for, _OWN_LOOK)
            position = sum((other.rank, other.job_id) < (job.rank, job.job_id) for other in before)
            return QueuePlace(position, None, at_limit=False)
        limited = set(seats) | {
            requester
            for requester, count in running.items()
            if self._running_limit is not None and count >= self._running_limit
        }
        if job.queued_for in limited:
            return QueuePlace(await self._jobs.position(job), None, at_limit=True)
        position = await self._jobs.position(job, limited)
        wait = await self._seconds_to_wait(job, position, pace.now)
        if wait is None:
            wait = expected_wait(position, pace.starts, pace.now, pace.running_since)
        return QueuePlace(position, wait, at_limit=False)

    async def _seconds_to_wait(self, job: Job, position: int, now: datetime) -> float | None:
        """For a worker, of a job that has a slot; None: it has none, or it is too far back in the queue."""
        forecast = self._forecast
        if forecast is None or not forecast.has_slot(position):
            return None
        if not forecast.launches_cost:
            return 0.0
        seconds = forecast.seconds_to_wait(job, position, await self._at_work.get(), now)
        return None if seconds is None else round(seconds, 1)

    async def snapshot(self) -> QueueSnapshot:
        """The queue as it was within the last second. Raises StoreUnavailable."""
        return await self._snapshot.get()

    async def _read(self) -> QueueSnapshot:
        async with all_or_first_error() as reads:
            counts = reads.create_task(self._jobs.counts())
            depth = reads.create_task(self._jobs.queue_depth())
            running = reads.create_task(self._jobs.running_by_requester())
            reading = reads.create_task(self._read_pace())
        pace = reading.result()
        return QueueSnapshot(
            pace.now,
            counts.result(),
            depth.result(),
            running.result(),
            pace.starts,
            pace.running_since,
            self._finalizers.snapshot(),
            self._finalizers.defers_total,
        )

    async def _read_pace(self) -> _Pace:
        async with all_or_first_error() as reads:
            now = reads.create_task(self._jobs.now())
            starts = reads.create_task(self._jobs.recent_starts(_STARTS))
        few = expected_wait(0, starts.result(), now.result()) is None
        return _Pace(now.result(), starts.result(), _began(await self._at_work.get()) if few else ())

    async def _read_at_work(self) -> Sequence[Job]:
        return await self._jobs.at_work()

    async def refresh_metrics(self) -> None:
        """Set the gauges of the queue. Raises StoreUnavailable; then they are as they were."""
        snapshot = await self.snapshot()
        for status in ACTIVE:
            telemetry.QUEUE_JOBS.labels(status.value).set(max(snapshot.counts.get(status, 0), 0))
        for priority, count in snapshot.by_priority.items():
            telemetry.QUEUE_PENDING.labels(priority.label).set(max(count, 0))
        telemetry.QUEUE_OLDEST.set(snapshot.oldest_seconds or 0.0)
        for percent in (50, 95):
            telemetry.QUEUE_WAIT.labels(str(percent)).set(max(snapshot.wait_seconds(percent) or 0.0, 0.0))
        ages = await self.ages()
        telemetry.OLDEST_ATTEMPT.set(ages.oldest_attempt)
        telemetry.LEASE_OVERDUE.set(ages.lease_overdue)

    async def ages(self) -> JobAges:
        """Of all active jobs, as they were within the last second. Raises StoreUnavailable."""
        snapshot = await self.snapshot()
        now, jobs = snapshot.now, await self._at_work.get()
        leases = [job.lease.expires_at for job in jobs if job.lease is not None]
        return JobAges(
            snapshot.oldest_seconds or 0.0,
            max([0.0, *((now - at).total_seconds() for at in _began(jobs))]),
            max([0.0, *((now - at).total_seconds() for at in leases)]),
        )


def _began(jobs: Sequence[Job]) -> Sequence[datetime]:
    """When the current attempt of each did."""
    attempts = [job.current_attempt for job in jobs]
    return [
        attempt.started_at for attempt in attempts if attempt is not None and attempt.started_at is not None
    ]
