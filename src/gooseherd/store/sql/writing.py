"""The one kind of write: a conditional UPDATE whose condition is the edge's.

Statements are made once: to make one takes SQLAlchemy several times as long as SQLite takes to run it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Executable, Row, Select, bindparam, literal_column, select, update

from gooseherd.domain.failures import Reason
from gooseherd.domain.job import AttemptEnd, Fence, JobId
from gooseherd.store.edges import Edge, LeaseState
from gooseherd.store.sql.columns import Moment
from gooseherd.store.sql.database import Transaction
from gooseherd.store.sql.rows import attempt_end, with_open_attempt
from gooseherd.store.sql.schema import job_requesters, jobs

NOW: Final = bindparam("b_now", type_=Moment)
"""Names of parameters begin so, because a column's own name would mean its new value."""

ITS_ID: Final = jobs.c.id == bindparam("b_id")


def demands(edge: Edge) -> list[ColumnElement[bool]]:
    """What the edge demands of a job's row; `known` has the parameters."""
    statuses: list[ColumnElement[str]] = [
        literal_column(f"'{status}'") for status in sorted(s.value for s in edge.sources)
    ]
    wanted: list[ColumnElement[bool]] = [jobs.c.status.in_(statuses)]
    if edge.fenced:
        wanted.append(jobs.c.fence == bindparam("b_fence"))
    if edge.lease in (LeaseState.HELD, LeaseState.FRESH):
        wanted.append(jobs.c.lease_owner.is_not(None))
    if edge.lease is LeaseState.FRESH:
        wanted.append(jobs.c.lease_expires_at > NOW)
    if edge.lease is LeaseState.OVER:
        wanted.append(jobs.c.lease_expires_at <= NOW)
    if edge.due:
        wanted.append(jobs.c.not_before <= NOW)
    if edge.unwanted:
        wanted.append(jobs.c.cancel_requested)
    return wanted


def known(tx: Transaction, edge: Edge, job_id: JobId, fence: Fence | None) -> dict[str, Any]:
    """The parameters of a statement about one job."""
    parameters: dict[str, Any] = {"b_id": job_id, "b_now": tx.now}
    if edge.fenced:
        parameters["b_fence"] = fence
    return parameters


def locked(tx: Transaction, edge: Edge, job_id: JobId, fence: Fence | None) -> Row[Any] | None:
    """The job's row, if the edge may be taken: nobody else changes it before this transaction ends.

    SQLite has one writer at a time anyway, PostgreSQL locks the row.
    """
    return tx.connection.execute(_locking(edge), known(tx, edge, job_id, fence)).one_or_none()


@cache
def _locking(edge: Edge) -> Select[Any]:
    return select(jobs).where(ITS_ID, *demands(edge)).with_for_update()


def change(
    tx: Transaction, edge: Edge, job_id: JobId, fence: Fence | None, values: Mapping[str, Any]
) -> Row[Any] | None:
    """Take the edge; the row as it is then. None: the job is not as the edge demands, nothing was changed."""
    parameters = known(tx, edge, job_id, fence) | {f"b_new_{name}": value for name, value in values.items()}
    return tx.connection.execute(_changing(edge, tuple(values)), parameters).one_or_none()


@cache
def _changing(edge: Edge, names: tuple[str, ...]) -> Executable:
    values: dict[str, Any] = {name: bindparam(f"b_new_{name}") for name in names} | {"updated_at": NOW}
    if edge.target is not None:
        values["status"] = edge.target.value
    if edge.new_fence:
        values["fence"] = jobs.c.fence + 1
    return update(jobs).where(ITS_ID, *demands(edge)).values(values).returning(jobs)


NOT_HELD: Final = {"lease_owner": None, "lease_expires_at": None, "running_slot": None}
"""What a job without a holder has."""

_NOBODY_WAITS: Final = (
    update(job_requesters).where(job_requesters.c.job_id == bindparam("b_id")).values(waiting=False)
)


def end(
    tx: Transaction, edge: Edge, job_id: JobId, fence: Fence | None, values: Mapping[str, Any]
) -> Row[Any] | None:
    """Take an edge to a terminal status: frees the mutex, nobody holds it or waits for it any more."""
    ended = {"active": False, "finished_at": tx.now, **NOT_HELD}
    row = change(tx, edge, job_id, fence, {**ended, **values})
    if row is not None:
        tx.connection.execute(_NOBODY_WAITS, {"b_id": job_id})
    return row


def closed(
    row: Row[Any], reason: Reason, detail: str, now: datetime, end: AttemptEnd
) -> list[dict[str, Any]]:
    """The job's attempts with the one under way ended."""
    return with_open_attempt(row.attempts, attempt_end(reason, detail, now, end))
