"""What the store counts of those who wait in the queue, and of how long others had waited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gooseherd.domain.failures import had_worker
from gooseherd.domain.job import AttemptRecord, Requester
from gooseherd.domain.queueing import Priority


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Pending jobs by requester and priority; `oldest` is when the one that waits longest was submitted."""

    pending: Mapping[tuple[Requester, Priority], int]
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Start:
    """When a job was leased for the first time, and when it was put into the queue."""

    queued_for: Requester
    enqueued_at: datetime
    started_at: datetime


def waiting_since(created_at: datetime, attempts: Sequence[AttemptRecord]) -> datetime:
    """Since when a pending job waits for a worker: submitted then, or its last attempt that had one ended."""
    ends = [
        attempt.ended_at
        for attempt in attempts
        if attempt.ended_at is not None and attempt.reason is not None and had_worker(attempt.reason)
    ]
    return max([created_at, *ends])
