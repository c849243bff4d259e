"""Whether a waiting job is worth the launch of a worker, or waits for one that lives; pure.

The start of a worker on Fargate takes most of a minute: it is paid, nothing is worked, and the job waits for
it all the same. Jobs are taken in queue order, and each is given to the worker that is free for it first:

| job | the first worker that suits it is free | decision |
| --- | --- | --- |
| any | now | it gets that |
| any | never: none suits | a worker is launched |
| interactive, normal | while it has waited no longer than for a launch | it waits |
| batch | before the work in front of it is worth a launch (WORK_PER_LAUNCH) | it waits |
| any | later | a worker is launched |

How long work takes is estimated from the bytes of the source; what is estimated wrongly is corrected as time
passes, because each pass looks again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.job import Job, WorkerId
from gooseherd.domain.ports.fleet import Capacity, LiveWorker
from gooseherd.domain.queueing import Priority
from gooseherd.domain.reservation import Purpose
from gooseherd.domain.worker_size import WorkerSize

WORK_PER_LAUNCH: Final = 15.0
"""So many times as long as a launch takes batches keep a worker busy, before another one is launched: nine
tenths of what is paid are worked."""

IDLE_PER_LAUNCH: Final = 0.1
"""For such a part of a launch's time an idle worker that nobody needs is kept, for whoever comes next."""

_SECONDS_ELSEWHERE: Final = 5.0
"""Until the process that may hand out an idle worker looks at the queue: its tick."""
_BYTES_A_SECOND: Final = 50e6
"""From source to artifact, the download included (docs/performance.md)."""
_LEAST_SECONDS: Final = 0.4
"""Of a small file on a worker that is there."""
_UNKNOWN_SECONDS: Final = 30.0
"""Of a source whose size nobody knows."""


def seconds_of_work(source_bytes: int | None) -> float:
    """How long a worker will be busy with it, roughly."""
    if source_bytes is None:
        return _UNKNOWN_SECONDS
    return _LEAST_SECONDS + source_bytes / _BYTES_A_SECOND


def seconds_left(job: Job, elapsed: float) -> float:
    """How much longer the attempt under way, `elapsed` seconds old, will keep its worker."""
    left = seconds_of_work(job.source.size_in_bytes) - elapsed
    percent = job.progress.percent
    if percent > 0:
        return max(left, elapsed * (100.0 - min(percent, 100.0)) / percent)
    # It takes longer than was thought, by as much again as far as anybody knows.
    return left if left > 0 else elapsed


@dataclass(slots=True)
class WorkerForecast:
    """A worker, and in how many seconds it is free for the next job."""

    size: WorkerSize
    free_in: float
    idle: LiveWorker | None = None
    """It is idle, and this process may hand it out or end it."""
    of_floor: bool = False
    """Idle, of the warm floor or about to be: no job of a batch gets it."""


def forecasts(
    capacity: Capacity,
    at_work: Sequence[Job],
    now: datetime,
    size_of: Callable[[Job], WorkerSize],
) -> list[WorkerForecast]:
    """All workers that take jobs of the queue. `at_work` are the jobs of all processes that have a lease."""
    users = {job.worker_id: job for job in at_work if job.worker_id is not None}
    launches = {*capacity.launching, *(worker.launched_for for worker in capacity.workers)}
    wanted = capacity.floor_wants
    found: list[WorkerForecast] = []
    seen: set[WorkerId] = set()
    for worker in capacity.workers:
        seen.add(worker.worker_id)
        user = users.get(worker.worker_id)
        if user is not None:
            if user.session_id is None:
                elapsed = min(_elapsed(user, now), worker.ready_seconds)
                found.append(WorkerForecast(worker.size, seconds_left(user, elapsed)))
        elif worker.idle_seconds is not None:
            for_floor = wanted > 0 and worker.size == capacity.floor_size
            wanted -= for_floor
            found.append(WorkerForecast(worker.size, 0.0, worker, for_floor))
        elif worker.of_floor:
            found.append(WorkerForecast(worker.size, 0.0, of_floor=True))
        elif worker.ready and not _reserved(worker):
            found.append(WorkerForecast(worker.size, _SECONDS_ELSEWHERE))
    for job in at_work:
        if job.session_id is not None or (job.worker_id is not None and job.worker_id in seen):
            continue
        size = size_of(job)
        if job.worker_id is not None:
            found.append(WorkerForecast(size, seconds_left(job, _elapsed(job, now))))
            continue
        work = seconds_of_work(job.source.size_in_bytes)
        if str(AttemptId(job.job_id, job.attempt)) not in launches:
            # It has just been leased, and will take one that is idle.
            idle = [one for one in found if one.idle is not None and one.size.covers(size)]
            if idle:
                taken = min(idle, key=lambda one: one.size)
                taken.free_in, taken.idle = work, None
                continue
        found.append(WorkerForecast(size, max(capacity.launch_seconds - _elapsed(job, now), 1.0) + work))
    return found


