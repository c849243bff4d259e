"""What dies takes its own with it, nothing else hangs, and it is told what happened."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gooseherd.domain.attempt import Event, EventKind
from gooseherd.domain.errors import WorkerLost
from gooseherd.domain.failures import Reason
from gooseherd.fleet.wool_workers import WoolWorkers
from gooseherd.processes import ProcessId

pytestmark = [pytest.mark.integration, pytest.mark.fault, pytest.mark.slow]


@asynccontextmanager
async def watched(
    yard, worker, spec, ears: WoolWorkers | None = None
) -> AsyncIterator[tuple[list[int], asyncio.Task[list[Event]]]]:
    """An attempt at work, its processes, and somebody who listens to it."""

    hears = asyncio.Event()

    async def listen():
        events = []
        async with (ears or yard.workers).connect(worker) as link:
            async for event in link.watch_attempt(spec.attempt, 1):
                hears.set()
                events.append(event)
        return events

    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
    pids = await yard.pids()
    listening = asyncio.create_task(listen())
    hearing = asyncio.create_task(hears.wait())
    await asyncio.wait({hearing, listening}, return_when=asyncio.FIRST_COMPLETED)
    hearing.cancel()
    assert hears.is_set(), listening
    yield pids, listening
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


def living(pids: list[int]) -> list[int]:
    return [pid for pid in pids if ProcessId.of(pid)]


async def test_killing_the_entrypoint_ends_the_attempt_and_loses_the_worker(yard, until) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    async with watched(yard, worker, spec) as (pids, listening):
        os.kill(yard.entry(worker).process.pid, signal.SIGKILL)
        with pytest.raises(WorkerLost):
            await listening
        await until(lambda: not living(pids))
        assert await fleet.gone(worker.worker_id) == "worker process killed by signal 9"
        assert not (yard.root / "work" / worker.worker_id).exists()


async def test_killing_wools_process_ends_the_attempt_and_the_worker(yard, until) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    async with watched(yard, worker, spec) as (pids, listening):
        os.kill(yard.child(worker), signal.SIGKILL)
        with pytest.raises(WorkerLost):
            await listening
        await until(lambda: not living(pids))
        assert await fleet.gone(worker.worker_id) == "worker process exited 70"


async def test_killing_the_whole_worker_at_once_leaves_no_attempt(yard, until) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    async with watched(yard, worker, spec) as (pids, listening):
        child = yard.child(worker)
        os.kill(yard.entry(worker).process.pid, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        with pytest.raises(WorkerLost):
            await listening
        await until(lambda: not living(pids))


async def test_killing_the_attempt_is_told_with_its_diagnosis_and_takes_its_tools(yard, until) -> None:
    fleet, spec, next_spec = yard.fleet(), yard.spec("hold"), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    async with watched(yard, worker, spec) as (pids, listening):
        os.kill(pids[0], signal.SIGKILL)
        with pytest.raises(WorkerLost, match="attempt process killed by signal 9"):
            await listening
        await until(lambda: not living(pids))
        assert not (yard.folder(worker, spec) / "scratch").exists()
    async with yard.workers.connect(worker) as link:  # The worker itself is as good as before.
        await link.start_attempt(next_spec)
        events = [event async for event in link.watch_attempt(next_spec.attempt, 1)]
    assert events[-1].kind is EventKind.DONE


async def test_a_frozen_worker_is_lost_and_can_be_got_rid_of(yard, until) -> None:
    impatient = WoolWorkers(silence_seconds=4.0, dispatch_seconds=1.0, answer_seconds=2.0)
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    async with watched(yard, worker, spec, WoolWorkers(silence_seconds=4.0)) as (pids, listening):
        child = yard.child(worker)
        for pid in (child, yard.entry(worker).process.pid):
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(WorkerLost, match="no message"):
            await listening
        with pytest.raises(WorkerLost):
            async with impatient.connect(worker) as link:
                await link.cancel_attempt(spec.attempt)
        os.kill(yard.entry(worker).process.pid, signal.SIGKILL)
        await fleet.release(worker.worker_id, reusable=False)
        await until(lambda: not living([child, *pids]))


async def test_a_frozen_attempt_process_that_is_killed_is_told(yard) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    async with watched(yard, worker, spec) as (pids, _):
        os.kill(pids[0], signal.SIGSTOP)
        async with yard.workers.connect(worker) as link:
            await link.cancel_attempt(spec.attempt)
        assert not living(pids)


async def test_a_worker_told_to_stop_says_why_its_attempt_ends(yard, until) -> None:
    fleet, spec = yard.fleet(), yard.spec("hold")
    worker = await fleet.acquire(yard.need(spec))
    async with watched(yard, worker, spec) as (pids, listening):
        os.kill(yard.entry(worker).process.pid, signal.SIGTERM)
        events = await listening
        assert events[-1].reason is Reason.WORKER_DRAINED
        assert await fleet.gone(worker.worker_id) == "worker process exited 0"
        assert not living(pids)


async def test_a_second_signal_ends_a_worker_at_once(yard, until) -> None:
    fleet, spec = yard.fleet(), yard.spec("deaf")
    worker = await fleet.acquire(yard.need(spec))
    async with watched(yard, worker, spec) as (pids, _):
        process = yard.entry(worker).process
        process.signal(signal.SIGTERM)
        await until(lambda: (yard.root / "work" / worker.worker_id / "draining").exists())
        process.signal(signal.SIGTERM)
        assert await fleet.gone(worker.worker_id) == f"worker process exited {128 + signal.SIGTERM}"
        assert not living(pids)
