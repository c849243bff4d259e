"""What control relies on of the store: workers that are reserved."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from gooseherd.domain.reservation import Reservation, ReservationId


class ReservationStore(Protocol):
    """Workers that are reserved. Each method is one write or one read; times are the store's clock.

    All raise StoreUnavailable when the outcome is unknown.
    """

    async def reserve(self, wanted: Reservation, limit: int) -> Reservation | None:
        """Insert `wanted`, or return the live reservation that its owner has already, by another id.

        It takes one of `limit` slots of its purpose that no live one has, whatever its own `slot`; one of
        the floor takes the slot it names. However many processes ask at once, an owner and a slot never
        have two. Again with the same id changes nothing. Its times are set to the store's.

        None: all slots are taken.
        """
        ...

    async def get(self, reservation_id: ReservationId) -> Reservation | None:
        """The reservation, or None."""
        ...

    async def live(self, ended_after: datetime | None = None) -> Sequence[Reservation]:
        """All that have not ended, oldest first; with a time those too that ended after it."""
        ...

    async def change(self, seen: Reservation, wanted: Reservation) -> Reservation | None:
        """Replace `seen` by `wanted`, with the next version; None, and nothing changed: it is not as seen.

        `changed_at` is set, and `ended_at` when `wanted` has ended.
        """
        ...

    async def forget(self, ended_before: datetime) -> int:
        """Remove those that ended before; how many there were."""
        ...

    async def now(self) -> datetime:
        """The store's clock, UTC."""
        ...
