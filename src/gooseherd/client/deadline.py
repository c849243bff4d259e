"""How long a call may still wait."""

from __future__ import annotations

import time

from gooseherd.client.errors import TookTooLong


class Deadline:
    """Seconds left of a wait that may be endless."""

    def __init__(self, seconds: float | None, job_id: str | None = None) -> None:
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds
        self.job_id = job_id

    @property
    def left(self) -> float:
        """Seconds; infinite for an endless wait, negative when it is over."""
        return float("inf") if self._end is None else self._end - time.monotonic()

    @property
    def left_or_none(self) -> float | None:
        """Seconds; None for an endless wait."""
        return None if self._end is None else self.left

    def at_most(self, seconds: float) -> float:
        """`seconds`, or what is left when that is less."""
        return max(min(seconds, self.left), 0.0)

    def check(self) -> None:
        """Raises TookTooLong."""
        if self._end is not None and self.left <= 0:
            raise TookTooLong(self._seconds or 0.0, self.job_id)
