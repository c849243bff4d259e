"""The AccessTimes port over MongoDB."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from gooseherd.store.mongo.clock import StoreClock
from gooseherd.store.mongo.connect import Database, durable, store_operation
from gooseherd.store.mongo.schema import ACCESS_TIMES

_LAST: Final = "\U0010ffff"
_DUPLICATE_KEY: Final = 11000


class MongoAccessTimes:
    """The AccessTimes port over MongoDB and what speaks its protocol."""

    def __init__(self, db: Database, *, clock: StoreClock | None = None) -> None:
        self._times = durable(db, ACCESS_TIMES)
        self._clock = clock or StoreClock(db)

    @store_operation
    async def touch(self, names: Collection[str], not_since: timedelta) -> None:
        """Set to now those that are not known, or older than that."""
        if not names:
            return
        now = await self._clock.now()
        # Inserted when there is none; refused as a duplicate when there is one that is young enough.
        writes = [
            UpdateOne({"_id": name, "at": {"$lt": now - not_since}}, {"$set": {"at": now}}, upsert=True)
            for name in sorted(set(names))
        ]
        try:
            await self._times.bulk_write(writes, ordered=False)
        except BulkWriteError as error:
            refused = error.details.get("writeErrors") or []
            if not refused or any(item["code"] != _DUPLICATE_KEY for item in refused):
                raise

    @store_operation
    async def below(self, prefix: str) -> Mapping[str, datetime]:
        """Those that begin so."""
        found = self._times.find({"_id": {"$gte": prefix, "$lt": prefix + _LAST}})
        return {document["_id"]: document["at"] for document in await found.to_list()}

    @store_operation
    async def forget(self, name: str, seen: datetime | None) -> bool:
        """Remove the name if it is still as it was seen."""
        if seen is None:
            return await self._times.find_one({"_id": name}) is None
        return (await self._times.delete_one({"_id": name, "at": seen})).deleted_count == 1
