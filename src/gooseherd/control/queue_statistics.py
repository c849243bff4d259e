"""What can be told of the queue: a job's position, how long it will take, who waits and who finalizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gooseherd import telemetry
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.session_permits import SessionPermits, runs_outside
from gooseherd.control.shared_read import SharedRead
from gooseherd.control.start_forecast import MOST_PLACED, Schedule, StartForecast
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
    """Where a job stands that has no worker yet."""

    position: int | None
    """Due jobs that go before it, without those whose requester has as many running as allowed; None: it has
    left the queue, and a worker is launched for it."""
    wait_seconds: float | None
    """Until its attempt begins: by the work of those before it and at work, and the launch of a worker, where
    workers are known, else by how fast jobs were started lately; 0: now; None: not to be told."""
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
class _Queue:
    """The front of the queue: jobs that may start now, and when they will, if that can be told."""

    now: datetime
    due: Sequence[Job]
    at_work: Sequence[Job]
    schedule: Schedule | None


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
        self._queue = SharedRead(self._read_queue, fresh_seconds)
        self._at_work = SharedRead(self._read_at_work, fresh_seconds)

    async def place(self, job: Job) -> QueuePlace | None:
        """Where it stands now; None: it has a worker, or is to have one at once. Raises StoreUnavailable."""
        if job.status is not Status.PENDING:
            return await self._launching(job)
        # Not the snapshot: who polls for a job does not count the queue.
        running = await self._jobs.running_by_requester()
        seats = await self._permits.seats() if self._permits is not None else {}
        if job.queued_for in seats and not runs_outside(job):
            before = await self._jobs.due_for(job.queued_for, _OWN_LOOK)
            position = sum((other.rank, other.job_id) < (job.rank, job.job_id) for other in before)
            return QueuePlace(position, None, at_limit=False)
        limited = self._passed_over(running, seats)
        if job.queued_for in limited:
            return QueuePlace(await self._jobs.position(job), None, at_limit=True)
        async with all_or_first_error() as reads:
            reading = reads.create_task(self._jobs.position(job, limited))
            looking = reads.create_task(self._seconds_to_wait(job, reading))
        wait = looking.result()
        if wait is None:
            pace = await self._pace.get()
            wait = expected_wait(reading.result(), pace.starts, pace.now, pace.running_since)
        return QueuePlace(reading.result(), wait, at_limit=False)

    async def _launching(self, job: Job) -> QueuePlace | None:
        forecast, attempt = self._forecast, job.current_attempt
        if job.status is not Status.RUNNING or job.worker_id is not None or forecast is None:
            return None
        if attempt is None or attempt.started_at is None or not forecast.launch_seconds:
            return None
        left = forecast.launch_seconds - ((await self._queue.get()).now - attempt.started_at).total_seconds()
        return QueuePlace(None, round(left, 1) if left > 0 else None, at_limit=False)

    def _passed_over(
        self, running: Mapping[Requester, int], seats: Mapping[Requester, object]
    ) -> Collection[Requester]:
        """Whose jobs do not start now."""
        limit = self._running_limit
        return set(seats) | {one for one, count in running.items() if limit is not None and count >= limit}

    async def _seconds_to_wait(self, job: Job, counting: Awaitable[int]) -> float | None:
        """By what workers do; None: that is not known. `counting` is its position."""
        if self._forecast is None:
            return None
        queue = await self._queue.get()
        if queue.schedule is None:
            return None
        if job.job_id in queue.schedule.begins:
            return queue.schedule.begins[job.job_id]
        position = await counting
        before = [other for other in queue.due if (other.rank, other.job_id) < (job.rank, job.job_id)]
        if position >= MOST_PLACED:
            return round(queue.schedule.behind(position - len(queue.schedule.begins)), 1)
        # It has come since that was read, or was leased as it was.
        others = [other for other in queue.at_work if other.job_id != job.job_id]
        with_it = self._forecast.schedule([*before, job], others, queue.now)
        return None if with_it is None else with_it.begins.get(job.job_id)

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

    async def _read_queue(self) -> _Queue:
        assert self._forecast is not None
        seats = await self._permits.seats() if self._permits is not None else {}
        passed_over = self._passed_over(await self._jobs.running_by_requester(), seats)
        async with all_or_first_error() as reads:
            reading = reads.create_task(self._jobs.now())
            reading_due = reads.create_task(self._jobs.due(MOST_PLACED, passed_over))
            reading_work = reads.create_task(self._at_work.get())
        now, due, at_work = reading.result(), reading_due.result(), reading_work.result()
        return _Queue(now, due, at_work, self._forecast.schedule(due, at_work, now))

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
