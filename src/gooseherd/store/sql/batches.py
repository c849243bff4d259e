"""The BatchStore port: batches and their members."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Row,
    Select,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)

from gooseherd.domain.batch import (
    ENDED,
    IN_FLIGHT,
    Batch,
    BatchId,
    JobOutcome,
    Member,
    MemberChange,
    MemberState,
    NewBatch,
)
from gooseherd.domain.errors import InvalidInput, LimitReached
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import JobId, Owner, Requester
from gooseherd.domain.ports.batches import BatchLimits, BatchPage, BatchQuery, StoredBatch
from gooseherd.domain.source import Dcc, LocalId
from gooseherd.domain.states import Status
from gooseherd.domain.visibility import from_plain, to_plain
from gooseherd.store.sql.bookmarks import bookmark, read_bookmark
from gooseherd.store.sql.database import Stored, Transaction, reading, writing
from gooseherd.store.sql.schema import batch_members, batches, jobs
from gooseherd.store.sql.turns import in_turn

_ID: Final[BindParameter[str]] = bindparam("b_id", type_=batches.c.id.type)
_ITS_MEMBERS: Final = batch_members.c.batch_id == _ID


def _literals(states: frozenset[MemberState]) -> list[Any]:
    return [literal_column(f"'{state}'") for state in sorted(states)]


_ENDED: Final = batch_members.c.state.in_(_literals(ENDED))
_IN_FLIGHT: Final = batch_members.c.state.in_(_literals(IN_FLIGHT))

_AS_A_MEMBER: Final = case(
    (jobs.c.status == Status.PENDING.value, MemberState.PENDING.value),
    (jobs.c.status.in_([Status.RUNNING.value, Status.FINALIZING.value]), MemberState.RUNNING.value),
    else_="",
)
"""The state of a member in flight whose job is active."""

_MOVED: Final = (
    select(
        batch_members,
        jobs.c.id,
        jobs.c.status,
        jobs.c.reason.label("job_reason"),
        jobs.c.detail.label("job_detail"),
    )
    .select_from(batch_members.outerjoin(jobs, jobs.c.id == batch_members.c.job_id))
    .where(
        _ITS_MEMBERS,
        _IN_FLIGHT,
        or_(jobs.c.id.is_(None), batch_members.c.state != _AS_A_MEMBER),
    )
    .order_by(batch_members.c.state, batch_members.c.number)
)

_CHANGE: Final = (
    update(batch_members)
    .where(
        _ITS_MEMBERS,
        batch_members.c.number == bindparam("b_number"),
        batch_members.c.state == bindparam("b_seen"),
    )
    .values(
        state=bindparam("b_state"),
        job_id=bindparam("b_job"),
        reason=bindparam("b_reason"),
        detail=bindparam("b_detail"),
    )
)

_HOLD: Final = (
    update(batches)
    .where(
        batches.c.id == _ID,
        batches.c.ended_at.is_(None),
        or_(
            batches.c.held_by.is_(None),
            batches.c.held_by == bindparam("b_owner"),
            batches.c.held_until <= bindparam("b_now", type_=batches.c.held_until.type),
        ),
    )
    .values(held_by=bindparam("b_owner"), held_until=bindparam("b_until"))
)


class SqlBatches(Stored):
    """The BatchStore port over SQLite and PostgreSQL."""

    @writing
    def create(self, tx: Transaction, new: NewBatch, limits: BatchLimits) -> StoredBatch:
        """One transaction. A requester's come one after the other, so their limit is exact."""
        in_turn(tx, new.requester)
        there = _with_key(tx, new)
        if there is not None:
            return there
        under_way = select(func.count()).select_from(batches).where(batches.c.ended_at.is_(None))
        total = tx.connection.scalar(under_way) or 0
        own = tx.connection.scalar(under_way.where(batches.c.requester == new.requester)) or 0
        if own >= limits.open_per_requester:
            raise LimitReached("open batches of this requester", limits.open_per_requester, own)
        if total >= limits.open_batches:
            raise LimitReached("open batches", limits.open_batches, total)
        tx.connection.execute(
            insert(batches),
            {
                "id": new.batch_id,
                "requester": new.requester,
                "idempotency_key": new.idempotency_key,
                "request_digest": new.request_digest,
                "retry": new.retry,
                "visible": to_plain(new.visible),
                "total": len(new.files),
                "created_at": tx.now,
                "cancel_requested": False,
            },
        )
        rows = [
            {
                "batch_id": new.batch_id,
                "number": number,
                "dcc": dcc,
                "local_id": local_id,
                "state": MemberState.WAITING.value,
                "detail": "",
            }
            for number, (dcc, local_id) in enumerate(new.files)
        ]
        if rows:
            tx.connection.execute(insert(batch_members), rows)
        stored = _load(tx, new.batch_id)
        assert stored is not None
        return StoredBatch(stored, created=True)

    @reading
    def get(self, tx: Transaction, batch_id: BatchId) -> Batch | None:
        """The batch with its counts, or None."""
        return _load(tx, batch_id)

    @reading
    def find(self, tx: Transaction, query: BatchQuery) -> BatchPage:
        """Newest first."""
        wanted, place = select(batches), tuple_(batches.c.created_at, batches.c.id)
        if query.requester is not None:
            wanted = wanted.where(batches.c.requester == query.requester)
        if query.private_of is not None:
            wanted = wanted.where(or_(batches.c.visible.is_(None), batches.c.requester == query.private_of))
        if query.after is not None:
            wanted = wanted.where(place < read_bookmark(query.after))
        ordered = wanted.order_by(batches.c.created_at.desc(), batches.c.id.desc())
        found = _all(tx, ordered.limit(query.limit + 1))
        page = tuple(found[: query.limit])
        more = len(found) > query.limit and page
        return BatchPage(page, bookmark(page[-1].created_at, page[-1].batch_id) if more else None)

    @reading
    def unfinished(self, tx: Transaction, limit: int) -> Sequence[Batch]:
        """Batches that have not been ended, oldest first."""
        wanted = select(batches).where(batches.c.ended_at.is_(None))
        return _all(tx, wanted.order_by(batches.c.created_at, batches.c.id).limit(limit))

    @reading
    def members(
        self,
        tx: Transaction,
        batch_id: BatchId,
        state: MemberState | None = None,
        *,
        limit: int,
        after: int = -1,
    ) -> Sequence[Member]:
        """Members by number."""
        wanted = select(batch_members).where(_ITS_MEMBERS, batch_members.c.number > after)
        if state is not None:
            wanted = wanted.where(batch_members.c.state == state.value)
        rows = tx.connection.execute(wanted.order_by(batch_members.c.number).limit(limit), {"b_id": batch_id})
        return [_member(row) for row in rows]

    @writing
    def hold(self, tx: Transaction, batch_id: BatchId, owner: Owner, ttl: timedelta) -> bool:
        """Become, or stay, the process that submits its files."""
        values = {"b_id": batch_id, "b_owner": owner, "b_now": tx.now, "b_until": tx.now + ttl}
        return tx.connection.execute(_HOLD, values).rowcount == 1

    @reading
    def moved(self, tx: Transaction, batch_id: BatchId, limit: int) -> Sequence[tuple[Member, JobOutcome]]:
        """Members in flight whose job stands otherwise than the member says."""
        found = []
        for row in tx.connection.execute(_MOVED.limit(limit), {"b_id": batch_id}):
            if row.id is None:
                outcome = JobOutcome(None)
            else:
                reason = None if row.job_reason is None else Reason(row.job_reason)
                outcome = JobOutcome(Status(row.status), reason, row.job_detail)
            found.append((_member(row), outcome))
        return found

    @writing
    def record(self, tx: Transaction, batch_id: BatchId, changes: Sequence[MemberChange]) -> int:
        """All in one transaction."""
        changed = 0
        # By number, so that two processes at once wait for each other instead of locking each other out.
        for change in sorted(changes, key=lambda change: change.number):
            values = {
                "b_id": batch_id,
                "b_number": change.number,
                "b_seen": change.seen.value,
                "b_state": change.state.value,
                "b_job": change.job_id,
                "b_reason": None if change.reason is None else change.reason.value,
                "b_detail": change.detail,
            }
            changed += tx.connection.execute(_CHANGE, values).rowcount
        return changed

    @writing
    def cancel(self, tx: Transaction, batch_id: BatchId) -> Batch | None:
        """No file is submitted any more."""
        wanted = update(batches).where(batches.c.id == batch_id, batches.c.ended_at.is_(None))
        if tx.connection.execute(wanted.values(cancel_requested=True)).rowcount:
            waiting = _ITS_MEMBERS, batch_members.c.state == MemberState.WAITING.value
            cancelled = update(batch_members).where(*waiting)
            values = {"state": MemberState.CANCELLED.value, "reason": Reason.CANCELLED.value}
            tx.connection.execute(cancelled.values(**values), {"b_id": batch_id})
        return _load(tx, batch_id)

    @reading
    def wanted_by_another(
        self, tx: Transaction, batch_id: BatchId, job_id: JobId, requester: Requester
    ) -> bool:
        """Whether another live batch of the requester has the job."""
        other = (
            select(batch_members.c.number)
            .join_from(batch_members, batches, batches.c.id == batch_members.c.batch_id)
            .where(
                batch_members.c.job_id == job_id,
                _IN_FLIGHT,
                batch_members.c.batch_id != batch_id,
                batches.c.requester == requester,
                ~batches.c.cancel_requested,
            )
        )
        return tx.connection.execute(other.limit(1)).first() is not None

    @writing
    def end(self, tx: Transaction, batch_id: BatchId) -> bool:
        """Write down when it ended, and its counts."""
        batch = _load(tx, batch_id)
        if batch is None or batch.ended_at is not None or batch.open:
            return False
        counts = {state.value: count for state, count in batch.counts.items()}
        ending = update(batches).where(batches.c.id == batch_id, batches.c.ended_at.is_(None))
        values = {"ended_at": tx.now, "counts": counts, "held_by": None, "held_until": None}
        return tx.connection.execute(ending.values(**values)).rowcount == 1

    @writing
    def forget_ended(self, tx: Transaction, ended_before: datetime, limit: int) -> int:
        """By age, so that few that still go on are looked at in vain."""
        old = select(batches.c.id).where(
            batches.c.created_at < ended_before, batches.c.ended_at < ended_before
        )
        ids = tx.connection.scalars(old.order_by(batches.c.created_at, batches.c.id).limit(limit)).all()
        if ids:
            tx.connection.execute(delete(batches).where(batches.c.id.in_(ids)))
        return len(ids)


