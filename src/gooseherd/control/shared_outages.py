"""A lock whose waiters get the outage that kept them waiting, instead of waiting for it once more each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from gooseherd.domain.errors import Misconfigured, Unavailable

_SHARED_AFTER_SECONDS: Final = 1.0
"""Who has waited for less makes the call: one lost answer is no outage."""


class OutageSharingLock:
    """For calls of one dependency that are made one after the other.

    When it hangs, each call takes its whole timeout, and the last of many callers would wait for all of them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = asyncio.Lock()
        self._outage: tuple[float, Unavailable | Misconfigured] | None = None
        """The last one, and when it was known."""

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Call inside.

        Raises:
            Unavailable, Misconfigured: what a holder met while this waited, for a second or longer; nothing
                was called inside.
        """
        asked = self._clock()
        async with self._lock:
            waited = self._clock() - asked
            if self._outage is not None and self._outage[0] > asked and waited >= _SHARED_AFTER_SECONDS:
                raise self._outage[1].with_traceback(None)
            try:
                yield
            except (Unavailable, Misconfigured) as error:
                self._outage = self._clock(), error
                raise
            self._outage = None
