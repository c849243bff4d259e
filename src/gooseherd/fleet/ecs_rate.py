"""Holds calls to a rate with a burst: a token bucket that says how long to wait, and waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class TokenBucket:
    """At most `burst` at once and `rate` a second after that. One event loop; first come, first served."""

    def __init__(
        self,
        rate: float,
        burst: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._sleep = sleep
        self._tokens = float(burst)
        self._at = clock()

    def spend(self, count: float = 1.0) -> float:
        """Take tokens now, on credit if need be; the seconds until the debt is paid.

        What was spent on credit delays everybody who comes later, hence the order.
        """
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - count
        self._at = now
        return max(0.0, -self._tokens / self._rate)

    async def take(self, count: float = 1.0) -> None:
        """Take tokens and wait until they are paid."""
        wait = self.spend(count)
        if wait > 0:
            await self._sleep(wait)
