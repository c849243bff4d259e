"""Blocking calls off the loop, and what a cancellation does to them."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gooseherd.blocking import in_thread, in_thread_or_undo, in_thread_until


async def test_a_result_and_an_exception_come_back() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


async def cancelled_while_running(undo: list[object], *, fails: bool = False) -> bool:
    """Cancel a call three times over before it ends; whether the caller came back before it ended."""
    started, go, ended = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def call() -> str:
        loop.call_soon_threadsafe(started.set)
        go.wait(30)
        ended.set()
        if fails:
            raise ValueError
        return "descriptor"

    task = asyncio.create_task(in_thread_or_undo(undo.append, call))
    await started.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    early = task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    return early


async def test_a_cancelled_caller_returns_after_the_call_and_its_result_is_undone() -> None:
    undone: list[object] = []
    assert not await cancelled_while_running(undone)
    assert undone == ["descriptor"]


async def test_a_call_that_fails_after_the_cancellation_has_nothing_to_undo() -> None:
    undone: list[object] = []
    assert not await cancelled_while_running(undone, fails=True)
    assert undone == []


async def test_a_long_call_is_told_to_stop() -> None:
    stop = threading.Event()
    task = asyncio.create_task(in_thread_until(stop.set, stop.wait, 30))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stop.is_set()


async def test_an_ended_call_cannot_be_undone() -> None:
    undone: list[str] = []
    assert await in_thread_or_undo(undone.append, str, 5) == "5"
    assert undone == []
