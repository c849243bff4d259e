"""Who goes first: a rank that is stored with each pending job, so that the queue is an index.

The rank is a start time on a clock that runs for each requester and priority by itself (start-time fair
queueing): a job starts there COST after the requester's last pending one, and not before now. So the
first file of a newcomer goes before the hundredth of somebody else. Lower priorities start later by a
fixed OFFSET, and everything that is asked for after a rank's time sorts behind it: nothing starves, and
no rank is ever rewritten because time has passed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final, Protocol


class Priority(IntEnum):
    """Smaller goes first. The name is the wire form, the number is what is stored."""

    INTERACTIVE = 0
    NORMAL = 1
    BATCH = 2

    @property
    def label(self) -> str:
        """The wire form, lowercase."""
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> Priority:
        """Raises KeyError when `text` names no priority."""
        return cls[text.upper()]


COST: Final = timedelta(seconds=5)
"""What each pending job of a requester is put off by the one before: 10,000 files reach 14 hours ahead,
within the queue's usual time to live."""

OFFSETS: Final[Mapping[Priority, timedelta]] = {
    Priority.INTERACTIVE: timedelta(0),
    Priority.NORMAL: timedelta(minutes=1),
    Priority.BATCH: timedelta(minutes=10),
}
"""How long after it was asked for a job of that priority may be overtaken by interactive ones."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
COST_MILLISECONDS: Final = COST // _MILLISECOND


def first_rank(priority: Priority, now: datetime) -> int:
    """Of a requester that has no pending job of that priority: milliseconds since 1970 and the offset."""
    return (now + COST + OFFSETS[priority] - _EPOCH) // _MILLISECOND


def next_rank(priority: Priority, now: datetime, last: int | None) -> int:
    """Of a requester whose last pending job of that priority has the rank `last`."""
    first = first_rank(priority, now)
    return first if last is None else max(first, last + COST_MILLISECONDS)


_RECENT: Final = (timedelta(minutes=10), timedelta(hours=1), timedelta(hours=6))
"""How far back starts are counted: as little as has enough of them. Where jobs take long they are few."""
_FEWEST_STARTS: Final = 3
"""Fewer say little of how fast the queue moves."""


class _Started(Protocol):
    @property
    def started_at(self) -> datetime: ...


def expected_wait(
    position: int, starts: Sequence[_Started], now: datetime, running_since: Sequence[datetime] = ()
) -> float | None:
    """Seconds until it is the turn of who has `position` others before them, as fast as jobs started lately.

    `starts` are the newest, newest first. Of too few of them nothing is known but the jobs at work, which
    have run since then: each may take as long again. None: nothing is at work either.
    """
    for window in _RECENT:
        recent = [start.started_at for start in starts if now - start.started_at <= window]
        if len(recent) >= _FEWEST_STARTS:
            return _turn(position, (now - min(recent)).total_seconds() / len(recent))
    if not running_since:
        return None
    ages = [(now - since).total_seconds() for since in running_since]
    return _turn(position, sum(ages) / len(ages) / len(ages))


def _turn(position: int, seconds_per_start: float) -> float:
    return round((position + 1) * max(seconds_per_start, 0.001), 1)


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1] if ordered else None
