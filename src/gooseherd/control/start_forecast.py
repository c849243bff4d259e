"""When the jobs that wait will begin: for those who are told how long it will take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gooseherd.control.launch_breaker import LaunchBreaker
from gooseherd.control.worker_assignment import worker_need
from gooseherd.domain.job import Job, JobId
from gooseherd.domain.launching import Placements, Supply, forecasts, seconds_of_work
from gooseherd.domain.ports.fleet import Fleet
from gooseherd.domain.worker_size import WorkerSize

MOST_PLACED: Final = 100
"""So many jobs are placed at once, which takes some milliseconds of the event loop at most: the time grows
with the square of their number. Those behind them are taken to be like them."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When jobs will begin, in seconds from when it was made."""

    begins: Mapping[JobId, float]
    last: float
    """When workers are free for who comes behind them, on average."""
    seconds_per_job: float
    """How much later each of those begins."""

    def behind(self, jobs: int) -> float:
        """When that begins which has so many jobs between these and itself."""
        return self.last + jobs * self.seconds_per_job


class StartForecast:
    """Decides as the dispatcher of this process does, without doing anything."""

    def __init__(self, fleet: Fleet, breaker: LaunchBreaker, launching: Callable[[], int]) -> None:
        """`launching`: how many jobs have no worker yet, so that the fleet does not count it."""
        self._fleet = fleet
        self._breaker = breaker
        self._launching = launching

    @property
    def launch_seconds(self) -> float:
        """From the decision to launch a worker to its first attempt; 0: not worth a thought."""
        return self._fleet.capacity().launch_seconds

    def schedule(self, due: Sequence[Job], at_work: Sequence[Job], now: datetime) -> Schedule | None:
        """Of jobs in queue order, of which MOST_PLACED are placed; None: it cannot be told.

        `at_work` are the jobs of all processes that have a lease.
        """
        launching = self._launching()
        slots = max(self._fleet.slots() - launching, 0)
        if self._breaker.allows(slots, launching) < slots:
            return None  # Workers cannot be launched, and nobody knows for how long.
        capacity = self._fleet.capacity()
        workers = forecasts(capacity, at_work, now, self._size)
        launches = slots - sum(worker.free_in <= 0 for worker in workers)
        placements = Placements(Supply(capacity.launch_seconds, workers, now))
        begins: dict[JobId, float] = {}
        work = 0.0
        for job in due[:MOST_PLACED]:
            before = len(placements.workers)
            seconds = placements.seconds_until_begun(job, self._size(job), may_launch=launches > 0)
            if seconds is None:
                return None
            launches -= len(placements.workers) - before
            begins[job.job_id] = round(seconds, 1)
            work += seconds_of_work(job.source.size_in_bytes)
        if not begins:
            return Schedule({}, 0.0, 0.0)
        # Not those that are kept idle for others.
        free_in = [worker.free_in for worker in placements.workers if worker.free_in > 0]
        return Schedule(begins, sum(free_in) / len(free_in), work / len(begins) / len(free_in))

    def _size(self, job: Job) -> WorkerSize:
        return self._fleet.size_for(worker_need(job))
