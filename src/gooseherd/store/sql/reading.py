"""What can be asked about jobs without changing them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Integer, Select, bindparam, func, literal_column, select, tuple_

from gooseherd.domain.job import Job, JobId, Owner, Requester, WorkerId
from gooseherd.domain.keys import WorkflowKey
from gooseherd.domain.ports.store import JobPage, JobQuery
from gooseherd.domain.queueing import Priority
from gooseherd.domain.states import ACTIVE, Status
from gooseherd.domain.waiting import QueueDepth, Start
from gooseherd.store.edges import LEASED
from gooseherd.store.sql.bookmarks import bookmark, read_bookmark
from gooseherd.store.sql.database import Stored, Transaction, reading
from gooseherd.store.sql.pending import PENDING, PENDING_BY_AGE, in_the_queue
from gooseherd.store.sql.rows import to_job
from gooseherd.store.sql.schema import job_requesters, job_workers, jobs
from gooseherd.store.sql.visible import only_visible

# Those that are asked often are made once: that takes longer than to run them.

_BY_ID: Final = select(jobs).where(jobs.c.id == bindparam("b_id"))

_NEWEST: Final = (
    select(jobs)
    .where(jobs.c.workflow_key == bindparam("b_key"))
    .order_by(jobs.c.created_at.desc(), jobs.c.active.desc(), jobs.c.id.desc())
    .limit(1)
)

_AGES: Final = select(jobs.c.workflow_key, jobs.c.created_at, jobs.c.active, jobs.c.id)

_KEYS_AT_ONCE: Final = 400
"""Older SQLite takes 999 values in a statement."""

_LIMIT: Final = bindparam("b_limit", type_=Integer)

_LEASED: Final = jobs.c.status.in_(
    [literal_column(f"'{status}'") for status in sorted(s.value for s in LEASED)]
)

_UNOWNED: Final = (
    select(jobs)
    .where(_LEASED, jobs.c.lease_expires_at <= bindparam("b_now"))
    .order_by(jobs.c.lease_expires_at, jobs.c.id)
    .limit(_LIMIT)
)

_OWNED: Final = select(jobs).where(
    _LEASED,
    jobs.c.lease_owner == bindparam("b_owner", type_=jobs.c.lease_owner.type),
    jobs.c.lease_expires_at > bindparam("b_now"),
)

_AT_WORK: Final = select(jobs).where(_LEASED)

_RUNNING: Final = select(jobs.c.queued_for).where(_LEASED)

_DUE: Final = (
    in_the_queue(select(jobs), "jobs_by_rank")
    .where(jobs.c.not_before <= bindparam("b_now"))
    .order_by(jobs.c.rank, jobs.c.id)
    .limit(_LIMIT)
)

_DUE_FOR: Final = (
    select(jobs)
    .where(
        PENDING,
        jobs.c.queued_for == bindparam("b_for", type_=jobs.c.queued_for.type),
        jobs.c.not_before <= bindparam("b_now"),
    )
    .order_by(jobs.c.rank, jobs.c.id)
)

_BEFORE: Final = in_the_queue(select(func.count()).select_from(jobs), "jobs_by_rank").where(
    tuple_(jobs.c.rank, jobs.c.id)
    < tuple_(bindparam("b_rank", type_=jobs.c.rank.type), bindparam("b_id", type_=jobs.c.id.type)),
    jobs.c.not_before <= bindparam("b_now"),
)

_WAITING: Final = in_the_queue(
    select(jobs.c.queued_for, jobs.c.priority, func.count()), "jobs_pending_for"
).group_by(jobs.c.queued_for, jobs.c.priority)

_OLDEST: Final = (
    select(jobs.c.created_at).where(PENDING_BY_AGE).order_by(jobs.c.status, jobs.c.created_at).limit(1)
)

_STARTS: Final = (
    select(jobs.c.queued_for, jobs.c.enqueued_at, jobs.c.started_at)
    .where(jobs.c.started_at.is_not(None))
    .order_by(jobs.c.started_at.desc())
)

_STATUS_OF: Final = select(jobs.c.status).where(jobs.c.id == job_requesters.c.job_id).scalar_subquery()

_PENDING_OF: Final = (
    # From the few jobs that the requester waits for, not from the many that are pending.
    select(job_requesters.c.job_id)
    .where(
        job_requesters.c.requester == bindparam("b_requester"),
        job_requesters.c.waiting,
        literal_column(f"'{Status.PENDING.value}'") == _STATUS_OF,
    )
    .limit(_LIMIT)
)
_COUNT_PENDING_OF: Final = select(func.count()).select_from(_PENDING_OF.subquery("counted"))

_QUEUED_FOR: Final = (
    select(jobs.c.rank)
    .where(PENDING, jobs.c.queued_for == bindparam("b_for", type_=jobs.c.queued_for.type))
    # In the order of their index: PostgreSQL would look for them in the whole queue.
    .order_by(jobs.c.priority, jobs.c.rank)
    .limit(_LIMIT)
)
_COUNT_QUEUED_FOR: Final = select(func.count()).select_from(_QUEUED_FOR.subquery("counted"))


def _age(row: Any) -> tuple[datetime, bool, str]:
    """The order of `latest`."""
    return row.created_at, row.active, row.id


class JobReads(Stored):
    """The reading half of the JobStore port."""

    @reading
    def now(self, tx: Transaction) -> datetime:
        """The store's clock, UTC, whole milliseconds."""
        return tx.now

    @reading
    def get(self, tx: Transaction, job_id: JobId) -> Job | None:
        """The job, or None."""
        return load(tx, job_id)

    @reading
    def latest(self, tx: Transaction, key: WorkflowKey) -> Job | None:
        """The newest job of that key; of two from the same millisecond the active one."""
        return _one(tx, _NEWEST, {"b_key": key})

    @reading
    def latest_of(self, tx: Transaction, keys: Collection[WorkflowKey]) -> Mapping[WorkflowKey, Job]:
        """Which they are by the index, then those alone: a job's row is large, and keys have old ones."""
        wanted, found = sorted(keys), dict[WorkflowKey, Job]()
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            newest: dict[str, Any] = {}
            for row in tx.connection.execute(
                _AGES.where(jobs.c.workflow_key.in_(wanted[start : start + _KEYS_AT_ONCE]))
            ):
                known = newest.get(row.workflow_key)
                if known is None or _age(row) > _age(known):
                    newest[row.workflow_key] = row
            ids = [row.id for row in newest.values()]
            if ids:
                jobs_found = map(to_job, tx.connection.execute(select(jobs).where(jobs.c.id.in_(ids))))
                found |= {job.workflow_key: job for job in jobs_found}
        return found

    @reading
    def find(self, tx: Transaction, query: JobQuery) -> JobPage:
        """Newest first. `requester` finds whoever ever asked, also those who withdrew.

        Raises:
            InvalidInput: `after` is not the `next` of a page.
        """
        wanted, created_at, job_id = select(jobs), jobs.c.created_at, jobs.c.id
        if query.requester is not None:
            wanted = wanted.join_from(job_requesters, jobs).where(
                job_requesters.c.requester == query.requester
            )
            created_at, job_id = job_requesters.c.created_at, job_requesters.c.job_id
        if query.status is not None:
            wanted = wanted.where(jobs.c.status == query.status.value)
        if query.dcc is not None:
            wanted = wanted.where(jobs.c.dcc == query.dcc)
        if query.local_id is not None:
            wanted = wanted.where(jobs.c.local_id == query.local_id)
        visible = only_visible(jobs, query.visible)
        if visible is not None:
            wanted = wanted.where(visible)
        if query.after is not None:
            wanted = wanted.where(tuple_(created_at, job_id) < read_bookmark(query.after))
        rows = _all(tx, wanted.order_by(created_at.desc(), job_id.desc()).limit(query.limit + 1))
        page = tuple(rows[: query.limit])
        more = len(rows) > query.limit and page
        return JobPage(page, bookmark(page[-1].created_at, page[-1].job_id) if more else None)

    @reading
    def due(self, tx: Transaction, limit: int, passing_over: Collection[Requester] = ()) -> Sequence[Job]:
        """Pending jobs whose time has come, in queue order (rank, id)."""
        return _all(tx, _without(_DUE, passing_over), {"b_now": tx.now, "b_limit": limit})

    @reading
    def due_for(self, tx: Transaction, requester: Requester, limit: int) -> Sequence[Job]:
        """Those of one requester, in the same order."""
        return _all(tx, _DUE_FOR.limit(limit), {"b_now": tx.now, "b_for": requester})

    @reading
    def unowned(self, tx: Transaction, limit: int) -> Sequence[Job]:
        """Jobs whose lease has run out or was handed over; the handed-over first, then the longest stale."""
        return _all(tx, _UNOWNED, {"b_now": tx.now, "b_limit": limit})

    @reading
    def owned(self, tx: Transaction, owner: Owner) -> Sequence[Job]:
        """Running or finalizing jobs under that owner's unexpired lease."""
        return _all(tx, _OWNED, {"b_now": tx.now, "b_owner": owner})

    @reading
    def at_work(self, tx: Transaction) -> Sequence[Job]:
        """All running and finalizing jobs, leases fresh or not."""
        return _all(tx, _AT_WORK)

    @reading
    def naming(self, tx: Transaction, worker_ids: Collection[WorkerId], since: datetime) -> Sequence[Job]:
        """Jobs changed after `since`, any of whose attempts names one of the workers."""
        theirs = select(job_workers.c.job_id).where(job_workers.c.worker_id.in_(sorted(worker_ids)))
        return _all(tx, select(jobs).where(jobs.c.id.in_(theirs), jobs.c.updated_at > since))

    @reading
    def position(self, tx: Transaction, job: Job, passing_over: Collection[Requester] = ()) -> int:
        """How many due jobs sort before it; 0 is next. Counted in the index."""
        place = {"b_rank": job.rank, "b_id": job.job_id, "b_now": tx.now}
        count: int = tx.connection.execute(_without(_BEFORE, passing_over), place).scalar_one()
        return count

    @reading
    def running_by_requester(self, tx: Transaction) -> Mapping[Requester, int]:
        """Running and finalizing jobs per requester; there are never more of them than workers."""
        return Counter(map(Requester, tx.connection.scalars(_RUNNING)))

    @reading
    def queue_depth(self, tx: Transaction) -> QueueDepth:
        """Who waits, and since when."""
        rows = tx.connection.execute(_WAITING)
        return QueueDepth(
            {(Requester(name), Priority(priority)): count for name, priority, count in rows},
            tx.connection.scalar(_OLDEST),
        )

    @reading
    def recent_starts(self, tx: Transaction, limit: int) -> Sequence[Start]:
        """The newest first leases, newest first."""
        rows = tx.connection.execute(_STARTS.limit(limit))
        return [Start(Requester(row.queued_for), row.enqueued_at, row.started_at) for row in rows]

    @reading
    def counts(self, tx: Transaction) -> Mapping[Status, int]:
        """Active jobs per status; a status without jobs counts 0."""
        active = sorted(status.value for status in ACTIVE)
        rows = tx.connection.execute(
            select(jobs.c.status, func.count()).where(jobs.c.status.in_(active)).group_by(jobs.c.status)
        )
        return dict.fromkeys(map(Status, active), 0) | {Status(status): count for status, count in rows}

    @reading
    def pending_of(self, tx: Transaction, requester: Requester, at_most: int) -> int:
        """Pending jobs this requester waits for, whosever turn they take; counted up to `at_most`."""
        wanted = {"b_requester": requester, "b_limit": at_most}
        return tx.connection.execute(_COUNT_PENDING_OF, wanted).scalar_one()

    @reading
    def queued_for(self, tx: Transaction, requester: Requester, at_most: int) -> int:
        """Pending jobs that take this requester's turn, due or not; counted up to `at_most`."""
        wanted = {"b_for": requester, "b_limit": at_most}
        return tx.connection.execute(_COUNT_QUEUED_FOR, wanted).scalar_one()


def _without(wanted: Select[Any], passing_over: Collection[Requester]) -> Select[Any]:
    return wanted.where(jobs.c.queued_for.not_in(sorted(passing_over))) if passing_over else wanted


def load(tx: Transaction, job_id: JobId) -> Job | None:
    """The job as the transaction sees it, or None."""
    return _one(tx, _BY_ID, {"b_id": job_id})


def _all(tx: Transaction, wanted: Select[Any], parameters: Mapping[str, Any] | None = None) -> list[Job]:
    return [to_job(row) for row in tx.connection.execute(wanted, parameters)]


def _one(tx: Transaction, wanted: Select[Any], parameters: Mapping[str, Any]) -> Job | None:
    row = tx.connection.execute(wanted, parameters).one_or_none()
    return None if row is None else to_job(row)
