"""One acquisition for each attempt: whoever asks, whoever leaves, and when."""

from __future__ import annotations

import asyncio

import pytest

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import LaunchFailed, NoCapacity
from gooseherd.domain.formats import BED
from gooseherd.domain.job import JobId, WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle, WorkerNeed
from gooseherd.fleet.acquisitions import Acquisitions

W = WorkerHandle(WorkerId("w-1"), "127.0.0.1:1")
ONE = AttemptId(JobId("one"), 1)
NEED = WorkerNeed(ONE, BED, None)


class Yard:
    """A fleet of one worker, which comes when it is told to."""

    def __init__(self) -> None:
        self.asked: list[AttemptId] = []
        self.released: list[tuple[WorkerId, AttemptId]] = []
        self.come = asyncio.Event()
        self.back = asyncio.Event()
        self.back.set()
        self.acquisitions = Acquisitions(self._acquire, self._release)

    async def _acquire(self, need: WorkerNeed) -> WorkerHandle:
        self.asked.append(need.attempt)
        await self.come.wait()
        return W

    async def _release(self, worker_id: WorkerId, *, reusable: bool, attempt: AttemptId) -> None:
        assert reusable
        await self.back.wait()
        self.released.append((worker_id, attempt))

    async def caller(self) -> asyncio.Task[WorkerHandle]:
        """Who has asked, and waits."""
        task = asyncio.create_task(self.acquisitions.get(NEED))
        while not self.asked:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    async def settled(self) -> None:
        while self.acquisitions.busy():  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.fixture
async def yard() -> Yard:
    return Yard()


async def test_callers_for_one_attempt_get_one_worker(yard: Yard) -> None:
    callers = [await yard.caller() for _ in range(3)]
    assert yard.acquisitions.attempts() == {str(ONE)}
    yard.come.set()
    assert await asyncio.gather(*callers) == [W] * 3
    await yard.settled()
    assert (yard.asked, yard.released) == ([ONE], [])


async def test_a_caller_that_leaves_does_not_take_the_worker_from_another(yard: Yard) -> None:
    leaving, staying = await yard.caller(), await yard.caller()
    leaving.cancel()
    await asyncio.wait({leaving})
    yard.come.set()
    assert await staying == W
    await yard.settled()
    assert leaving.cancelled()
    assert yard.released == []


async def test_a_worker_that_comes_when_its_callers_have_left_is_released_once(yard: Yard) -> None:
    callers = [await yard.caller(), await yard.caller()]
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    yard.come.set()
    await yard.settled()
    assert yard.released == [(W.worker_id, ONE)]


@pytest.mark.parametrize("callers", [1, 2])
async def test_a_worker_that_comes_in_the_tick_in_which_its_last_caller_leaves_is_released_once(
    yard: Yard, callers: int
) -> None:
    leaving = [await yard.caller() for _ in range(callers)]
    yard.come.set()
    for caller in leaving:
        caller.cancel()
    await asyncio.wait(leaving)
    await yard.settled()
    assert all(caller.cancelled() for caller in leaving)
    assert yard.released == [(W.worker_id, ONE)]


async def test_a_worker_that_was_handed_on_before_its_caller_was_told_to_leave_is_released_once(
    yard: Yard,
) -> None:
    leaving = await yard.caller()
    acquiring = next(task for task in asyncio.all_tasks() if task.get_name() == f"acquire {ONE}")
    # Called after the one that hands the worker on, before the caller runs again.
    acquiring.add_done_callback(lambda _: leaving.cancel())
    yard.come.set()
    await asyncio.wait({leaving})
    await yard.settled()
    assert leaving.cancelled()
    assert yard.released == [(W.worker_id, ONE)]


async def test_who_asks_can_wait_for_the_releases_under_way(yard: Yard) -> None:
    yard.back.clear()
    leaving = await yard.caller()
    leaving.cancel()
    await asyncio.wait({leaving})
    yard.come.set()
    while yard.acquisitions.attempts():  # noqa: ASYNC110
        await asyncio.sleep(0)
    waiting = asyncio.create_task(yard.acquisitions.released())
    await asyncio.sleep(0)
    assert not waiting.done()
    yard.back.set()
    await waiting
    assert yard.released == [(W.worker_id, ONE)]


async def test_closing_gives_up_what_is_under_way_and_takes_no_more(yard: Yard) -> None:
    waiting = await yard.caller()
    await yard.acquisitions.close()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    with pytest.raises(NoCapacity):
        await yard.acquisitions.get(NEED)
    assert (yard.asked, yard.released) == ([ONE], [])


async def test_one_that_fails_tells_every_caller_and_the_next_one_tries_again() -> None:
    tries = []

    async def acquire(need: WorkerNeed) -> WorkerHandle:
        tries.append(need.attempt)
        raise LaunchFailed("no such image")

    async def release(_worker_id: WorkerId, **_: object) -> None:
        raise AssertionError("there is nothing to release")

    acquisitions = Acquisitions(acquire, release)
    failed = await asyncio.gather(*(acquisitions.get(NEED) for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in failed] == [LaunchFailed] * 2
    with pytest.raises(LaunchFailed):
        await acquisitions.get(NEED)
    assert tries == [ONE, ONE]
