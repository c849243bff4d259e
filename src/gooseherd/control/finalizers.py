"""Which jobs this process is finalizing right now, so that the reaper leaves them alone.

Marking never raises and a missing id is a no-op: this is a safety net under the lease,
and a net must not be what breaks. A restart starts empty, which is right: whoever was
finalizing then is dead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from gooseherd import telemetry
from gooseherd.domain.job import JobId


class Finalizers:
    """Process-local registry of live finalizers. `enabled=False`: the reaper does not look at it."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._since: dict[JobId, float] = {}
        self.defers_total = 0

    def mark(self, job_id: JobId | None) -> None:
        """This process has begun to finalize the job."""
        if job_id:
            self._since.setdefault(job_id, monotonic())
            telemetry.FINALIZERS.set(len(self._since))

    def clear(self, job_id: JobId | None) -> None:
        """It has ended, well or not."""
        if job_id:
            self._since.pop(job_id, None)
            telemetry.FINALIZERS.set(len(self._since))

    def is_active(self, job_id: JobId | None) -> bool:
        """Whether the reaper leaves the job alone; always False when switched off."""
        return self._enabled and job_id is not None and job_id in self._since

    def snapshot(self) -> dict[JobId, float]:
        """Seconds each live finalizer has been at it."""
        now = monotonic()
        return {job_id: now - since for job_id, since in self._since.items()}

    def left_alone(self) -> dict[JobId, float]:
        """Those of the snapshot that the reaper leaves alone: all, or none when switched off."""
        return self.snapshot() if self._enabled else {}

    def deferred(self) -> None:
        """Count one stale job left alone because its finalizer lives."""
        self.defers_total += 1
        telemetry.FINALIZER_DEFERS.inc()

    @contextmanager
    def finalizing(self, job_id: JobId) -> Iterator[None]:
        """Marked for as long as the block lasts."""
        self.mark(job_id)
        try:
            yield
        finally:
            self.clear(job_id)
