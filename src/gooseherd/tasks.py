"""Waiting for tasks to their end, however often whoever waits is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any


async def to_its_end(task: asyncio.Task[Any]) -> asyncio.CancelledError | None:
    """Return when it is over, whatever came of it; the newest cancellation, for the caller to raise."""
    interrupted: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as again:
            interrupted = again
    return interrupted


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel it if need be; returns, or raises the caller's cancellation, when it is over."""
    task.cancel()
    interrupted = await to_its_end(task)
    if not task.cancelled():
        task.exception()  # Looked at: or the loop would call it forgotten.
    if interrupted is not None:
        raise interrupted
