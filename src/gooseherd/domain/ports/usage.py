"""What control and api rely on of the store: what was used, by day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Protocol

from gooseherd.domain.job import WorkerId
from gooseherd.domain.usage import UsageQuery, UsageRow, UsageSum


class UsageStore(Protocol):
    """Rows of usage. All methods raise StoreUnavailable; after that the same call again is safe.

    The rows of kind `work` are the job store's to write: an attempt's in the write that ends it, so
    that no death of a process loses or doubles one. Those of the other kinds are written here.
    """

    async def record(self, rows: Sequence[UsageRow]) -> None:
        """Store rows of workers and of bytes served; a stored row's amounts only grow, and it is opened
        no more once it was not open. Writing the same again changes nothing.
        """
        ...

    async def open_workers(self, since: date) -> Sequence[WorkerId]:
        """Workers with a row of that day or later that is open, and none later that is not."""
        ...

    async def sums(self, query: UsageQuery, *, by_job: bool = False) -> Sequence[UsageSum]:
        """Rows summed up by all that a UsageSum names, the job only if asked for, in that order.

        Every attempt whose end a finished write has recorded is in them, exactly once. With a requester
        or a collection there are no rows of workers, which are nobody's.
        """
        ...

    async def now(self) -> datetime:
        """The store's clock, UTC: days are its days."""
        ...

    async def forget(self, before: date, limit: int) -> int:
        """Remove rows of days before that, the oldest first; how many."""
        ...
