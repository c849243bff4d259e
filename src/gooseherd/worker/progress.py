"""The progress of an attempt as one percentage, which never falls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from gooseherd.domain.attempt import EventKind

FETCH_PERCENT: Final = 10.0
"""Of the whole job, when the source has to be fetched: downloads are short compared with sorting."""
_RUN_SHARE: Final = 0.9
"""Of a step; the rest is the publication of its parts."""
_FETCH: Final = "fetch"


class Emit(Protocol):
    """Writes one event; the receiver limits the rate. Called from any thread."""

    def __call__(self, kind: EventKind, **fields: Any) -> object:
        """`fields` are those of `Event`."""


class ProgressReporter:
    """Adds up the download, the finished steps and the running one; emits the sum with an estimate."""

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
        self._skipped = 0.0
        self._done = 0.0
        self._fetched = 0.0
        self._running = 0.0
        self._percent = 0.0
        self.bytes_arrived = 0
        """Of the source, whatever was read of them again."""
        self._waiting: dict[str, Any] = {}
        """Part of every progress event, also of a running step's, until more of the source arrives."""

    @property
    def percent(self) -> float:
        """Of the whole job."""
        now = min(100.0, self._done + self._fetched + self._running)
        self._percent = max(self._percent, now)
        return self._percent

    def skip(self, percent: float) -> None:
        """Count a kept step as done; no time was spent on it, so the estimate leaves it out."""
        self._skipped += percent
        self._done += percent

    def begin_step(self, step: str = _FETCH) -> None:
        """Emit that the step begins; progress is about this step from now on."""
        self._step = step
        self._emit(EventKind.STEP, step=step, percent=round(self.percent, 2))

    def arrived(self, fraction: float, size: int) -> None:
        """That fraction of the source has arrived, `size` bytes."""
        self._waiting = {}
        self.bytes_arrived = max(self.bytes_arrived, size)
        self._fetched = max(self._fetched, FETCH_PERCENT * min(1.0, fraction))
        self._emit_progress(size, 0)

    def waiting(self, problem: str, seconds: float) -> None:
        """The source cannot be read at the moment; the next try is in so many seconds."""
        self._waiting = {"detail": problem, "until": round(self._wall_clock() + seconds, 1)}
        self._emit_progress(0, 0)

    def running(self, share: float, fraction: float, bytes_in: int, bytes_out: int) -> None:
        """The running step, which is `share` percent of the job, is at `fraction`."""
        self._running = share * _RUN_SHARE * min(1.0, max(0.0, fraction))
        self._emit_progress(bytes_in, bytes_out)

    def end_step(self, share: float) -> None:
        """The running step is published."""
        self._done, self._running = self._done + share, 0.0
        self._emit_progress(0, 0)

    def _emit_progress(self, bytes_in: int, bytes_out: int) -> None:
        percent = self.percent
        earned = percent - self._skipped
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
