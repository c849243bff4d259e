"""How long a call may still wait."""

from __future__ import annotations

import time

from gooseherd.client.errors import TookTooLong


class Deadline:
    """When a wait ends, which may be never."""

    def __init__(self, seconds: float | None, job_id: str | None = None, what: str = "job") -> None:
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds
        self.job_id = job_id
        self._what = what

    @property
    def remaining(self) -> float:
        """Seconds; infinite for an endless wait, negative when it is over."""
        return float("inf") if self._end is None else self._end - time.monotonic()

    @property
    def remaining_or_none(self) -> float | None:
        """Seconds; None for an endless wait."""
        return None if self._end is None else self.remaining

    def at_most(self, seconds: float) -> float:
        """`seconds`, or the remaining time when that is less."""
        return max(min(seconds, self.remaining), 0.0)

    def check(self) -> None:
        """Raises TookTooLong."""
        if self._end is not None and self.remaining <= 0:
            raise TookTooLong(self._seconds or 0.0, self.job_id, self._what)
