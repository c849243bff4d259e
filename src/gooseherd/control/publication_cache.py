"""Which artifacts are published, for lists: a bounded number of looks at a time, remembered for a moment."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Final

from gooseherd.domain.errors import CacheUnavailable, Misconfigured
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import CacheBackend

_log = logging.getLogger(__name__)

REMEMBERED_SECONDS: Final = 60.0
"""What is removed meanwhile is called ready for so long, and found missing by whoever asks for it."""
_REMEMBERED: Final = 50_000
"""Manifests: 10 MB at most."""
_AT_ONCE: Final = 16
"""Of all lists together: the connections to a bucket are for the bytes of readers, too."""
_QUEUED: Final = 2000
"""Beyond these nothing more is looked up: whoever asks again is told later."""


class PublicationCache:
    """Knows by their manifests' keys which artifacts are there.

    A look is no use of an artifact: what is only listed may still go for not being read.
    """

    def __init__(self, cache: CacheBackend, clock: Callable[[], float]) -> None:
        self._cache = cache
        self._clock = clock
        self._known: OrderedDict[CacheKey, tuple[float, bool]] = OrderedDict()
        self._looking: dict[CacheKey, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def look(self, keys: Collection[CacheKey], seconds: float) -> Mapping[CacheKey, bool]:
        """Those of the manifests of which it is known within `seconds` whether they are there.

        What takes longer is looked up all the same, and known to whoever asks next.
        """
        now = self._clock()
        unknown = [key for key in keys if (known := self._known.get(key)) is None or known[0] <= now]
        for key in unknown:
            if key not in self._looking and len(self._looking) < _QUEUED:
                self._looking[key] = asyncio.create_task(self._look(key), name="publication")
        tasks = [self._looking[key] for key in unknown if key in self._looking]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        now = self._clock()
        return {
            key: known[1] for key in keys if (known := self._known.get(key)) is not None and known[0] > now
        }

    async def _look(self, key: CacheKey) -> None:
        try:
            async with self._places:
                # The time before the look: what is published during it is seen after that.
                until = self._clock() + REMEMBERED_SECONDS
                there = await self._cache.head(key) is not None
            self._known[key] = until, there
            self._known.move_to_end(key)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        except (CacheUnavailable, Misconfigured) as error:
            _log.debug("not known whether it is published", extra={"key": key, "error": str(error)})
        finally:
            del self._looking[key]
