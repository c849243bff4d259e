"""Blocking calls off the event loop, which a cancellation neither orphans nor leaks.

A caller cancelled in asyncio.to_thread goes on while the thread still runs, and closes
descriptors under its hands. Here a cancellation is delivered when the call is over, so
calls are short or can be told to stop.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The call's result or exception; returns only after the call has ended."""
    return await _run(partial(call, *args, **kwargs), _nothing, _nothing)


async def in_thread_or_undo(
    undo: Callable[[T], object], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """The same for a result that must be freed: when the caller was cancelled it goes to `undo`."""
    return await _run(partial(call, *args, **kwargs), undo, _nothing)


async def in_thread_until(
    stop: Callable[[], object], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """The same for a long call: `stop` is called when the caller is cancelled, and should end it soon."""
    return await _run(partial(call, *args, **kwargs), _nothing, stop)


async def in_executor(executor: Executor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`in_thread` on threads of the caller's own."""
    return await _run(partial(call, *args, **kwargs), _nothing, _nothing, executor)


async def _run(
    call: Callable[[], T],
    undo: Callable[[T], object],
    stop: Callable[[], object],
    executor: Executor | None = None,
) -> T:
    # An executor's future is no task: whoever cancels all tasks at shutdown does not reach it.
    work = asyncio.get_running_loop().run_in_executor(executor, contextvars.copy_context().run, call)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop()
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({work})
        if not work.cancelled() and work.exception() is None:
            undo(work.result())
        raise


def _nothing(*_: object) -> None:
    return None
