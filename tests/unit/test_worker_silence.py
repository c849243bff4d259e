"""A worker is lost when it is silent, and not when we were."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gooseherd.domain.attempt import AttemptId, EventKind
from gooseherd.domain.errors import WorkerLost
from gooseherd.domain.job import JobId, WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.fleet import wool_workers
from gooseherd.worker import routines

ATTEMPT = AttemptId(JobId("j"), 1)
SILENCE_SECONDS = 0.4

Script = Callable[[], AsyncIterator[dict[str, Any]]]


def result(seq: int, kind: EventKind) -> dict[str, Any]:
    return {"event": {"seq": seq, "kind": str(kind), "at": 0.0}}


@pytest.fixture
def hear(monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], Awaitable[list[EventKind]]]:
    """What is heard of a worker that follows the script, without one."""

    async def straight(_: object, call: Callable[[], Awaitable[Any]]) -> Any:
        return await call()

    async def listen(script: Script) -> list[EventKind]:
        monkeypatch.setattr(routines, "watch_attempt", lambda *_: script())
        monkeypatch.setattr(wool_workers._WoolLink, "_with_proxy", straight)
        worker = WorkerHandle(WorkerId("w"), "127.0.0.1:1")
        nobody = wool_workers._Identities(None, None)
        link = wool_workers._WoolLink(worker, SILENCE_SECONDS, 0.0, 1.0, nobody)
        return [event.kind async for event in link.watch_attempt(ATTEMPT, 1)]

    return listen


async def test_what_came_while_this_process_was_held_up_is_heard(hear) -> None:
    async def script() -> AsyncIterator[dict[str, Any]]:
        yield result(1, EventKind.ACCEPTED)
        await asyncio.sleep(0)
        time.sleep(2 * SILENCE_SECONDS)  # noqa: ASYNC251 - the whole loop stands still
        for _ in range(50):  # From the socket to here it takes the loop some rounds.
            await asyncio.sleep(0)
        yield result(2, EventKind.DONE)

    assert await hear(script) == [EventKind.ACCEPTED, EventKind.DONE]


async def test_one_that_says_nothing_is_lost(hear) -> None:
    async def script() -> AsyncIterator[dict[str, Any]]:
        yield result(1, EventKind.ACCEPTED)
        await asyncio.Event().wait()

    with pytest.raises(WorkerLost, match="no message"):
        await hear(script)
