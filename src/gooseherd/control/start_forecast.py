"""Whether a job that waits would be started now, or when: for those who are told how long it will take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from gooseherd.control.launch_breaker import LaunchBreaker
from gooseherd.control.worker_assignment import worker_need
from gooseherd.domain.job import Job
from gooseherd.domain.launching import Placements, Supply, forecasts
from gooseherd.domain.ports.fleet import Fleet
from gooseherd.domain.worker_size import WorkerSize

_MOST_BEFORE: Final = 100
"""So many jobs are placed for one answer, which takes some milliseconds of the event loop at most: the time
grows with the square of their number."""


class StartForecast:
    """Decides as the dispatcher of this process does, without doing anything."""

    def __init__(self, fleet: Fleet, breaker: LaunchBreaker, launching: Callable[[], int]) -> None:
        """`launching`: how many jobs have no worker yet, so that the fleet does not count it."""
        self._fleet = fleet
        self._breaker = breaker
        self._launching = launching

    def has_slot(self, position: int) -> bool:
        """Whether that many jobs and one more could be leased now; while workers cannot be launched, none."""
        launching = self._launching()
        return position < self._breaker.allows(self._fleet.slots() - launching, launching)

    @property
    def launches_cost(self) -> bool:
        """A job may be made to wait for a worker that lives: ask `seconds_to_wait`."""
        return self._fleet.capacity().launch_seconds > 0

    def seconds_to_wait(self, job: Job, position: int, at_work: Sequence[Job], now: datetime) -> float | None:
        """Until the worker is free that it waits for, if it had better wait than have one launched; else 0.

        None: too many jobs go before it to tell. `at_work` are the jobs of all processes that have a lease.
        Of the jobs before it only their number is known: they are taken to be like it.
        """
        if position > _MOST_BEFORE:
            return None
        capacity, size = self._fleet.capacity(), self._size(job)
        supply = Supply(capacity.launch_seconds, forecasts(capacity, at_work, now, self._size), now)
        placements = Placements(supply)
        for _ in range(position):
            placements.place(job, size)
        return placements.seconds_to_wait(job, size)

    def _size(self, job: Job) -> WorkerSize:
        return self._fleet.size_for(worker_need(job))
