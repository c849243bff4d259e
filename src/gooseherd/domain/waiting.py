"""What the store counts of those who wait in the queue, and of how long others had waited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from gooseherd.domain.job import Requester
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