def _with_key(tx: Transaction, new: NewBatch) -> StoredBatch | None:
    """The batch that this call stored earlier, or another one with its idempotency key."""
    same = batches.c.id == new.batch_id
    if new.idempotency_key is not None:
        of_key = (
            batches.c.requester == new.requester,
            batches.c.idempotency_key == new.idempotency_key,
        )
        same = or_(same, of_key[0] & of_key[1])
    row = tx.connection.execute(select(batches).where(same).limit(1)).one_or_none()
    if row is None:
        return None
    if row.request_digest != new.request_digest:
        raise InvalidInput("Idempotency-Key", "was used for another request")
    return StoredBatch(_batches(tx, [row])[0], created=row.id == new.batch_id)


def _load(tx: Transaction, batch_id: BatchId) -> Batch | None:
    found = _all(tx, select(batches).where(batches.c.id == batch_id))
    return found[0] if found else None


def _all(tx: Transaction, wanted: Select[Any]) -> list[Batch]:
    return _batches(tx, tx.connection.execute(wanted).all())


def _batches(tx: Transaction, rows: Sequence[Row[Any]]) -> list[Batch]:
    """Batches with their counts: as they were written down at the end, else counted."""
    counts: dict[str, dict[MemberState, int]] = {
        row.id: {MemberState(state): count for state, count in (row.counts or {}).items()} for row in rows
    }
    under_way = [row.id for row in rows if row.counts is None]
    if under_way:
        counted = (
            select(batch_members.c.batch_id, batch_members.c.state, func.count())
            .where(batch_members.c.batch_id.in_(under_way))
            .group_by(batch_members.c.batch_id, batch_members.c.state)
        )
        for batch_id, state, count in tx.connection.execute(counted):
            counts[batch_id][MemberState(state)] = count
    return [
        Batch(
            batch_id=BatchId(row.id),
            requester=Requester(row.requester),
            total=row.total,
            created_at=row.created_at,
            counts=counts[row.id],
            retry=row.retry,
            cancel_requested=row.cancel_requested,
            ended_at=row.ended_at,
            held_by=None if row.held_by is None else Owner(row.held_by),
            held_until=row.held_until,
            visible=from_plain(row.visible),
        )
        for row in rows
    ]


def _member(row: Row[Any]) -> Member:
    return Member(
        number=row.number,
        dcc=Dcc(row.dcc),
        local_id=LocalId(row.local_id),
        state=MemberState(row.state),
        job_id=None if row.job_id is None else JobId(row.job_id),
        reason=None if row.reason is None else Reason(row.reason),
        detail=row.detail,
    )
