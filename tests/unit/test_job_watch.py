"""However many follow a job, the store is asked once, and each sees it through to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from gooseherd.control.job_watch import JobWatches
from gooseherd.domain.errors import NotFound
from gooseherd.domain.job import JobId


@dataclass(frozen=True)
class Status:
    word: str

    @property
    def terminal(self) -> bool:
        return self.word == "completed"


@dataclass(frozen=True)
class Seen:
    """As much of a job as is looked at."""

    status: Status
    workflow_key: str = "key"


class Store:
    """Shows what it is told to; counts who asks."""

    def __init__(self) -> None:
        self.asked = 0
        self.gone = False
        self._next: asyncio.Queue[str] = asyncio.Queue()

    def show(self, *words: str) -> None:
        for word in words:
            self._next.put_nowait(word)

    async def changes(self, job_id: JobId) -> AsyncIterator[Any]:
        self.asked += 1
        if self.gone:
            raise NotFound("job", job_id)
        while True:
            seen = Seen(Status(await self._next.get()))
            yield seen
            if seen.status.terminal:
                return


JOB = JobId("j1")


async def test_three_hundred_followers_ask_the_store_once() -> None:
    store = Store()
    watches: Any = JobWatches(store.changes)
    started = asyncio.Semaphore(0)

    async def follow() -> list[str]:
        words = []
        async for seen in watches.changes(JOB):
            words.append(seen.status.word)
            started.release()
        return words

    followers = [asyncio.create_task(follow()) for _ in range(300)]
    for word in ("pending", "running", "completed"):
        store.show(word)
        for _ in followers:
            await started.acquire()
    assert await asyncio.gather(*followers) == [["pending", "running", "completed"]] * 300
    assert store.asked == 1


async def test_who_comes_later_sees_it_as_it_is_now() -> None:
    store = Store()
    watches: Any = JobWatches(store.changes)
    early, late = watches.changes(JOB), watches.changes(JOB)
    store.show("running")
    assert (await anext(early)).status.word == "running"
    assert (await anext(late)).status.word == "running"
    store.show("completed")
    assert [seen.status.word async for seen in late] == ["completed"]
    assert [seen.status.word async for seen in early] == ["completed"]
    assert store.asked == 1


async def test_when_the_last_one_leaves_nobody_asks_any_more() -> None:
    store = Store()
    watches: Any = JobWatches(store.changes)
    following = watches.changes(JOB)
    store.show("running")
    await anext(following)
    await following.aclose()
    before = len(asyncio.all_tasks())
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) <= before
    assert watches.live("key") is None
    store.show("completed")
    assert [seen.status.word async for seen in watches.changes(JOB)] == ["completed"]
    assert store.asked == 2


async def test_a_job_that_is_not_there_is_an_error_for_all() -> None:
    store = Store()
    store.gone = True
    watches: Any = JobWatches(store.changes)
    for _ in range(2):
        with pytest.raises(NotFound):
            await anext(watches.changes(JOB))
