"""Claims that a limit is on: what is there is counted, then one is added, and nobody adds in between."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gooseherd.control.shared_outages import OutageSharingLock
from gooseherd.domain.errors import LimitReached


@dataclass(frozen=True, slots=True)
class Count:
    """What was there when this process had made so many claims."""

    value: int
    claims: int


class LimitedClaims:
    """Of one limit, in one process: its claims are made one after the other.

    Each process has at most one claim between the count and its effect. So of N processes the limit is
    exceeded by N-1 at most, and by none where one process submits.
    """

    def __init__(
        self,
        what: str,
        limit: int,
        count: Callable[[], Awaitable[int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._limit = limit
        self._count = count
        self._claiming = OutageSharingLock(clock)
        self._claims = 0

    async def counted(self) -> Count:
        """For `claiming`: so that counting takes no longer than what the caller asks at the same time."""
        claims = self._claims
        return Count(await self._count(), claims)

    @asynccontextmanager
    async def claiming(self, before: Count) -> AsyncIterator[None]:
        """Claim inside. It is counted again if this process has made a claim since `before`.

        Raises:
            LimitReached: before anything is claimed.
            Unavailable, Misconfigured: also before, if the claim that this one waited for met it.
        """
        async with self._claiming.held():
            count = before if before.claims == self._claims else await self.counted()
            if count.value >= self._limit:
                raise LimitReached(self._what, self._limit, count.value)
            try:
                yield
            finally:
                # Also after an error: what became of that claim is not known.
                self._claims += 1
