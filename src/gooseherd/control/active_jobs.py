"""How many jobs wait or run in all, for those who submit: counting takes the longer the more there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gooseherd.control.shared_read import SharedRead
from gooseherd.domain.ports.store import JobStore

_FRESH_SECONDS: Final = 1.0

_NEAR: Final = 1000
"""More than all other processes submit in that time: so far from the limit an older count will do."""


class ActiveJobs:
    """Counts them at most once a second as long as that cannot let too many in."""

    def __init__(self, jobs: JobStore, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._jobs = jobs
        self._limit = limit
        self._shared = SharedRead(self._recount, _FRESH_SECONDS, clock)
        self._added = 0

    async def count(self) -> int:
        """Exact from a thousand below the limit on, else up to a second old. Raises StoreUnavailable."""
        about = await self._shared.get() + self._added
        return about if about < self._limit - _NEAR else await self._count()

    def added(self) -> None:
        """This process has made one more."""
        self._added += 1

    async def _recount(self) -> int:
        self._added = 0  # What is made meanwhile may be counted twice, and nothing not at all.
        return await self._count()

    async def _count(self) -> int:
        return sum((await self._jobs.counts()).values())
