"""What control and api rely on of the store: batches of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from gooseherd.domain.batch import Batch, BatchId, JobOutcome, Member, MemberChange, MemberState, NewBatch
from gooseherd.domain.job import JobId, Owner, Requester


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How many batches may be under way; of MongoDB each may be exceeded by those stored at the same time."""

    open_batches: int
    open_per_requester: int


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """`created` tells whether this call stored it; else it is the one with the idempotency key."""

    batch: Batch
    created: bool


@dataclass(frozen=True, slots=True)
class BatchQuery:
    """None filters nothing. Newest first."""

    requester: Requester | None = None
    private_of: Requester | None = None
    """Set: of batches that may hold files that are not public, only this requester's."""
    limit: int = 50
    after: str | None = None


@dataclass(frozen=True, slots=True)
class BatchPage:
    """One page of batches; `next` is None on the last page."""

    batches: tuple[Batch, ...]
    next: str | None = None


class BatchStore(Protocol):
    """Batches with their members.

    A batch appears with all its members or not at all. A member's state is changed by one
    conditional write, so any number of processes may look after one batch. All methods raise
    StoreUnavailable when the outcome is unknown. Times are the store's clock.
    """

    async def create(self, new: NewBatch, limits: BatchLimits) -> StoredBatch:
        """Store the batch, or find the requester's one with that idempotency key; safe to call again.

        Raises:
            InvalidInput: the key was used for another request.
            LimitReached: too many batches are under way.
        """
        ...

    async def get(self, batch_id: BatchId) -> Batch | None:
        """The batch with its counts, or None."""
        ...

    async def find(self, query: BatchQuery) -> BatchPage:
        """One page of batches. Raises InvalidInput: `after` is not the `next` of a page."""
        ...

    async def unfinished(self, limit: int) -> Sequence[Batch]:
        """Batches that have not been ended, oldest first."""
        ...

    async def members(
        self, batch_id: BatchId, state: MemberState | None = None, *, limit: int, after: int = -1
    ) -> Sequence[Member]:
        """Members by number, those after that number, in that state."""
        ...

    async def hold(self, batch_id: BatchId, owner: Owner, ttl: timedelta) -> bool:
        """Become, or stay, the process that submits its files. False: another one is."""
        ...

    async def moved(self, batch_id: BatchId, limit: int) -> Sequence[tuple[Member, JobOutcome]]:
        """Members in flight whose job stands otherwise than the member says."""
        ...

    async def record(self, batch_id: BatchId, changes: Sequence[MemberChange]) -> int:
        """Change members that are still as they were seen; how many were. Each is a write of its own."""
        ...

    async def cancel(self, batch_id: BatchId) -> Batch | None:
        """No file is submitted any more: those that wait are cancelled. None: no such batch.

        One that has ended stays as it is. Called again it cancels those that wait by then.
        """
        ...

    async def wanted_by_another(self, batch_id: BatchId, job_id: JobId, requester: Requester) -> bool:
        """Whether another batch of the requester, not cancelled, has a member in flight with that job."""
        ...

    async def end(self, batch_id: BatchId) -> bool:
        """Write down when it ended, and its counts. False: some member has not ended, or it was done."""
        ...

    async def forget_ended(self, ended_before: datetime, limit: int) -> int:
        """Remove batches that ended before that, with their members; how many."""
        ...
