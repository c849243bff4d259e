"""A download and a step run_while_arriving it: who is waited for, and whose failure counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.failures import Reason
from gooseherd.domain.ports.source import Fetched
from gooseherd.domain.processing import StepFailed
from gooseherd.worker.streaming_source import OnFetched, StreamingSource

WHOLE = Fetched(Path("source"), 100, "md5")
WRONG = StepFailed.because(Reason.SOURCE_CHANGED, "md5 differs")
REFUSED = StepFailed.because(Reason.SOURCE_INVALID, "line 3: no number")


class Download:
    """One whose bytes and end the test decides."""

    def __init__(self, *, verify_seconds: float = 60.0) -> None:
        self.progress: OnFetched | None = None
        self.result: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
        self.cancelled = False
        self.streaming_source = StreamingSource(
            self._fetch, expected=None, report=lambda *_: None, verify_seconds=verify_seconds
        )

    async def _fetch(self, progress: OnFetched) -> Fetched:
        self.progress = progress
        try:
            return await self.result
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def there(self, size: int, total: int | None = 100) -> None:
        await settle()
        assert self.progress is not None
        self.progress(size, total)
        await settle()

    def whole(self) -> None:
        self.result.set_result(WHOLE)

    def fails(self) -> None:
        self.result.set_exception(WRONG)


async def settle() -> None:
    """Let everybody who can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


def failing(error: StepFailed) -> Callable[[], Coroutine[Any, Any, str]]:
    async def work() -> str:
        raise error

    return work


async def made() -> str:
    return "made"


async def test_waiting_for_bytes_ends_when_they_are_there() -> None:
    download = Download()
    waiting = asyncio.create_task(download.streaming_source.at_least(50))
    await download.there(49)
    assert not waiting.done()
    await download.there(60)
    assert await waiting == 60
    assert not download.streaming_source.complete
    await download.streaming_source.stop()


async def test_fewer_bytes_than_asked_for_are_all_there_are() -> None:
    download = Download()
    waiting = asyncio.create_task(download.streaming_source.at_least(1000))
    await download.there(100)
    await settle()
    assert not waiting.done()
    download.whole()
    assert await waiting == 100
    assert download.streaming_source.complete
    assert download.streaming_source.size == 100


async def test_what_a_step_made_counts_only_when_the_bytes_are_verified() -> None:
    download = Download()
    working = asyncio.create_task(download.streaming_source.run_while_arriving(made))
    await download.there(100)
    assert not working.done()
    download.whole()
    assert await working == "made"


async def test_wrong_bytes_spoil_what_was_made_of_them() -> None:
    download = Download()
    working = asyncio.create_task(download.streaming_source.run_while_arriving(made))
    await download.there(100)
    download.fails()
    with pytest.raises(StepFailed, match="md5 differs"):
        await working


async def test_a_failing_download_ends_the_step_before_its_failure_is_told() -> None:
    download = Download()
    seen: list[str] = []

    async def work() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            await settle()
            seen.append("ended")
        return ""

    working = asyncio.create_task(download.streaming_source.run_while_arriving(work))
    await download.there(10)
    download.fails()
    with pytest.raises(StepFailed, match="md5 differs"):
        await working
    assert seen == ["ended"]


@pytest.mark.parametrize(("right", "expected"), [(True, "line 3: no number"), (False, "md5 differs")])
async def test_a_step_that_blames_its_bytes_waits_for_the_verdict_on_them(right: bool, expected: str) -> None:
    download = Download()
    working = asyncio.create_task(download.streaming_source.run_while_arriving(failing(REFUSED)))
    await download.there(10)
    assert not working.done()
    download.whole() if right else download.fails()
    with pytest.raises(StepFailed) as failed:
        await working
    assert failed.value.failure.detail == expected


async def test_a_verdict_that_takes_too_long_is_not_waited_for() -> None:
    download = Download(verify_seconds=0.01)
    await download.there(10)
    with pytest.raises(StepFailed) as failed:
        await download.streaming_source.run_while_arriving(failing(REFUSED))
    assert failed.value.failure.reason is Reason.SOURCE_INVALID
    assert failed.value.failure.detail == (
        "line 3: no number (seen in the first 10 of 100 bytes; the rest was not read)"
    )
    await download.streaming_source.stop()
    assert download.cancelled


async def test_a_full_disk_waits_for_nobody() -> None:
    download = Download()
    await download.there(10)
    with pytest.raises(StepFailed, match="no room"):
        await download.streaming_source.run_while_arriving(
            failing(StepFailed.because(Reason.OUT_OF_DISK, "no room"))
        )
    await download.streaming_source.stop()
    assert download.cancelled


async def test_bytes_that_are_taken_back_begin_the_step_anew() -> None:
    download = Download()
    runs: list[int] = []

    async def work() -> str:
        runs.append(len(runs))
        if len(runs) == 1:
            await asyncio.Event().wait()
        return f"run {len(runs)}"

    working = asyncio.create_task(download.streaming_source.run_while_arriving(work))
    await download.there(50)
    await download.there(20)
    download.whole()
    assert await working == "run 2"


async def test_a_refusal_of_bytes_that_are_taken_back_is_no_refusal() -> None:
    download = Download()
    runs: list[int] = []

    async def work() -> str:
        runs.append(len(runs))
        if len(runs) == 1:
            raise REFUSED
        return "made"

    working = asyncio.create_task(download.streaming_source.run_while_arriving(work))
    await download.there(50)
    assert not working.done()
    await download.there(0)
    download.whole()
    assert await working == "made"


async def test_cancellation_waits_for_the_step_to_end() -> None:
    download = Download()
    ended: list[str] = []

    async def work() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            await settle()
            ended.append("step")
        return ""

    working = asyncio.create_task(download.streaming_source.run_while_arriving(work))
    await download.there(10)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert ended == ["step"]
    await download.streaming_source.stop()
    assert download.cancelled
