"""Stops leasing for a while when workers end, one after the other, before an attempt has begun.

That is the fleet's trouble (an image, a network, a zone), whichever job is next. Jobs wait in the queue
meanwhile, and one at a time finds out whether it is over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from gooseherd.domain.alerts import ALERT_FIELD, Alert
from gooseherd.telemetry import LAUNCH_BREAKER, LAUNCHES_FAILED

_log = logging.getLogger(__name__)

_FAILURES: Final = 3
"""In a row: one worker may die by itself, and a second."""

_FIRST_SECONDS: Final = 5.0
_LONGEST_SECONDS: Final = 120.0


class LaunchBreaker:
    """Of one process; what it learns from its own jobs."""

    def __init__(self, scale: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._scale = scale
        self._clock = clock
        self._failures = 0
        self._closed_until = 0.0
        self._why = ""

    @property
    def trouble(self) -> str | None:
        """Why workers end before they begin, one after the other, as the last one did; None: they do not."""
        return self._why if self._failures >= _FAILURES else None

    def failed(self, why: str) -> None:
        """A worker could not be started, or ended before its attempt began."""
        LAUNCHES_FAILED.inc()
        self._why = why
        self._failures += 1
        if (beyond := self._failures - _FAILURES) < 0:
            return
        pause = min(_FIRST_SECONDS * 2 ** min(beyond, 10), _LONGEST_SECONDS) * self._scale
        self._closed_until = self._clock() + pause
        LAUNCH_BREAKER.set(1)
        if beyond == 0:
            _log.error(
                "workers end before they begin, leasing pauses",
                extra={
                    "failures": self._failures,
                    "seconds": pause,
                    "detail": why,
                    ALERT_FIELD: Alert.LAUNCHES_FAIL,
                },
            )

    def began(self) -> None:
        """An attempt has begun on a worker."""
        if self._failures >= _FAILURES:
            _log.info("workers begin again", extra={"failures": self._failures})
        self._failures = 0
        LAUNCH_BREAKER.set(0)

    def allows(self, slots: int, launching: int) -> int:
        """How many of `slots` may be leased for now, while `launching` have no worker yet."""
        if self._failures < _FAILURES:
            return slots
        if self._clock() < self._closed_until or launching:
            return 0
        return min(slots, 1)