def _elapsed(job: Job, now: datetime) -> float:
    current = job.current_attempt
    since = job.updated_at if current is None or current.started_at is None else current.started_at
    return max((now - since).total_seconds(), 0.0)


def _reserved(worker: LiveWorker) -> bool:
    """Launched for the floor or a session. One that a job has taken since is known by the job."""
    name = worker.launched_for or ""
    return name.startswith(tuple(f"{purpose}-" for purpose in Purpose))


class Placement(Enum):
    """What becomes of a waiting job now."""

    RUN = "run"
    """A worker is idle that suits."""
    LAUNCH = "launch"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Supply:
    """What one pass of the dispatcher knows of workers."""

    launch_seconds: float
    workers: Sequence[WorkerForecast]
    now: datetime
    whole_queue: bool = True
    """All jobs that are due are looked at. If not, none of a batch is worth a launch for now."""


class Placements:
    """Gives jobs to workers, one by one in queue order. Of one pass."""

    def __init__(self, supply: Supply) -> None:
        self._supply = supply
        self._workers = [replace(worker) for worker in supply.workers]

    def place(self, job: Job, size: WorkerSize) -> Placement:
        """What becomes of the next job."""
        launch = self._supply.launch_seconds
        work = seconds_of_work(job.source.size_in_bytes)
        first = self._first(job, size)
        if first is not None and (first.free_in <= 0 or first.free_in <= self._patience(job)):
            placement = Placement.RUN if first.free_in <= 0 else Placement.WAIT
            first.free_in += work
            first.idle, first.of_floor = None, False
            return placement
        if job.priority is Priority.BATCH and not self._supply.whole_queue:
            return Placement.WAIT
        self._workers.append(WorkerForecast(size, launch + work))
        return Placement.LAUNCH

    def seconds_until_begun(self, job: Job, size: WorkerSize, *, may_launch: bool) -> float | None:
        """Gives the next job a worker, too: in how many seconds its attempt begins there.

        Not `may_launch`: as many workers live as may, so it waits for one of these. None: there is none.
        """
        launch, work = self._supply.launch_seconds, seconds_of_work(job.source.size_in_bytes)
        first = self._first(job, size)
        if first is not None and (not may_launch or first.free_in <= max(self._patience(job), 0.0)):
            begins = max(first.free_in, 0.0)
            first.free_in, first.idle, first.of_floor = begins + work, None, False
            return begins
        if may_launch:
            self._workers.append(WorkerForecast(size, launch + work))
            return launch
        # The first that is free ends, to make room for one that suits.
        room = min(self._workers, key=lambda worker: worker.free_in, default=None)
        if room is None:
            return None
        begins = max(room.free_in, 0.0) + launch
        room.size, room.free_in, room.idle, room.of_floor = size, begins + work, None, False
        return begins

    @property
    def workers(self) -> Sequence[WorkerForecast]:
        """As they are once the jobs that were placed have theirs."""
        return self._workers

    def _first(self, job: Job, size: WorkerSize) -> WorkerForecast | None:
        """Which worker that suits is free first."""
        batch = job.priority is Priority.BATCH
        suiting = [
            worker for worker in self._workers if worker.size.covers(size) and not (batch and worker.of_floor)
        ]
        return min(suiting, key=lambda worker: (worker.free_in, worker.size), default=None)

    def _patience(self, job: Job) -> float:
        """How long it may wait for a worker that lives, in seconds from now."""
        launch = self._supply.launch_seconds
        if job.priority is Priority.BATCH:
            return WORK_PER_LAUNCH * launch
        return launch - (self._supply.now - job.enqueued_at).total_seconds()

    def spare(self) -> list[tuple[WorkerId, bool]]:
        """Idle workers that no job was given to, and whether each may end.

        That is when it has been idle for a while; one may not, unless the floor has some.
        """
        idle = sorted(
            (worker.size, worker.idle.idle_seconds or 0.0, worker.idle.worker_id)
            for worker in self._workers
            if worker.idle is not None
        )
        kept = 0 if any(worker.of_floor for worker in self._workers) else 1
        long_enough = IDLE_PER_LAUNCH * self._supply.launch_seconds
        return [
            (worker_id, number >= kept and seconds >= long_enough)
            for number, (_, seconds, worker_id) in enumerate(idle)
        ]
