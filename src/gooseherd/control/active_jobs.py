"""The limit of jobs that wait or run in all: counting them takes the longer the more there are."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from gooseherd.control.limited_claims import Count, LimitedClaims
from gooseherd.control.shared_read import SharedRead
from gooseherd.domain.ports.store import JobStore

_FRESH_SECONDS: Final = 1.0

_NEAR: Final = 1000
"""More than all other processes submit in that time: so far from the limit an older count will do, and
claims need not wait for each other."""


class ActiveJobs:
    """Counts them at most once a second as long as that cannot let too many in."""

    def __init__(self, jobs: JobStore, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._jobs = jobs
        self._limit = limit
        self._shared = SharedRead(self._recount, _FRESH_SECONDS, clock)
        self._near = LimitedClaims("active jobs", limit, self._count, clock)
        self._claiming = 0
        self._claimed = 0

    async def counted(self) -> Count | None:
        """For `claiming`; None: it is so far from the limit that nobody counts. Raises StoreUnavailable."""
        about = await self._shared.get() + self._claiming + self._claimed
        return None if about < self._limit - _NEAR else await self._near.counted()

    @asynccontextmanager
    async def claiming(self, before: Count | None) -> AsyncIterator[None]:
        """Claim inside. Raises LimitReached."""
        async with AsyncExitStack() as alone:
            if before is not None:
                await alone.enter_async_context(self._near.claiming(before))
            self._claiming += 1
            try:
                yield
            finally:
                self._claiming -= 1
                self._claimed += 1

    async def _recount(self) -> int:
        self._claimed = 0  # What is claimed meanwhile may be counted twice, and nothing not at all.
        return await self._count()

    async def _count(self) -> int:
        return sum((await self._jobs.counts()).values())
