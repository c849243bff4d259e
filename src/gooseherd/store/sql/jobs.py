"""The JobStore port: how jobs come into the queue and are withdrawn from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, delete, select, tuple_, update

from gooseherd.domain.errors import InvalidInput, NewerJob, NotCancellable, NotFound, StoreUnavailable
from gooseherd.domain.failures import Reason, queue_expired_detail
from gooseherd.domain.job import AttemptRecord, Job, JobId, NewestSeen, Requester, Submission
from gooseherd.domain.keys import WorkflowKey
from gooseherd.domain.ports.store import Claim
from gooseherd.domain.queueing import Priority
from gooseherd.domain.states import Status
from gooseherd.domain.waiting import waiting_since
from gooseherd.store import edges
from gooseherd.store.sql.database import Transaction, writing
from gooseherd.store.sql.leases import JobHolding
from gooseherd.store.sql.pending import PENDING_BY_AGE
from gooseherd.store.sql.reading import load
from gooseherd.store.sql.rows import new_job, to_attempt, to_job
from gooseherd.store.sql.schema import job_requesters, jobs
from gooseherd.store.sql.turns import in_turn, own_rank
from gooseherd.store.sql.upserts import insert_if_absent, wait_for_job
from gooseherd.store.sql.writing import ITS_ID, change, end

_TRIES: Final = 16
"""How often the mutex may change hands between an insert that was refused and the look for who has it."""

_LOCKED: Final = select(jobs).where(ITS_ID).with_for_update()

_ACTIVE: Final = (
    select(jobs).where(jobs.c.workflow_key == bindparam("b_key"), jobs.c.active).with_for_update()
)

_NEWEST_OTHER: Final = (
    select(jobs.c.id)
    .where(jobs.c.workflow_key == bindparam("b_key"), jobs.c.id != bindparam("b_id"))
    .order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
    .limit(1)
)

_OLD: Final = (
    select(jobs.c.id, jobs.c.created_at, jobs.c.attempts)
    .where(PENDING_BY_AGE, jobs.c.created_at < bindparam("b_before"))
    .order_by(jobs.c.status, jobs.c.created_at, jobs.c.id)
    .with_for_update()
)

_OLD_BEHIND: Final = _OLD.where(
    tuple_(jobs.c.created_at, jobs.c.id)
    > tuple_(bindparam("b_at", type_=jobs.c.created_at.type), bindparam("b_id", type_=jobs.c.id.type))
)

_LONG_ENDED: Final = (
    select(jobs.c.id)
    .where(
        jobs.c.created_at < bindparam("b_before"),
        ~jobs.c.active,
        jobs.c.finished_at < bindparam("b_before"),
    )
    .order_by(jobs.c.created_at, jobs.c.id)
    .with_for_update()
)


class SqlJobs(JobHolding):
    """The JobStore port over SQLite and PostgreSQL."""

    @writing
    def claim_workflow(
        self, tx: Transaction, submission: Submission, *, newest: NewestSeen | None = None
    ) -> Claim:
        """∅→pending under the mutex, or attach to the job that holds it.

        `created` also when an earlier call with this submission made the job and its answer
        was lost: claiming again with the same submission is safe.

        Raises:
            InvalidInput: the job id already names another job.
            NewerJob: another one than `newest` was made and has ended; nothing was changed.
            StoreUnavailable: nothing known, or the mutex changed hands too often.
        """
        in_turn(tx, submission.requester)
        rank = own_rank(tx, submission.requester, submission.priority, tx.now)
        for _ in range(_TRIES):
            insert = insert_if_absent(tx.dialect, jobs)
            row = tx.connection.execute(insert, new_job(submission, tx.now, rank)).one_or_none()
            if row is not None:
                if newest is not None:
                    # The mutex is held: whatever came before has ended, and is seen.
                    _refuse_newer(tx, submission, newest)
                _join(tx, submission.job_id, submission.requester, tx.now)
                return Claim(to_job(row), created=True)
            job = _attach(tx, submission.workflow_key, submission.requester, submission.priority)
            if job is not None:
                return Claim(job, created=job.job_id == submission.job_id)
            if load(tx, submission.job_id) is not None:
                raise InvalidInput("job_id", f"{submission.job_id!r} already names another job")
        raise StoreUnavailable("claim_workflow")

    @writing
    def attach(
        self, tx: Transaction, key: WorkflowKey, requester: Requester, priority: Priority
    ) -> Job | None:
        """Join the active job of `key`; a running one that was to be cancelled is wanted again."""
        return _attach(tx, key, requester, priority)

    @writing
    def request_cancel(self, tx: Transaction, job_id: JobId, requester: Requester | None) -> Job:
        """Withdraw a requester; None withdraws all. One who asked for nothing changes nothing."""
        row = tx.connection.execute(_LOCKED, {"b_id": job_id}).one_or_none()
        if row is None:
            raise NotFound("job", job_id)
        if Status(row.status) not in edges.WITHDRAW.sources:
            raise NotCancellable(job_id, row.status)
        if requester is not None and requester not in row.requesters:
            return to_job(row)
        staying = [] if requester is None else [name for name in row.requesters if name != requester]
        values: dict[str, Any] = {"requesters": staying}
        if staying and row.status == Status.PENDING and row.queued_for not in staying:
            values["queued_for"] = staying[0]
        if not staying and row.status == Status.PENDING:
            detail = "withdrawn by an operator" if requester is None else "withdrawn by everybody who asked"
            values |= {"reason": Reason.CANCELLED.value, "detail": detail}
            row = end(tx, edges.CANCEL_PENDING, job_id, None, values)
        else:
            values["cancel_requested"] = row.cancel_requested or not staying
            row = change(tx, edges.WITHDRAW, job_id, None, values)
            left = update(job_requesters).where(
                job_requesters.c.job_id == job_id, job_requesters.c.requester.not_in(staying)
            )
            tx.connection.execute(left.values(waiting=False))
        assert row is not None  # it is locked
        return to_job(row)

    @writing
    def expire(self, tx: Transaction, before: datetime, limit: int) -> Sequence[Job]:
        """Pending jobs that have waited since before that fail with queue_expired, oldest first; those ended.

        Old ones that wait anew are looked at each time; there are few of them.
        """
        ended: list[Job] = []
        wanted: dict[str, Any] = {"b_before": before}
        page = tx.connection.execute(_OLD.limit(limit), wanted).all()
        while True:
            for row in page:
                attempts = [to_attempt(attempt) for attempt in row.attempts]
                if len(ended) < limit and waiting_since(row.created_at, attempts) < before:
                    ended += _expired(tx, JobId(row.id), attempts)
            if len(page) < limit or len(ended) >= limit:
                return ended
            wanted |= {"b_at": page[-1].created_at, "b_id": page[-1].id}
            page = tx.connection.execute(_OLD_BEHIND.limit(limit), wanted).all()

    @writing
    def forget_ended(self, tx: Transaction, ended_before: datetime, limit: int) -> int:
        """By age, so that few that still go on are looked at in vain."""
        ids = tx.connection.scalars(_LONG_ENDED.limit(limit), {"b_before": ended_before}).all()
        if ids:
            tx.connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))
        return len(ids)


def _expired(tx: Transaction, job_id: JobId, attempts: Sequence[AttemptRecord]) -> list[Job]:
    detail = queue_expired_detail([(attempt.reason, attempt.detail) for attempt in attempts])
    row = end(tx, edges.EXPIRE, job_id, None, {"reason": Reason.QUEUE_EXPIRED.value, "detail": detail})
    return [] if row is None else [to_job(row)]


def _refuse_newer(tx: Transaction, submission: Submission, newest: NewestSeen) -> None:
    parameters = {"b_key": submission.workflow_key, "b_id": submission.job_id}
    other = tx.connection.scalar(_NEWEST_OTHER, parameters)
    if other is not None and other != newest.job_id:
        raise NewerJob


def _attach(tx: Transaction, key: WorkflowKey, requester: Requester, priority: Priority) -> Job | None:
    row = tx.connection.execute(_ACTIVE, {"b_key": key}).one_or_none()
    if row is None:
        return None
    if requester in row.requesters and priority >= row.priority and not row.cancel_requested:
        return to_job(row)
    joined = row.requesters if requester in row.requesters else [*row.requesters, requester]
    values: dict[str, Any] = {
        "requesters": joined,
        "priority": min(int(priority), row.priority),
        "cancel_requested": False,
    }
    if row.status == Status.PENDING:
        rank = own_rank(tx, requester, priority, tx.now)
        if rank < row.rank:
            values |= {"rank": rank, "queued_for": requester}
    row = change(tx, edges.ATTACH, JobId(row.id), None, values)
    assert row is not None  # it is locked
    _join(tx, JobId(row.id), requester, row.created_at)
    return to_job(row)


def _join(tx: Transaction, job_id: JobId, requester: Requester, created_at: datetime) -> None:
    """The requester waits for the job, whether or not they asked before."""
    row = {"job_id": job_id, "requester": requester, "created_at": created_at, "waiting": True}
    tx.connection.execute(wait_for_job(tx.dialect), row)
