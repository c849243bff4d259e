"""The ReservationStore port over SQLite and PostgreSQL: one reservation is one row, a change one UPDATE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, bindparam, delete, func, or_, select, update

from gooseherd.domain.reservation import Purpose, Reservation, ReservationId
from gooseherd.store.reservation_details import details_of, reservation_from
from gooseherd.store.sql.database import Stored, Transaction, reading, writing
from gooseherd.store.sql.schema import reservations
from gooseherd.store.sql.upserts import insert_if_absent

_LIVE_OF_PURPOSE: Final = select(reservations).where(
    reservations.c.purpose == bindparam("b_purpose"), reservations.c.live
)
_BY_ID: Final = select(reservations).where(reservations.c.id == bindparam("b_id"))
_LIVE: Final = (
    select(reservations).where(reservations.c.live).order_by(reservations.c.created_at, reservations.c.id)
)
_LIVE_OR_LATE: Final = (
    select(reservations)
    .where(or_(reservations.c.live, reservations.c.ended_at > bindparam("b_after")))
    .order_by(reservations.c.created_at, reservations.c.id)
)
_CHANGING: Final = (
    update(reservations)
    .where(
        reservations.c.id == bindparam("b_id"),
        reservations.c.version == bindparam("b_version"),
        reservations.c.live,
    )
    .values(
        {column.name: bindparam(f"b_new_{column.name}") for column in reservations.c if column.name != "id"}
    )
    .returning(reservations)
)
_LOCK: Final = select(func.pg_advisory_xact_lock(func.hashtext("gooseherd reservations")))


class SqlReservations(Stored):
    """The ReservationStore port."""

    @writing
    def reserve(self, tx: Transaction, wanted: Reservation, limit: int) -> Reservation | None:
        """Insert it, or find what its owner has; None: all slots are taken."""
        if tx.dialect == "postgresql":
            tx.connection.execute(_LOCK)
        if (known := _one(tx, wanted.reservation_id)) is not None:
            return known
        rows = tx.connection.execute(_LIVE_OF_PURPOSE, {"b_purpose": wanted.purpose.value}).all()
        for row in rows:
            if row.owner == wanted.owner:
                return to_reservation(row)
        taken = {row.slot for row in rows}
        places = [wanted.slot] if wanted.purpose is Purpose.FLOOR else range(limit)
        slot = next((place for place in places if place not in taken), None)
        if slot is None or len(taken) >= limit:
            return None
        made = replace(
            wanted, slot=slot, created_at=tx.now, changed_at=tx.now, kept_at=wanted.kept_at or tx.now
        )
        inserted = tx.connection.execute(insert_if_absent(tx.dialect, reservations), _row(made))
        return _read(inserted.one_or_none())

    @reading
    def get(self, tx: Transaction, reservation_id: ReservationId) -> Reservation | None:
        """The reservation, or None."""
        return _one(tx, reservation_id)

    @reading
    def live(self, tx: Transaction, ended_after: datetime | None = None) -> Sequence[Reservation]:
        """All that have not ended, and those that ended after that time; oldest first."""
        if ended_after is None:
            rows = tx.connection.execute(_LIVE)
        else:
            rows = tx.connection.execute(_LIVE_OR_LATE, {"b_after": ended_after})
        return [to_reservation(row) for row in rows]

    @writing
    def change(self, tx: Transaction, seen: Reservation, wanted: Reservation) -> Reservation | None:
        """Replace it by the next version; None: it is not as seen."""
        ended_at = (wanted.ended_at or tx.now) if not wanted.live else None
        made = replace(wanted, version=seen.version + 1, changed_at=tx.now, ended_at=ended_at)
        values = _row(made)
        del values["id"]
        parameters = {f"b_new_{name}": value for name, value in values.items()}
        parameters |= {"b_id": seen.reservation_id, "b_version": seen.version}
        return _read(tx.connection.execute(_CHANGING, parameters).one_or_none())

    @writing
    def forget(self, tx: Transaction, ended_before: datetime) -> int:
        """Remove those that ended before; how many."""
        return tx.connection.execute(
            delete(reservations).where(reservations.c.ended_at < ended_before)
        ).rowcount

    @reading
    def now(self, tx: Transaction) -> datetime:
        """The store's clock."""
        return tx.now


def _one(tx: Transaction, reservation_id: ReservationId) -> Reservation | None:
    return _read(tx.connection.execute(_BY_ID, {"b_id": reservation_id}).one_or_none())


def _read(row: Row[Any] | None) -> Reservation | None:
    return None if row is None else to_reservation(row)


def _row(reservation: Reservation) -> dict[str, Any]:
    return {
        "id": reservation.reservation_id,
        "purpose": reservation.purpose.value,
        "owner": reservation.owner,
        "slot": reservation.slot,
        "live": reservation.live,
        "state": reservation.state.value,
        "version": reservation.version,
        "created_at": reservation.created_at,
        "changed_at": reservation.changed_at,
        "ended_at": reservation.ended_at,
        "details": details_of(reservation),
    }


def to_reservation(row: Row[Any]) -> Reservation:
    """The reservation that a row holds."""
    return reservation_from(row._asdict())
