"""What was used: rows by day, and the UsageStore port."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import Executable, Row, and_, case, delete, func, select

from gooseherd.domain.job import Job, JobId, Requester, WorkerId
from gooseherd.domain.source import Dcc
from gooseherd.domain.usage import (
    AMOUNTS,
    Amounts,
    UsageKind,
    UsageQuery,
    UsageRow,
    UsageSum,
    work_rows,
)
from gooseherd.domain.worker_size import Capacity, LaunchPurpose
from gooseherd.store.sql.database import Stored, Transaction, reading, writing
from gooseherd.store.sql.schema import usage
from gooseherd.store.sql.upserts import insert_into

_AT_ONCE: Final = 500
"""Rows in a transaction: others get to write in between."""

_GROUPED: Final = (
    usage.c.kind, usage.c.day, usage.c.requester, usage.c.dcc, usage.c.capacity, usage.c.purpose,
)  # fmt: skip


def record_work(tx: Transaction, job: Job) -> Job:
    """Store what the attempt used that has just ended, in the transaction that ends it."""
    last = job.current_attempt
    if last is not None:
        rows = [row for row in work_rows(job) if row.row_id.startswith(f"work {job.job_id}.{last.number} ")]
        if rows:
            tx.connection.execute(_growing(tx.dialect), list(map(_values, rows)))
    return job


class SqlUsage(Stored):
    """The UsageStore port over SQLite and PostgreSQL."""

    async def record(self, rows: Sequence[UsageRow]) -> None:
        """Store rows whose amounts only grow."""
        # Sorted, so that two processes at once wait for each other instead of locking each other out.
        ordered = sorted(rows, key=lambda row: row.row_id)
        for start in range(0, len(ordered), _AT_ONCE):
            await self._record(ordered[start : start + _AT_ONCE])

    @writing
    def _record(self, tx: Transaction, rows: Sequence[UsageRow]) -> None:
        for row in rows:
            tx.connection.execute(_growing(tx.dialect), _values(row))

    @reading
    def open_workers(self, tx: Transaction, since: date) -> Sequence[WorkerId]:
        """Workers that are not known to have ended."""
        its = select(usage.c.worker_id).where(usage.c.open, usage.c.day >= since.isoformat())
        return [WorkerId(name) for name in tx.connection.scalars(its.distinct().order_by(usage.c.worker_id))]

    @reading
    def sums(self, tx: Transaction, query: UsageQuery, *, by_job: bool = False) -> Sequence[UsageSum]:
        """Rows of some days, summed up."""
        grouped = [*_GROUPED, usage.c.job_id] if by_job else [*_GROUPED]
        found = select(*grouped, *(func.sum(usage.c[name]).label(name) for name in AMOUNTS)).where(
            usage.c.day >= query.first.isoformat(), usage.c.day <= query.last.isoformat()
        )
        if query.requester is not None:
            found = found.where(usage.c.requester == query.requester)
        if query.dcc is not None:
            found = found.where(usage.c.dcc == query.dcc)
        if query.requester is not None or query.dcc is not None:
            found = found.where(usage.c.kind != UsageKind.WORKER.value)
        rows = tx.connection.execute(found.group_by(*grouped))
        return sorted(map(_sum, rows), key=_order)

    @reading
    def now(self, tx: Transaction) -> datetime:
        """The store's clock."""
        return tx.now

    @writing
    def forget(self, tx: Transaction, before: date, limit: int) -> int:
        """The oldest first."""
        old = select(usage.c.id).where(usage.c.day < before.isoformat())
        ids = tx.connection.scalars(old.order_by(usage.c.day, usage.c.id).limit(limit)).all()
        if ids:
            tx.connection.execute(delete(usage).where(usage.c.id.in_(ids)))
        return len(ids)


@cache
def _growing(dialect: str) -> Executable:
    statement = insert_into(dialect, usage)
    new = statement.excluded
    values: dict[str, Any] = {
        name: case(
            # When a worker ended is known exactly; until then it was only seen, a little later perhaps.
            (and_(usage.c.open, ~new.open), new[name]),
            (and_(~usage.c.open, new.open), usage.c[name]),
            (usage.c[name] < new[name], new[name]),
            else_=usage.c[name],
        )
        for name in AMOUNTS
    }
    values["open"] = usage.c.open & new.open
    return statement.on_conflict_do_update(index_elements=["id"], set_=values)


def _values(row: UsageRow) -> dict[str, Any]:
    return {
        "id": row.row_id,
        "kind": row.kind.value,
        "day": row.day.isoformat(),
        "requester": row.requester,
        "dcc": row.dcc,
        "capacity": row.capacity.value,
        "purpose": row.purpose.value,
        "job_id": row.job_id,
        "worker_id": row.worker_id,
        "open": row.open,
        **{name: getattr(row.amounts, name) for name in AMOUNTS},
    }


def _sum(row: Row[Any]) -> UsageSum:
    job_id = getattr(row, "job_id", None)
    return UsageSum(
        UsageKind(row.kind),
        date.fromisoformat(row.day),
        Requester(row.requester),
        Dcc(row.dcc),
        Capacity(row.capacity),
        LaunchPurpose(row.purpose),
        None if job_id is None else JobId(job_id),
        # PostgreSQL's sum of BIGINT is a decimal number.
        Amounts(*(int(getattr(row, name)) for name in AMOUNTS)),
    )


def _order(one: UsageSum) -> tuple[Any, ...]:
    return (
        one.kind, one.day, one.requester, one.dcc, one.capacity, one.purpose, one.job_id or "",
    )  # fmt: skip
