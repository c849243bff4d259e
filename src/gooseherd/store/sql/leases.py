"""What the holder of a job writes: leases, news of the attempt, and its end.

The edges are those of store/edges.py. A write that changed nothing first looks whether its own
effect is what stands in the way: after StoreUnavailable callers write again what may be there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, bindparam, case, update

from gooseherd.domain.artifact import Part
from gooseherd.domain.errors import LeaseLost, StillWanted
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import NOT_KNOWN, AttemptEnd, Fence, Job, JobId, Owner, Progress, WorkerId
from gooseherd.domain.ports.store import Renewal
from gooseherd.domain.states import Status
from gooseherd.domain.worker_size import WorkerResources
from gooseherd.store import edges
from gooseherd.store.sql.columns import Moment, storable
from gooseherd.store.sql.database import Transaction, writing
from gooseherd.store.sql.reading import JobReads, load
from gooseherd.store.sql.rows import (
    assignment,
    from_parts,
    from_progress,
    new_attempt,
    open_attempt,
    to_job,
    with_open_attempt,
)
from gooseherd.store.sql.schema import job_workers, jobs
from gooseherd.store.sql.turns import free_slot, in_turn, permit_taken
from gooseherd.store.sql.upserts import insert_if_absent
from gooseherd.store.sql.usage import record_work
from gooseherd.store.sql.writing import ITS_ID, NOT_HELD, NOW, change, closed, demands, end, known, locked

_log = logging.getLogger(__name__)

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The end of a handed-over lease: past on every clock, and first in the order of `unowned`."""

_UNTIL: Final = bindparam("b_until", type_=Moment)

_RENEW: Final = (
    update(jobs)
    .where(ITS_ID, *demands(edges.RENEW))
    .values(
        lease_expires_at=case((jobs.c.lease_expires_at < _UNTIL, _UNTIL), else_=jobs.c.lease_expires_at),
        updated_at=NOW,
    )
    .returning(jobs.c.cancel_requested)
)

_PERCENT: Final = bindparam("b_percent", type_=jobs.c.percent.type)

_PROGRESS: Final = (
    update(jobs)
    .where(ITS_ID, *demands(edges.PROGRESS))
    .values(
        percent=case((jobs.c.percent < _PERCENT, _PERCENT), else_=jobs.c.percent),
        progress=bindparam("b_progress"),
        updated_at=NOW,
    )
)

_HAND_OVER: Final = (
    update(jobs)
    .where(*demands(edges.HAND_OVER), jobs.c.lease_owner == bindparam("b_owner"))
    .values(lease_owner=None, lease_expires_at=_LONG_AGO, updated_at=NOW)
)


