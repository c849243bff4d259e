"""Several reads at once, of which none goes on after one has failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def all_or_first_error() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the error of the task that failed first, by itself; the others are cancelled.

    asyncio.gather leaves them running: reads of a store that is away would pile up.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
