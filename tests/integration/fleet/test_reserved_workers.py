"""Workers of reservations as real processes: they stay although idle, while somebody speaks to them."""

from __future__ import annotations

import asyncio
import time

import pytest

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.formats import BAM
from gooseherd.domain.job import JobId
from gooseherd.domain.ports.fleet import WorkerHandle, WorkerNeed
from gooseherd.worker.folders import keep, kept_until
from gooseherd.worker.stopping import until_idle_or_expired

pytestmark = pytest.mark.integration

NAME = AttemptId(JobId("session-1"), 1)
RESERVED = WorkerNeed(NAME, BAM, 0, reserved=True)


async def said_to(yard, worker: WorkerHandle, seconds: float) -> dict[str, object]:
    async with yard.workers.connect(worker) as link:
        return dict(await link.keep(seconds))


@pytest.mark.slow
async def test_a_reserved_worker_outlives_its_idle_timeout_until_nobody_wants_it(yard) -> None:
    fleet = yard.fleet(idle=0.3)
    worker = await fleet.acquire(RESERVED)
    ending = asyncio.create_task(fleet.gone(worker.worker_id))
    assert not (await asyncio.wait({ending}, timeout=3))[0], "an ordinary one would have ended"
    answer = await said_to(yard, worker, 0)
    assert answer["attempts"] == []
    async with asyncio.timeout(60):
        await ending


@pytest.mark.slow
async def test_a_worker_that_nobody_has_spoken_to_for_as_long_as_was_said_ends_itself(yard) -> None:
    fleet = yard.fleet(idle=0.2)
    worker = await fleet.acquire(RESERVED)
    await said_to(yard, worker, 1.0)
    async with asyncio.timeout(60):
        await fleet.gone(worker.worker_id)


@pytest.mark.slow
async def test_a_reserved_worker_is_handed_to_nobody_but_whom_it_is_taken_for(yard) -> None:
    fleet, spec = yard.fleet(max_workers=1), yard.spec("quick")
    worker = await fleet.acquire(RESERVED)
    assert fleet.slots() == 0
    assert await fleet.take(worker.worker_id, spec.attempt, reserved=True) == worker
    await fleet.disown(worker.worker_id)
    other = yard.fleet(max_workers=1)
    assert other.slots() == 0, "idle, and reserved all the same"
    assert await other.take(worker.worker_id, spec.attempt, reserved=True) == worker
    await other.disown(worker.worker_id)
    await fleet.close()
    assert await other.find(worker.worker_id) == worker, "who leaves leaves it alone"


@pytest.mark.slow
async def test_a_reserved_worker_is_taken_again_the_moment_its_attempt_is_over(yard) -> None:
    fleet = yard.fleet(max_workers=1)
    worker = await fleet.acquire(RESERVED)
    for _ in range(3):
        spec = yard.spec("quick")
        assert await fleet.take(worker.worker_id, spec.attempt, reserved=True) == worker
        async with yard.workers.connect(worker) as link:
            await link.start_attempt(spec)
            events = [event async for event in link.watch_attempt(spec.attempt, 1)]
        assert events[-1].last
        await fleet.disown(worker.worker_id)


async def test_what_is_kept_does_not_end_and_then_does(tmp_path) -> None:
    waiting = asyncio.create_task(until_idle_or_expired(tmp_path, idle_timeout=0.05, max_lifetime=0))
    keep(tmp_path, 0.6)
    before = time.monotonic()
    assert kept_until(tmp_path) > before
    async with asyncio.timeout(30):
        await waiting
    assert time.monotonic() >= before + 0.5


def test_a_mark_that_cannot_be_read_keeps_nobody(tmp_path) -> None:
    assert kept_until(tmp_path) == 0.0
    (tmp_path / "keep").write_text("soon")
    assert kept_until(tmp_path) == 0.0
