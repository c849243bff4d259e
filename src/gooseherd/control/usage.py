"""Records what workers cost and what clients are sent, and reports what was used.

| what | recorded by | when | lost by a kill |
| --- | --- | --- | --- |
| an attempt's time and bytes | whoever ends the attempt | in the write that ends it | nothing |
| a worker's life | this loop, of every API process | each pass, from what the fleet shows | up to a pass* |
| bytes sent | the API process that sent them | each pass, as its own sum of the day | up to a pass |

* Nothing while the fleet still shows when it ended: ECS does for an hour.

A pass writes sums, not additions: written twice, or by two processes, they count once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from gooseherd.control.loop import Loop
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.errors import Unavailable
from gooseherd.domain.job import Requester
from gooseherd.domain.ports.fleet import Fleet, WorkerHealth, WorkerView
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.ports.usage import UsageStore
from gooseherd.domain.source import Dcc
from gooseherd.domain.usage import (
    NO_COLLECTION,
    UsageQuery,
    UsageRow,
    UsageSum,
    WorkerTime,
    served_row,
    sum_of_rows,
    work_rows,
    worker_rows,
)
from gooseherd.domain.usage_report import GroupBy, Prices, UsageReport, report

_log = logging.getLogger(__name__)

_MOST_SERVED: Final = 10_000
"""Requesters and collections of which a process counts what it sends in a day, each; others are one."""
OTHERS: Final = Requester("(others)")
_FORGOTTEN_AT_ONCE: Final = 1000
_DAY_SECONDS: Final = 86400
_EPOCH: Final = date(1970, 1, 1)

_Sent = tuple[int, Requester, Dcc]
"""Days since 1970, to whom, of which collection."""


class ServedBytes:
    """How much this process has sent to whom today. Counting is quick: it is done for each response."""

    def __init__(self, process: str, wall_clock: Callable[[], float] = time.time) -> None:
        """`process` is another one after each start; `wall_clock` gives Unix seconds."""
        self._process = process
        self._wall_clock = wall_clock
        self._sums: dict[_Sent, int] = {}
        self._unwritten: set[_Sent] = set()

    def count(self, requester: Requester, dcc: Dcc, sent: int) -> None:
        """So many bytes went out."""
        key = int(self._wall_clock()) // _DAY_SECONDS, requester, dcc
        if key not in self._sums and len(self._sums) >= _MOST_SERVED:
            key = key[0], OTHERS, NO_COLLECTION
        self._sums[key] = self._sums.get(key, 0) + sent
        self._unwritten.add(key)

    def take(self) -> list[UsageRow]:
        """The sums that have grown since the last call."""
        due, self._unwritten = self._unwritten, set()
        return [
            served_row(self._process, _EPOCH + timedelta(days=key[0]), key[1], key[2], self._sums[key])
            for key in sorted(due)
        ]

    def put_back(self, rows: Collection[UsageRow]) -> None:
        """They were not written."""
        self._unwritten |= {((row.day - _EPOCH).days, row.requester, row.dcc) for row in rows}

    def forget(self) -> None:
        """Days that are over and written grow no more."""
        today = int(self._wall_clock()) // _DAY_SECONDS
        for key in [key for key in self._sums if key[0] < today - 1 and key not in self._unwritten]:
            del self._sums[key]


@dataclass(frozen=True, slots=True)
class RecordRows:
    """Write these rows."""

    rows: Sequence[UsageRow]


@dataclass(frozen=True, slots=True)
class ForgetDays:
    """Remove rows of days before that."""

    before: date


@dataclass(frozen=True, slots=True)
class UsageSnapshot:
    """What there is to record. `views` is None when the fleet could not be seen."""

    now: datetime
    views: Sequence[WorkerView] | None
    served: Sequence[UsageRow]


Action = RecordRows | ForgetDays


def worker_times(views: Sequence[WorkerView], now: datetime) -> list[WorkerTime]:
    """The lives of the workers that are paid for, as far as they are over."""
    found = []
    for view in views:
        if view.resources is None or not view.paid_from:
            continue
        since = datetime.fromtimestamp(view.paid_from, UTC)
        ended = view.ended_at is not None
        if not ended and view.health is WorkerHealth.GONE:
            continue  # It is not known when: what was recorded last stays.
        until = now if view.ended_at is None else datetime.fromtimestamp(view.ended_at, UTC)
        found.append(WorkerTime(view.worker_id, view.resources, since, max(since, until), ended))
    return found


class UsageRecorder:
    """The loop, in every API process that has a fleet."""

    def __init__(
        self,
        *,
        usage: UsageStore,
        fleet: Fleet | None,
        served: ServedBytes,
        keep: timedelta | None,
        tick_seconds: float,
    ) -> None:
        """`keep`: how long rows stay; None: for ever."""
        self._usage = usage
        self._fleet = fleet
        self._served = served
        self._keep = keep
        self._forgotten_on: date | None = None
        self.loop: Loop[UsageSnapshot, Action] = Loop(
            "usage",
            observe=self._observe,
            plan=self._plan,
            act=self._act,
            wakeup=Wakeup(),
            tick_seconds=tick_seconds,
        )

    async def flush(self) -> None:
        """Write down what was sent: before the process ends."""
        await self._act(RecordRows(self._served.take()))

    async def _observe(self) -> UsageSnapshot:
        now = await self._usage.now()
        return UsageSnapshot(now, await self._views(now), self._served.take())

    async def _views(self, now: datetime) -> Sequence[WorkerView] | None:
        """Those of workers too that ended while no process of ours was there to see it."""
        if self._fleet is None:
            return None
        try:
            return await self._fleet.survey(await self._usage.open_workers(now.date() - timedelta(days=1)))
        except Unavailable as error:
            _log.warning("workers' time is recorded later", extra={"error": str(error)})
            return None

    def _plan(self, seen: UsageSnapshot) -> Sequence[Action]:
        rows = [*seen.served]
        for life in worker_times(seen.views or (), seen.now):
            rows += worker_rows(life)
        actions: list[Action] = [RecordRows(rows)]
        today = seen.now.date()
        if self._keep is not None and self._forgotten_on != today:
            actions.append(ForgetDays((seen.now - self._keep).date()))
        return actions

    async def _act(self, action: Action) -> None:
        match action:
            case RecordRows(rows):
                try:
                    await self._usage.record(rows)
                except BaseException:
                    self._served.put_back([row for row in rows if row.worker_id is None])
                    raise
                self._served.forget()
            case ForgetDays(before):
                while await self._usage.forget(before, _FORGOTTEN_AT_ONCE) == _FORGOTTEN_AT_ONCE:
                    pass
                self._forgotten_on = (await self._usage.now()).date()


class UsageReports:
    """What was used, attempts under way included, as far as they have come."""

    def __init__(self, usage: UsageStore, jobs: JobStore, prices: Prices) -> None:
        self._usage = usage
        self._jobs = jobs
        self.prices = prices

    async def today(self) -> date:
        """By the store's clock, UTC."""
        return (await self._usage.now()).date()

    async def report(self, query: UsageQuery, by: Collection[GroupBy]) -> UsageReport:
        """Raises StoreUnavailable."""
        return report(await self.sums(query, by_job=GroupBy.JOB in by), by, self.prices)

    async def sums(self, query: UsageQuery, *, by_job: bool = False) -> Sequence[UsageSum]:
        """Raises StoreUnavailable."""
        # What is under way first: an attempt that ends in between is counted twice for a moment, never not.
        under_way = await self._jobs.at_work()
        now = await self._usage.now()
        stored = await self._usage.sums(query, by_job=by_job)
        rows = [
            row
            for job in under_way
            for row in work_rows(job, now)
            if row.row_id.startswith(f"work {job.job_id}.{job.attempt} ")
        ]
        return [*stored, *sum_of_rows(rows, query)]
