"""What control relies on of the store: when artifacts were used, and what else is remembered with a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Protocol


class AccessTimes(Protocol):
    """Names with a time each. All methods raise StoreUnavailable; times are the store's clock."""

    async def touch(self, names: Collection[str], not_since: timedelta) -> None:
        """Set to now those that are not known, or older than that. Never backwards."""
        ...

    async def below(self, prefix: str) -> Mapping[str, datetime]:
        """Those that begin so."""
        ...

    async def forget(self, name: str, seen: datetime | None) -> bool:
        """Remove the name if it is still as it was seen (None: not known); whether it was."""
        ...
