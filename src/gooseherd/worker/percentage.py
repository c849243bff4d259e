"""An attempt's progress as one percentage that never falls, though the source arrives beside a step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from gooseherd.domain.attempt import EventKind

FETCH_PERCENT: Final = 10.0
"""Of the whole job, when the source has to be fetched: downloads are short beside sorting."""
_RUN_SHARE: Final = 0.9
"""Of a step; the rest is publishing what it made."""
_FETCH: Final = "fetch"


class Emit(Protocol):
    """Says one event; the rate is the receiver's concern. Called from any thread."""

    def __call__(self, kind: EventKind, **fields: Any) -> object:
        """`fields` are those of `Event`."""


class Percentage:
    """Adds up what has arrived, the steps that are done and the one under way; says it, with an estimate."""

    def __init__(
        self,
        emit: Emit,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._emit = emit
        self._wall_clock = wall_clock
        self._clock = clock
        self._started = clock()
        self._step = _FETCH
        self._given = 0.0
        self._done = 0.0
        self._fetched = 0.0
        self._running = 0.0
        self._percent = 0.0
        self._waiting: dict[str, Any] = {}
        """Said with all progress, also that of a step beside, until more of the source arrives."""

    @property
    def percent(self) -> float:
        """Of the whole job."""
        now = min(100.0, self._done + self._fetched + self._running)
        self._percent = max(self._percent, now)
        return self._percent

    def grant(self, percent: float) -> None:
        """Count this much as done without work, so that the estimate is not led by it."""
        self._given += percent
        self._done += percent

    def begin(self, step: str = _FETCH) -> None:
        """What is said from here on is about this step."""
        self._step = step
        self._emit(EventKind.STEP, step=step, percent=round(self.percent, 2))

    def arrived(self, fraction: float, size: int) -> None:
        """So much of the source is there, that is so many bytes."""
        self._waiting = {}
        self._fetched = max(self._fetched, FETCH_PERCENT * min(1.0, fraction))
        self._say(size, 0)

    def waiting(self, problem: str, seconds: float) -> None:
        """The source cannot be read on just now; it is tried again in so many seconds."""
        self._waiting = {"detail": problem, "until": round(self._wall_clock() + seconds, 1)}
        self._say(0, 0)

    def running(self, share: float, fraction: float, bytes_in: int, bytes_out: int) -> None:
        """The step under way, which is `share` percent of the job, stands at `fraction`."""
        self._running = share * _RUN_SHARE * min(1.0, max(0.0, fraction))
        self._say(bytes_in, bytes_out)

    def end(self, share: float) -> None:
        """The step under way is published."""
        self._done, self._running = self._done + share, 0.0
        self._say(0, 0)

    def _say(self, bytes_in: int, bytes_out: int) -> None:
        percent = self.percent
        earned = percent - self._given
        elapsed = self._clock() - self._started
        eta = elapsed * (100.0 - percent) / earned if earned >= 1.0 else None
        self._emit(
            EventKind.PROGRESS,
            step=self._step,
            percent=round(percent, 2),
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            eta_seconds=None if eta is None or self._waiting else round(eta, 1),
            **self._waiting,
        )