class JobHolding(JobReads):
    """The half of the JobStore port that takes a fence, and what gives one."""

    # -- leases ----------------------------------------------------------------------------

    @writing
    def lease(
        self,
        tx: Transaction,
        seen: Job,
        owner: Owner,
        ttl: timedelta,
        running_limit: int | None = None,
        session_id: str | None = None,
    ) -> Job | None:
        """pending→running: fence+1, attempt+1.

        None: somebody else has had it since, it is not due, its requester's limit is reached, or the
        session's permit is taken.
        """
        running_limit = running_limit if session_id is None else None
        if running_limit is not None or session_id is not None:
            in_turn(tx, seen.queued_for)
        if session_id is not None and permit_taken(tx, session_id):
            return None
        row = locked(tx, edges.LEASE, seen.job_id, seen.fence)
        if row is None:
            return None
        slot = None
        if running_limit is not None:
            slot = free_slot(tx, seen.queued_for, running_limit)
            if slot is None or row.queued_for != storable(seen.queued_for):
                return None
        number = row.attempt + 1
        return _job(
            change(
                tx,
                edges.LEASE,
                seen.job_id,
                seen.fence,
                {
                    "attempt": number,
                    "started_at": row.started_at or tx.now,
                    "lease_owner": owner,
                    "lease_expires_at": tx.now + ttl,
                    "running_slot": slot,
                    "session_id": session_id,
                    "progress": from_progress(Progress()),
                    "attempts": [*row.attempts, new_attempt(number, tx.now)],
                },
            )
        )

    @writing
    def adopt(self, tx: Transaction, job_id: JobId, seen: Fence, owner: Owner, ttl: timedelta) -> Job | None:
        """Take over a leased job whose lease ran out, same attempt, fence+1. None: not to be had."""
        values = {"lease_owner": owner, "lease_expires_at": tx.now + ttl}
        return _job(change(tx, edges.ADOPT, job_id, seen, values))

    @writing
    def renew(self, tx: Transaction, job_id: JobId, fence: Fence, ttl: timedelta) -> Renewal:
        """Extend the lease, never shorten it, and learn whether the job is still wanted.

        Late is forgiven (nobody took over), superseded and handed over are not.
        """
        until = tx.now + ttl
        parameters = known(tx, edges.RENEW, job_id, fence) | {"b_until": until}
        unwanted = tx.connection.execute(_RENEW, parameters).scalar_one_or_none()
        if unwanted is None:
            raise lost(job_id, fence, "renew")
        return Renewal(until, wanted=not unwanted)

    @writing
    def shorten_lease(
        self, tx: Transaction, job_id: JobId, seen: Fence, worker_id: WorkerId | None, diagnosis: str
    ) -> bool:
        """The job's worker has ended: its lease runs out now. False: it is no longer as seen."""
        row = locked(tx, edges.SHORTEN_LEASE, job_id, seen)
        attempt = None if row is None else open_attempt(row.attempts)
        if row is None or attempt is None or attempt["worker_id"] != worker_id:
            return False
        attempts = with_open_attempt(row.attempts, {"detail": diagnosis})
        values = {"lease_expires_at": tx.now, "attempts": attempts}
        return change(tx, edges.SHORTEN_LEASE, job_id, seen, values) is not None

    @writing
    def hand_over(self, tx: Transaction, owner: Owner) -> int:
        """Let go of every lease of `owner`; how many there were. They are unowned from now on."""
        return tx.connection.execute(_HAND_OVER, {"b_owner": owner, "b_now": tx.now}).rowcount

    # -- news of an attempt ----------------------------------------------------------------

    @writing
    def assign_worker(
        self,
        tx: Transaction,
        job_id: JobId,
        fence: Fence,
        worker_id: WorkerId,
        dispatched: Mapping[str, Any] | None = None,
        resources: WorkerResources | None = None,
    ) -> None:
        """Record, before the attempt starts there, which worker runs it."""
        row = locked(tx, edges.ASSIGN_WORKER, job_id, fence)
        if row is None:
            raise lost(job_id, fence, "assign_worker")
        attempts = with_open_attempt(row.attempts, assignment(worker_id, dispatched, resources, tx.now))
        change(tx, edges.ASSIGN_WORKER, job_id, fence, {"attempts": attempts})
        row_of_worker = {"worker_id": worker_id, "job_id": job_id}
        tx.connection.execute(insert_if_absent(tx.dialect, job_workers), row_of_worker)

    @writing
    def record_progress(self, tx: Transaction, job_id: JobId, fence: Fence, progress: Progress) -> None:
        """Store how far it is. A smaller percentage than the stored one is not written."""
        parameters = known(tx, edges.PROGRESS, job_id, fence) | {
            "b_percent": round(progress.percent, 2),  # two decimals are plenty
            "b_progress": from_progress(progress),
        }
        if not tx.connection.execute(_PROGRESS, parameters).rowcount:
            raise lost(job_id, fence, "record_progress")

    @writing
    def record_step_complete(
        self, tx: Transaction, job_id: JobId, fence: Fence, step: str, parts: Sequence[Part]
    ) -> None:
        """Add a step and its parts; again with the same step changes nothing."""
        row = locked(tx, edges.STEP_COMPLETE, job_id, fence)
        if row is None:
            raise lost(job_id, fence, "record_step_complete")
        if step not in row.steps_completed:
            values = {
                "steps_completed": [*row.steps_completed, step],
                "parts": [*row.parts, *from_parts(parts)],
            }
            change(tx, edges.STEP_COMPLETE, job_id, fence, values)

    # -- ends ------------------------------------------------------------------------------

    @writing
    def begin_finalize(self, tx: Transaction, job_id: JobId, fence: Fence, steps: Sequence[str] = ()) -> None:
        """running→finalizing, and the steps not recorded yet. Again by the same holder changes nothing."""
        row = locked(tx, edges.BEGIN_FINALIZE, job_id, fence)
        if row is None:
            _same(tx, job_id, fence, "begin_finalize", lambda job: job.status is Status.FINALIZING)
            return
        known = list(dict.fromkeys([*row.steps_completed, *steps]))
        change(tx, edges.BEGIN_FINALIZE, job_id, fence, {"steps_completed": known})

    @writing
    def finalize(
        self,
        tx: Transaction,
        job_id: JobId,
        fence: Fence,
        manifest_digest: str,
        parts: Sequence[Part],
        attempt: AttemptEnd = NOT_KNOWN,
    ) -> None:
        """finalizing→completed; frees the mutex. Again with the same digest changes nothing."""
        row = locked(tx, edges.FINALIZE, job_id, fence)
        if row is None:
            _same(
                tx, job_id, fence, "finalize",
                lambda job: job.status is Status.COMPLETED and job.manifest_digest == manifest_digest,
            )  # fmt: skip
            return
        values = {
            "attempts": closed(row, Reason.PUBLISHED, "", tx.now, attempt),
            "reason": Reason.PUBLISHED.value,
            "manifest_digest": manifest_digest,
            "parts": from_parts(parts),
            "percent": 100.0,
            "progress": {**row.progress, "eta_seconds": None},
        }
        record_work(tx, to_job(_certain(end(tx, edges.FINALIZE, job_id, fence, values))))

    @writing
    def release_workflow(
        self,
        tx: Transaction,
        job_id: JobId,
        fence: Fence,
        status: Status,
        failure: Failure,
        attempt: AttemptEnd = NOT_KNOWN,
    ) -> Job:
        """→failed or →cancelled; frees the mutex. The first writer's reason stands.

        Only a leased job can be released: one that went back to the queue has no holder.
        """
        if status not in (Status.FAILED, Status.CANCELLED):
            raise ValueError(f"a job is not released to {status}")
        edge = edges.FAIL if status is Status.FAILED else edges.CANCEL
        row = locked(tx, edge, job_id, fence)
        if row is None:
            if status is Status.CANCELLED:
                _refuse_if_wanted(load(tx, job_id), fence)
            written = (status, failure.reason, storable(failure.detail))
            return _same(
                tx, job_id, fence, "release_workflow",
                lambda job: (job.status, job.reason, job.detail) == written,
            )  # fmt: skip
        values = {
            "attempts": closed(row, failure.reason, failure.detail, tx.now, attempt),
            "reason": failure.reason.value,
            "detail": failure.detail,
        }
        return record_work(tx, to_job(_certain(end(tx, edge, job_id, fence, values))))

    @writing
    def requeue(
        self,
        tx: Transaction,
        job_id: JobId,
        fence: Fence,
        failure: Failure,
        delay: timedelta,
        attempt: AttemptEnd = NOT_KNOWN,
    ) -> Job:
        """running/finalizing→pending, due after `delay`, at its old place in the queue."""
        row = locked(tx, edges.REQUEUE, job_id, fence)
        if row is None:
            return _same(
                tx, job_id, fence, "requeue",
                lambda job: job.status is Status.PENDING and _last_reason(job) is failure.reason,
            )  # fmt: skip
        values = {
            "attempts": closed(row, failure.reason, failure.detail, tx.now, attempt),
            "not_before": tx.now + delay,
            **NOT_HELD,
        }
        return record_work(tx, to_job(_certain(change(tx, edges.REQUEUE, job_id, fence, values))))


def lost(job_id: JobId, fence: Fence, operation: str) -> LeaseLost:
    """The error of a write that came too late, which is logged."""
    _log.warning("late write refused", extra={"job_id": job_id, "fence": fence, "operation": operation})
    return LeaseLost(job_id, fence)


def _refuse_if_wanted(job: Job | None, fence: Fence) -> None:
    """Raises StillWanted for a job that could be cancelled but for that."""
    if job is not None and (job.fence, job.status) == (fence, Status.RUNNING) and not job.cancel_requested:
        raise StillWanted(job.job_id)


def _same(
    tx: Transaction, job_id: JobId, fence: Fence, operation: str, already: Callable[[Job], bool]
) -> Job:
    """The job, if what stands in the way of the write is the write itself."""
    job = load(tx, job_id)
    if job is None or job.fence != fence or not already(job):
        raise lost(job_id, fence, operation)
    return job


def _job(row: Row[Any] | None) -> Job | None:
    return None if row is None else to_job(row)


def _certain(row: Row[Any] | None) -> Row[Any]:
    """A row that was locked as the edge demands is still so in the same transaction."""
    assert row is not None
    return row


def _last_reason(job: Job) -> Reason | None:
    return job.attempts[-1].reason if job.attempts else None
