"""Batches as callers have them: take one in, follow it, see its files, cancel it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final

from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.batch import Batch, BatchId, Member, MemberState, NewBatch
from gooseherd.domain.errors import NotFound
from gooseherd.domain.ports.batches import BatchLimits, BatchPage, BatchQuery, BatchStore, StoredBatch

_log = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS: Final = 1.0
"""While somebody follows a batch: any process may change it."""


class Batches:
    """`wakeup` is the loop's, which submits the files (batch_loop.py)."""

    def __init__(self, batches: BatchStore, *, limits: BatchLimits, wakeup: Wakeup) -> None:
        self._batches = batches
        self._limits = limits
        self._wakeup = wakeup
        self._looks: dict[BatchId, tuple[float, asyncio.Task[Batch]]] = {}
        """The last look at each batch that somebody follows, and when it was begun."""

    async def create(self, new: NewBatch) -> StoredBatch:
        """Take a batch in. It is durable when this returns; see BatchStore.create."""
        stored = await self._batches.create(new, self._limits)
        if stored.created:
            _log.info("batch stored", extra={"batch_id": stored.batch.batch_id, "files": stored.batch.total})
            self._wakeup.notify()
        return stored

    async def batch(self, batch_id: BatchId) -> Batch:
        """Raises NotFound."""
        batch = await self._batches.get(batch_id)
        if batch is None:
            raise NotFound("batch", batch_id)
        return batch

    async def find(self, query: BatchQuery) -> BatchPage:
        """One page of batches, newest first."""
        return await self._batches.find(query)

    async def unfinished(self, limit: int) -> Sequence[Batch]:
        """Batches that have not been ended, oldest first."""
        return await self._batches.unfinished(limit)

    async def members(
        self, batch_id: BatchId, state: MemberState | None = None, *, limit: int, after: int = -1
    ) -> Sequence[Member]:
        """Members by number."""
        return await self._batches.members(batch_id, state, limit=limit, after=after)

    async def changes(self, batch_id: BatchId) -> AsyncIterator[Batch]:
        """The batch now, then at each change that is seen, until all its members have ended.

        Raises:
            NotFound: before the first one.
        """
        batch = await self.batch(batch_id)
        yield batch
        while batch.open:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            known, batch = batch, await self._look(batch_id)
            if (batch.counts, batch.cancel_requested) != (known.counts, known.cancel_requested):
                yield batch

    async def _look(self, batch_id: BatchId) -> Batch:
        """The batch as it was a moment ago: one look for all who follow it here."""
        now = asyncio.get_running_loop().time()
        self._looks = {
            known: look for known, look in self._looks.items() if now - look[0] < _LOOK_AGAIN_SECONDS * 0.9
        }
        if batch_id not in self._looks:
            task = asyncio.create_task(self.batch(batch_id), name=f"batch {batch_id}")
            # Looked at here, because everybody who waited may have left.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._looks[batch_id] = now, task
        return await asyncio.shield(self._looks[batch_id][1])

    async def cancel(self, batch_id: BatchId) -> Batch:
        """Submit nothing more of it, and withdraw from its jobs that nobody else wants.

        A file whose job is already finalizing becomes ready all the same.

        Raises:
            NotFound: no such batch.
        """
        batch = await self._batches.cancel(batch_id)
        if batch is None:
            raise NotFound("batch", batch_id)
        self._wakeup.notify()
        return batch
