"""A requester's next place in the queue.

Their last one is counted in a document of its own besides being read from the pending jobs: of many
submissions at the same moment none sees the others' jobs. What is lost of it costs fairness only, so
these writes are not waited for until they are on the disk.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from pymongo import ReturnDocument, WriteConcern
from pymongo.errors import DuplicateKeyError

from gooseherd.domain.job import Requester
from gooseherd.domain.queueing import COST_MILLISECONDS, Priority, next_rank
from gooseherd.domain.states import Status
from gooseherd.store.mongo.connect import Database
from gooseherd.store.mongo.schema import JOBS, TURNS

_CURRENT: Final = timedelta(seconds=10)
"""How long places are counted on before the pending jobs are believed again: longer than a submission
takes, and too short for who asks again and again to be put off by jobs that have left the queue."""


class Turns:
    """Places in the queue of all requesters."""

    def __init__(self, db: Database) -> None:
        self._jobs = db[JOBS]
        self._turns = db.get_collection(TURNS, write_concern=WriteConcern(w=1, j=False))

    async def peek(self, requester: Requester, priority: Priority, now: datetime) -> int:
        """The place that the requester's next job of that priority would get, as the pending jobs say."""
        found = self._jobs.find(
            {"status": Status.PENDING.value, "queued_for": requester, "priority": int(priority)},
            projection={"rank": 1},
            sort=[("rank", -1)],
            limit=1,
        )
        last = next((document.get("rank") for document in await found.to_list()), None)
        return next_rank(priority, now, last)

    async def take(self, requester: Requester, priority: Priority, now: datetime) -> int:
        """That place; nobody else gets it. Raises PyMongoError; callers translate."""
        rank = await self.peek(requester, priority, now)
        turn = {"_id": f"{int(priority)} {requester}"}
        fresh = {"$set": {"rank": rank, "at": now}}
        # Two that peek within a cost of each other are one behind the other, not at once.
        behind = rank - COST_MILLISECONDS
        for outdated in ({"at": {"$lt": now - _CURRENT}}, {"rank": {"$lt": behind}}):
            try:
                # Inserted when there is none; refused as a duplicate when there is one that is up to date.
                await self._turns.update_one({**turn, **outdated}, fresh, upsert=True)
            except DuplicateKeyError:
                continue
            return rank
        counted = await self._turns.find_one_and_update(
            turn,
            {"$inc": {"rank": COST_MILLISECONDS}},
            return_document=ReturnDocument.AFTER,
        )
        return rank if counted is None else int(counted["rank"])
