"""One read of the store for all who ask at about the same time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from gooseherd.control.shared_outages import OutageSharingLock

T = TypeVar("T")


class SharedRead(Generic[T]):
    """What one caller has read is what others get for `fresh_seconds` from when that began.

    `from_its_end`: from when it ended, so that whoever waited for it gets it too, however long it took.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[T]],
        fresh_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        from_its_end: bool = False,
    ) -> None:
        self._read = read
        self._fresh_seconds = fresh_seconds
        self._clock = clock
        self._from_its_end = from_its_end
        self._reading = OutageSharingLock(clock)
        self._known: tuple[float, T] | None = None

    async def get(self) -> T:
        """Raises what reading raises, of an outage to all who waited; the next caller reads again."""
        async with self._reading.held():
            if self._known is None or self._clock() - self._known[0] > self._fresh_seconds:
                began, found = self._clock(), await self._read()
                self._known = self._clock() if self._from_its_end else began, found
            return self._known[1]
