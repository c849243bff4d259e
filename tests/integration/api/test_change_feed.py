"""The reader behind the stream of all changes, when the store fails in the middle of a look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any, cast

import pytest

from gooseherd.control import change_feed
from gooseherd.control.change_feed import ChangeFeed, FeedChange, Resync
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.errors import StoreUnavailable
from gooseherd.domain.job import Job

pytestmark = pytest.mark.integration


class Feed:
    """A feed over the town's store; the last thing a look reads fails when that is wanted."""

    def __init__(self, town: Any) -> None:
        self.error: Exception | None = None
        self.failed = asyncio.Event()
        self.feed = ChangeFeed(
            jobs=town.dependencies.jobs,
            files=town.dependencies.files,
            queue=town.dependencies.queue,
            batches=None,
            catalog_writes=self._catalog_writes,
            listening=self._listening,
            clock=time.monotonic,
        )

    def _catalog_writes(self) -> int:
        if self.error is not None:
            self.failed.set()
            raise self.error
        return 0

    def _listening(self) -> AbstractContextManager[Wakeup]:
        return nullcontext(Wakeup())

    def follow(self, after: str | None = None) -> AsyncGenerator[FeedChange | Resync]:
        return cast("AsyncGenerator[FeedChange | Resync]", self.feed.follow(after, 60))


@pytest.fixture
def feed(town: Any, monkeypatch: pytest.MonkeyPatch) -> Feed:
    monkeypatch.setattr(change_feed, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(change_feed, "_LEAST_SECONDS", 0.02)
    monkeypatch.setattr(change_feed, "_LINGER_SECONDS", 0.0)
    return Feed(town)


async def job_of(changes: AsyncGenerator[FeedChange | Resync], local_id: str) -> FeedChange:
    """The next change of that file's job; a resync on the way to it is an error."""
    async with asyncio.timeout(30):
        async for change in changes:
            assert isinstance(change, FeedChange)
            if isinstance(change.subject, Job) and change.subject.source.local_id == local_id:
                return change
    raise AssertionError("the feed ended")


async def resync(changes: AsyncGenerator[FeedChange | Resync]) -> Resync:
    """The next one, behind changes that were on their way."""
    async with asyncio.timeout(30):
        async for change in changes:
            if isinstance(change, Resync):
                return change
    raise AssertionError("the feed ended")


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a defect")])
async def test_what_a_look_that_failed_may_have_found_is_read_again_by_everybody(town, feed, error):
    first, second, third = [await town.register(local_id=name) for name in ("f1", "f2", "f3")]
    async with aclosing(feed.follow()) as one, aclosing(feed.follow()) as other:
        await resync(one)
        await resync(other)
        await town.http.get(f"/data/{first.name}")
        before = await job_of(one, "f1")
        await job_of(other, "f1")
        feed.error = error
        await town.http.get(f"/data/{second.name}")
        feed.failed.clear()
        await asyncio.wait_for(feed.failed.wait(), 30)
        feed.failed.clear()
        await asyncio.wait_for(feed.failed.wait(), 30)  # It goes on looking.
        feed.error = None
        again = await resync(one)
        await resync(other)
        assert again.bookmark.endswith("-0")
        await town.http.get(f"/data/{third.name}")
        await job_of(one, "f3")
        await job_of(other, "f3")
        # A bookmark from before means nothing, one from after leads on.
        async with aclosing(feed.follow(before.bookmark)) as late:
            await resync(late)
        async with aclosing(feed.follow(again.bookmark)) as late:
            await job_of(late, "f3")


async def test_who_comes_while_the_store_is_away_reads_again_when_it_is_back(town, feed, monkeypatch):
    monkeypatch.setattr(change_feed, "_FIRST_LOOK_SECONDS", -60.0)
    feed.error = StoreUnavailable("away")
    entry = await town.register(local_id="f1")
    async with aclosing(feed.follow("-0")) as changes:
        await resync(changes)
        await asyncio.wait_for(feed.failed.wait(), 30)
        feed.error = None
        await resync(changes)
        await town.http.get(f"/data/{entry.name}")
        await job_of(changes, "f1")


class StoreThatFailsInPart:
    """Of its reads one fails, and another takes for ever."""

    def __init__(self, jobs: Any) -> None:
        self._jobs = jobs
        self._begun, self._never, self.given_up = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)

    async def find(self, query: Any) -> Any:
        await self._begun.wait()
        raise StoreUnavailable("find")

    async def at_work(self) -> Any:
        self._begun.set()
        try:
            await self._never.wait()
        except asyncio.CancelledError:
            self.given_up.set()
            raise


async def test_a_read_that_fails_leaves_no_other_running(feed):
    jobs = feed.feed._jobs = StoreThatFailsInPart(feed.feed._jobs)
    async with aclosing(feed.follow()) as changes:
        following = asyncio.ensure_future(anext(changes))
        await asyncio.wait_for(jobs.given_up.wait(), 10)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_who_followed_a_reader_that_has_ended_reads_again_what_the_next_one_reads(town, feed):
    entry = await town.register(local_id="f1")
    async with aclosing(feed.follow()) as old:
        await resync(old)
        await town.http.get(f"/data/{entry.name}")
        await job_of(old, "f1")
        feed.feed._reader.cancel()
        await asyncio.wait({feed.feed._reader})
        async with aclosing(feed.follow()) as new:
            await resync(new)
        await resync(old)
