"""Leases that were asked for and whose answer got lost: perhaps granted, and followed by nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from gooseherd.domain.job import JobId


class UnconfirmedLeases:
    """Remembers each for as long as a lease lasts: what was granted has run out by then, for the reaper."""

    def __init__(self, lease: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease = lease.total_seconds()
        self._clock = clock
        self._asked: dict[JobId, tuple[float, bool]] = {}

    def note(self, job_id: JobId, *, adopted: bool) -> None:
        """A lease, or an adoption, was just asked for, and the answer got lost."""
        self._asked[job_id] = self._clock() + self._lease, adopted

    def settle(self, job_id: JobId) -> None:
        """It was answered."""
        self._asked.pop(job_id, None)

    def adopted(self, job_id: JobId) -> bool | None:
        """Whether an adoption of the job is unanswered, or a lease; None: neither."""
        noted = self._asked.get(job_id)
        return None if noted is None or noted[0] <= self._clock() else noted[1]

    def __len__(self) -> int:
        """How many there are."""
        for job_id in [job_id for job_id, (until, _) in self._asked.items() if until <= self._clock()]:
            del self._asked[job_id]
        return len(self._asked)
