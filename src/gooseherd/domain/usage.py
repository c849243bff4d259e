"""What was used, by whom: worker time, bytes, and what they cost; pure.

Worker time is kept as whole milliseconds, and as products of them with the worker's CPU units, MiB and GiB,
so that sums are exact in every store. A span is split at midnight UTC: each row belongs to one day.

| kind | one row for each | counts |
| --- | --- | --- |
| work | attempt and day | the time that an attempt had a worker, and its bytes |
| worker | worker and day | the time that a worker is paid for, whoever uses it |
| served | API process, requester, collection and day | bytes sent to clients |

What a worker was idle is the difference of the first two, over any group of rows that has whole workers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final, Self

from gooseherd.domain.job import Job, JobId, Requester, WorkerId
from gooseherd.domain.source import Dcc
from gooseherd.domain.worker_size import Capacity, LaunchPurpose, WorkerResources, WorkerSize

FREE_DISK_GIB: Final = 20
"""Of each task; only what is more is paid for (https://aws.amazon.com/fargate/pricing/)."""

NOBODY: Final = Requester("")
NO_COLLECTION: Final = Dcc("")

_MILLISECOND: Final = timedelta(milliseconds=1)
_DAY: Final = timedelta(days=1)


class UsageKind(StrEnum):
    """What a row counts; see above."""

    WORK = "work"
    WORKER = "worker"
    SERVED = "served"


@dataclass(frozen=True, slots=True)
class Amounts:
    """Sums of usage. Times are milliseconds, or their products with CPU units, MiB and GiB."""

    attempts: int = 0
    """Attempts that ended on the day."""
    milliseconds: int = 0
    cpu_milliseconds: int = 0
    memory_milliseconds: int = 0
    disk_milliseconds: int = 0
    """Of disk beyond what is free."""
    bytes_in: int = 0
    bytes_out: int = 0
    bytes_served: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(*(getattr(self, name) + getattr(other, name) for name in AMOUNTS))

    def __sub__(self, other: Amounts) -> Amounts:
        return Amounts(*(getattr(self, name) - getattr(other, name) for name in AMOUNTS))

    @classmethod
    def of_time(cls, milliseconds: int, size: WorkerSize) -> Self:
        """So long a worker of that size."""
        return cls(
            milliseconds=milliseconds,
            cpu_milliseconds=milliseconds * size.cpu,
            memory_milliseconds=milliseconds * size.memory_mib,
            disk_milliseconds=milliseconds * max(0, size.disk_gib - FREE_DISK_GIB),
        )

    @property
    def worker_seconds(self) -> float:
        """Seconds of a worker, whatever its size."""
        return self.milliseconds / 1000

    @property
    def vcpu_seconds(self) -> float:
        """Seconds of a vCPU, of which each has 1,024 units."""
        return self.cpu_milliseconds / 1000 / 1024

    @property
    def memory_gb_seconds(self) -> float:
        """Seconds of a GB of memory, as AWS counts it: 1,024 MiB."""
        return self.memory_milliseconds / 1000 / 1024

    @property
    def disk_gb_seconds(self) -> float:
        """Seconds of a GB of disk that is paid for."""
        return self.disk_milliseconds / 1000


AMOUNTS: Final = tuple(one.name for one in fields(Amounts))


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One row, by the name `row_id`, which is the same whoever writes it again."""

    row_id: str
    kind: UsageKind
    day: date
    amounts: Amounts
    requester: Requester = NOBODY
    dcc: Dcc = NO_COLLECTION
    capacity: Capacity = Capacity.NONE
    purpose: LaunchPurpose = LaunchPurpose.JOB
    """What the worker was launched for."""
    job_id: JobId | None = None
    worker_id: WorkerId | None = None
    open: bool = False
    """Of a worker that is not known to have ended."""


@dataclass(frozen=True, slots=True)
class WorkerTime:
    """Since when a worker is paid for, and until when at least: when it ended, or was last seen alive."""

    worker_id: WorkerId
    resources: WorkerResources
    since: datetime
    until: datetime
    ended: bool = False


def split_by_day(since: datetime, until: datetime) -> list[tuple[date, int]]:
    """The milliseconds of the span on each day that it touches; an empty span is on its day, too."""
    since, until = since.astimezone(UTC), max(since, until).astimezone(UTC)
    found = []
    start = since
    while True:
        midnight = datetime(start.year, start.month, start.day, tzinfo=UTC) + _DAY
        end = min(until, midnight)
        # Of differences to one moment, so that the parts add up to the whole.
        found.append((start.date(), (end - since) // _MILLISECOND - (start - since) // _MILLISECOND))
        if until <= midnight:
            return found
        start = midnight


def work_rows(job: Job, now: datetime | None = None) -> list[UsageRow]:
    """Of every attempt of the job that has ended, and with `now` of the one under way so far.

    Attempts that never had a worker have used nothing.
    """
    found: list[UsageRow] = []
    for attempt in job.attempts:
        until = attempt.worked_until or attempt.ended_at or now
        if attempt.assigned_at is None or until is None:
            continue
        if attempt.ended_at is not None:
            until = min(until, attempt.ended_at)
        found += attempt_rows(
            job_id=job.job_id,
            requester=job.queued_for,
            dcc=job.source.dcc,
            number=attempt.number,
            worker_id=attempt.worker_id,
            resources=attempt.resources,
            since=attempt.assigned_at,
            until=until,
            bytes_in=attempt.bytes_in if attempt.ended_at is not None else job.progress.bytes_in,
            bytes_out=attempt.bytes_out if attempt.ended_at is not None else job.progress.bytes_out,
            ended=attempt.ended_at is not None,
        )
    return found


def attempt_rows(
    *,
    job_id: JobId,
    requester: Requester,
    dcc: Dcc,
    number: int,
    worker_id: WorkerId | None,
    resources: WorkerResources | None,
    since: datetime,
    until: datetime,
    bytes_in: int,
    bytes_out: int,
    ended: bool = True,
) -> list[UsageRow]:
    """One row a day; the bytes, and the attempt itself, are counted on the last."""
    resources = resources or UNKNOWN
    days = split_by_day(since, until)
    rows = []
    for day, milliseconds in days:
        amounts = Amounts.of_time(milliseconds, resources.size)
        if day == days[-1][0]:
            amounts += Amounts(attempts=int(ended), bytes_in=bytes_in, bytes_out=bytes_out)
        rows.append(
            UsageRow(
                f"work {job_id}.{number} {day}",
                UsageKind.WORK,
                day,
                amounts,
                requester,
                dcc,
                resources.capacity,
                resources.purpose,
                job_id,
                worker_id,
            )
        )
    return rows


def worker_rows(seen: WorkerTime) -> list[UsageRow]:
    """One row for each day that the worker has lived on."""
    days = split_by_day(seen.since, seen.until)
    return [
        UsageRow(
            f"worker {seen.worker_id} {day}",
            UsageKind.WORKER,
            day,
            Amounts.of_time(milliseconds, seen.resources.size),
            capacity=seen.resources.capacity,
            purpose=seen.resources.purpose,
            worker_id=seen.worker_id,
            open=not seen.ended and day == days[-1][0],
        )
        for day, milliseconds in days
    ]


def served_row(process: str, day: date, requester: Requester, dcc: Dcc, bytes_served: int) -> UsageRow:
    """All that a process has sent to a requester on a day, of one collection."""
    return UsageRow(
        f"served {process} {day} {dcc} {requester}",
        UsageKind.SERVED,
        day,
        Amounts(bytes_served=bytes_served),
        requester,
        dcc,
    )


UNKNOWN: Final = WorkerResources(WorkerSize(0, 0, 0), Capacity.LOCAL)
"""Of a worker whose fleet does not tell: its time counts, and nothing is known to be paid for it."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which rows are summed up; `first` and `last` day belong to it. None filters nothing."""

    first: date
    last: date
    requester: Requester | None = None
    dcc: Dcc | None = None


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Rows of one kind that are alike in all that follows."""

    kind: UsageKind
    day: date
    requester: Requester
    dcc: Dcc
    capacity: Capacity
    purpose: LaunchPurpose
    job_id: JobId | None
    amounts: Amounts


def sum_of_rows(rows: Iterable[UsageRow], query: UsageQuery) -> list[UsageSum]:
    """Rows that were not stored yet, each as a sum of its own, of those that the query names."""
    return [
        UsageSum(
            row.kind, row.day, row.requester, row.dcc, row.capacity, row.purpose, row.job_id, row.amounts
        )
        for row in rows
        if query.first <= row.day <= query.last
        and (query.requester is None or row.requester == query.requester)
        and (query.dcc is None or row.dcc == query.dcc)
    ]
