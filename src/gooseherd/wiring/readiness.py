"""Whether the dependencies answer: looked at once a second at most, told in words that name no host."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from gooseherd.control.launch_breaker import LaunchBreaker
from gooseherd.control.shared_read import SharedRead
from gooseherd.domain.errors import GooseherdError, Misconfigured
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import CacheBackend

_log = logging.getLogger(__name__)

_PROBE: Final = CacheKey("readiness-probe")
_SECONDS: Final = 3.0
"""For each dependency; a load balancer's probe gives up after five."""
FRESH_SECONDS: Final = 1.0
"""So long an answer is given to all who ask."""
_PROCESSING_OFF: Final = (
    "off: upstream's bytes and indexes are served as they are; "
    "SYNC_DATA_DIR or WORKFLOW_S3_BUCKET names a place for artifacts"
)

_SETTING: Final = re.compile(r"((?:ECS|WORKER|AWS|SYNC|WORKFLOW)_[A-Z0-9_]+|AWS [a-z]+|ECS [a-z ]+): ")
"""How a Misconfigured begins: with what an operator must change."""


class Readiness:
    """Asks each dependency; anybody may ask this, however often."""

    def __init__(
        self,
        ping: Callable[[], Awaitable[None]],
        cache: CacheBackend | None,
        breaker: LaunchBreaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ping = ping
        self._cache = cache
        self._breaker = breaker
        # From when it ended: what is away takes seconds, and whoever waited for that does not ask again.
        self._states = SharedRead(self._look, FRESH_SECONDS, clock, from_its_end=True)

    async def states(self) -> Mapping[str, str]:
        """Dependency name to "ok", "off: …", "degraded: …" or what is wrong. The log has the details."""
        return await self._states.get()

    async def _look(self) -> Mapping[str, str]:
        if self._cache is None:
            return {"store": await _state("store", self._ping()), "processing": _PROCESSING_OFF}
        store, cache = await asyncio.gather(
            _state("store", self._ping()), _state("cache", self._cache.head(_PROBE))
        )
        return {"store": store, "cache": cache, "workers": self._workers()}

    def _workers(self) -> str:
        """Degraded at worst: what is published is served all the same."""
        trouble = None if self._breaker is None else self._breaker.trouble
        if trouble is None:
            return "ok"
        setting = _SETTING.match(trouble)
        which = f": {setting.group(1)}" if setting else ""
        return f"degraded: workers cannot be started{which}; the log says why"


async def _state(name: str, answer: Awaitable[object]) -> str:
    try:
        async with asyncio.timeout(_SECONDS):
            await answer
        return "ok"
    except TimeoutError:
        problem, detail = f"did not answer in {_SECONDS:g} s", ""
    except Misconfigured as error:
        problem, detail = (
            "refuses this service, or cannot be used as it is set up; the log says why",
            str(error),
        )
    except GooseherdError as error:
        problem, detail = "does not answer", str(error)
    _log.warning("not ready", extra={"dependency": name, "problem": problem, "error": detail})
    return problem
