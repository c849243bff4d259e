"""The ReservationStore port over MongoDB: one document each, a change is one conditional write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from pymongo.errors import DuplicateKeyError

from gooseherd.domain.errors import StoreUnavailable
from gooseherd.domain.reservation import Purpose, Reservation, ReservationId
from gooseherd.store.mongo.clock import StoreClock
from gooseherd.store.mongo.connect import Database, Document, durable, store_operation
from gooseherd.store.mongo.schema import RESERVATIONS
from gooseherd.store.reservation_details import details_of, reservation_from

_TRIES: Final = 16
"""Races lost in a row before giving up; each loss means that somebody else got on."""


class MongoReservations:
    """The ReservationStore port. Two unique indexes on live documents refuse a second per owner and slot."""

    def __init__(self, db: Database, *, clock: StoreClock | None = None) -> None:
        self._reservations = durable(db, RESERVATIONS)
        self._clock = clock or StoreClock(db)

    @store_operation
    async def reserve(self, wanted: Reservation, limit: int) -> Reservation | None:
        """Insert it, or find what its owner has; None: all slots are taken."""
        for _ in range(_TRIES):
            if (known := await self._one(wanted.reservation_id)) is not None:
                return known
            found = await self._reservations.find({"live": True, "purpose": wanted.purpose.value}).to_list()
            for document in found:
                if document["owner"] == wanted.owner:
                    return _read(document)
            taken = {document["slot"] for document in found}
            places = [wanted.slot] if wanted.purpose is Purpose.FLOOR else range(limit)
            slot = next((place for place in places if place not in taken), None)
            if slot is None or len(taken) >= limit:
                return None
            now = await self._clock.now()
            kept_at = wanted.kept_at or now
            made = replace(wanted, slot=slot, created_at=now, changed_at=now, kept_at=kept_at)
            try:
                await self._reservations.insert_one(_write(made))
            except DuplicateKeyError:
                continue  # another process was faster: look who it was
            return made
        raise StoreUnavailable("reserve")

    @store_operation
    async def get(self, reservation_id: ReservationId) -> Reservation | None:
        """The reservation, or None."""
        return await self._one(reservation_id)

    @store_operation
    async def live(self, ended_after: datetime | None = None) -> Sequence[Reservation]:
        """All that have not ended, and those that ended after that time; oldest first."""
        found = await self._reservations.find({"live": True}).to_list()
        if ended_after is not None:
            found += await self._reservations.find({"ended_at": {"$gt": ended_after}}).to_list()
        # One that ended between the two reads is in both.
        newest = {document["_id"]: document for document in found}
        return [_read(d) for d in sorted(newest.values(), key=lambda d: (d["created_at"], d["_id"]))]

    @store_operation
    async def change(self, seen: Reservation, wanted: Reservation) -> Reservation | None:
        """Replace it by the next version; None: it is not as seen."""
        now = await self._clock.now()
        ended_at = (wanted.ended_at or now) if not wanted.live else None
        made = replace(wanted, version=seen.version + 1, changed_at=now, ended_at=ended_at)
        document = _write(made)
        del document["_id"]
        as_seen = {"_id": seen.reservation_id, "version": seen.version, "live": True}
        result = await self._reservations.update_one(as_seen, {"$set": document})
        return made if result.matched_count else None

    @store_operation
    async def forget(self, ended_before: datetime) -> int:
        """Remove those that ended before; how many."""
        return (await self._reservations.delete_many({"ended_at": {"$lt": ended_before}})).deleted_count

    @store_operation
    async def now(self) -> datetime:
        """The store's clock."""
        return await self._clock.now()

    async def _one(self, reservation_id: ReservationId) -> Reservation | None:
        document = await self._reservations.find_one({"_id": reservation_id})
        return None if document is None else _read(document)


def _write(reservation: Reservation) -> Document:
    return {
        "_id": reservation.reservation_id,
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


def _read(document: Mapping[str, Any]) -> Reservation:
    return reservation_from({**document, "id": document["_id"]})
