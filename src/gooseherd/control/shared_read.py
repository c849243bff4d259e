"""One read of the store for all who ask at about the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedRead(Generic[T]):
    """What one caller has read is what others get for `fresh_seconds` from when that began."""

    def __init__(
        self,
        read: Callable[[], Awaitable[T]],
        fresh_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._fresh_seconds = fresh_seconds
        self._clock = clock
        self._reading = asyncio.Lock()
        self._known: tuple[float, T] | None = None

    async def get(self) -> T:
        """Raises what reading raises; the next caller reads again."""
        async with self._reading:
            if self._known is None or self._clock() - self._known[0] > self._fresh_seconds:
                self._known = self._clock(), await self._read()
            return self._known[1]
