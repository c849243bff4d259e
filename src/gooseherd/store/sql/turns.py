"""A requester's share of the queue: their next place in it, and the slots of their running limit."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, func, literal_column, select, tuple_

from gooseherd.domain.job import Requester
from gooseherd.domain.queueing import Priority, next_rank
from gooseherd.store.edges import LEASED
from gooseherd.store.sql.columns import storable
from gooseherd.store.sql.database import Transaction
from gooseherd.store.sql.pending import in_the_queue
from gooseherd.store.sql.schema import jobs

_ITS: Final = jobs.c.queued_for == bindparam("b_for", type_=jobs.c.queued_for.type)

_LAST: Final = (
    # The last pending job up to there, whosever it is: only one index has that order. For the requester's
    # greatest rank PostgreSQL reads all they have when it has no statistics, and when it has some, perhaps
    # the whole queue by rank.
    in_the_queue(select(jobs.c.queued_for, jobs.c.priority, jobs.c.rank), "jobs_pending_for")
    .where(
        tuple_(jobs.c.queued_for, jobs.c.priority)
        <= tuple_(
            bindparam("b_for", type_=jobs.c.queued_for.type),
            bindparam("b_priority", type_=jobs.c.priority.type),
        ),
    )
    .order_by(jobs.c.queued_for.desc(), jobs.c.priority.desc(), jobs.c.rank.desc())
    .limit(1)
)

_SLOTS: Final = select(jobs.c.running_slot).where(_ITS, jobs.c.active, jobs.c.running_slot.is_not(None))

_PERMIT: Final = select(jobs.c.id).where(
    jobs.c.session_id == bindparam("b_session", type_=jobs.c.session_id.type),
    jobs.c.session_id.is_not(None),
    jobs.c.status.in_([literal_column(f"'{status}'") for status in sorted(s.value for s in LEASED)]),
)

_LOCK: Final = select(
    func.pg_advisory_xact_lock(func.hashtext("gooseherd queue"), func.hashtext(bindparam("b_for")))
)


def in_turn(tx: Transaction, requester: Requester) -> None:
    """Until the transaction ends no other one that calls this for the requester goes on.

    To be called before any row is locked, or two may wait for each other. SQLite has one writer anyway.
    """
    if tx.dialect == "postgresql":
        tx.connection.execute(_LOCK, {"b_for": storable(requester)})


def own_rank(tx: Transaction, requester: Requester, priority: Priority, now: datetime) -> int:
    """The place in the queue that the requester's next job of that priority gets."""
    last = tx.connection.execute(_LAST, {"b_for": requester, "b_priority": int(priority)}).one_or_none()
    own = last is not None and (last.queued_for, last.priority) == (storable(requester), int(priority))
    return next_rank(priority, now, last.rank if last is not None and own else None)


def free_slot(tx: Transaction, requester: Requester, limit: int) -> int | None:
    """One that no job of the requester has; None: `limit` are taken."""
    taken = set(tx.connection.scalars(_SLOTS, {"b_for": requester}))
    if len(taken) >= limit:
        return None
    return next(slot for slot in range(limit) if slot not in taken)


def permit_taken(tx: Transaction, session_id: str) -> bool:
    """Whether a leased job has the session's permit."""
    return tx.connection.scalar(_PERMIT.limit(1), {"b_session": session_id}) is not None
