"""The one kind of write: a conditional UPDATE whose condition is the edge's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, select, update

from gooseherd.domain.failures import Reason
from gooseherd.domain.job import Fence, JobId
from gooseherd.store.edges import Edge, LeaseState
from gooseherd.store.sql.database import Transaction
from gooseherd.store.sql.rows import attempt_end, with_open_attempt
from gooseherd.store.sql.schema import job_requesters, jobs


def demands(edge: Edge, fence: Fence | None, now: datetime) -> list[ColumnElement[bool]]:
    """What the edge demands of a job's row."""
    wanted: list[ColumnElement[bool]] = [jobs.c.status.in_(sorted(s.value for s in edge.sources))]
    if edge.fenced:
        wanted.append(jobs.c.fence == fence)
    if edge.lease in (LeaseState.HELD, LeaseState.FRESH):
        wanted.append(jobs.c.lease_owner.is_not(None))
    if edge.lease is LeaseState.FRESH:
        wanted.append(jobs.c.lease_expires_at > now)
    if edge.lease is LeaseState.OVER:
        wanted.append(jobs.c.lease_expires_at <= now)
    return wanted


def locked(
    tx: Transaction, edge: Edge, job_id: JobId, fence: Fence | None, *also: ColumnElement[bool]
) -> Row[Any] | None:
    """The job's row, if the edge may be taken: nobody else changes it before this transaction ends.

    SQLite has one writer at a time anyway, PostgreSQL locks the row.
    """
    wanted = select(jobs).where(jobs.c.id == job_id, *demands(edge, fence, tx.now), *also)
    return tx.connection.execute(wanted.with_for_update()).one_or_none()


def change(
    tx: Transaction, edge: Edge, job_id: JobId, fence: Fence | None, values: Mapping[str, Any]
) -> Row[Any] | None:
    """Take the edge; the row as it is then. None: the job is not as the edge demands, nothing was changed."""
    return tx.connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, *demands(edge, fence, tx.now))
        .values({**_effect(edge, tx.now), **values})
        .returning(jobs)
    ).one_or_none()


def end(
    tx: Transaction, edge: Edge, job_id: JobId, fence: Fence | None, values: Mapping[str, Any]
) -> Row[Any] | None:
    """Take an edge to a terminal status: frees the mutex, nobody holds it or waits for it any more."""
    ended = {"active": False, "lease_owner": None, "lease_expires_at": None, "finished_at": tx.now}
    row = change(tx, edge, job_id, fence, {**ended, **values})
    if row is not None:
        waiting = update(job_requesters).where(job_requesters.c.job_id == job_id)
        tx.connection.execute(waiting.values(waiting=False))
    return row


def closed(row: Row[Any], reason: Reason, detail: str, now: datetime) -> list[dict[str, Any]]:
    """The job's attempts with the one under way ended."""
    return with_open_attempt(row.attempts, attempt_end(reason, detail, now))


def _effect(edge: Edge, now: datetime) -> dict[str, Any]:
    effect: dict[str, Any] = {"updated_at": now}
    if edge.target is not None:
        effect["status"] = edge.target.value
    return effect
