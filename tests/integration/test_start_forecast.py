"""What who waits is told agrees with what the dispatcher does about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.doubles import FleetDouble

from gooseherd.control.launch_breaker import LaunchBreaker
from gooseherd.control.queue_statistics import QueueStatistics
from gooseherd.control.start_forecast import StartForecast
from gooseherd.domain import formats
from gooseherd.domain.job import Job, JobId, Owner, Requester, Submission, WorkerId
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.launching import Placement, Placements
from gooseherd.domain.ports.fleet import Capacity, LiveWorker, WorkerNeed
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.domain.worker_size import WorkerSize
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.sqlite import open_sqlite

pytestmark = pytest.mark.integration

SIZE = WorkerSize(1024, 2048, 21)
LAUNCH_SECONDS = 60.0
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BUSY = LiveWorker(WorkerId("busy"), SIZE, ready=True, ready_seconds=1.0)
IDLE = LiveWorker(WorkerId("idle"), SIZE, ready=True, ready_seconds=1.0, idle_seconds=1.0)


class Fleet(FleetDouble):
    """Twenty workers may live; of which some do."""

    def __init__(self) -> None:
        super().__init__(max_workers=20)
        self.now = Capacity(LAUNCH_SECONDS)

    def capacity(self) -> Capacity:
        return self.now

    def size_for(self, need: WorkerNeed) -> WorkerSize:
        return SIZE


@dataclass
class Town:
    jobs: SqlJobs
    fleet: Fleet = field(default_factory=Fleet)
    breaker: LaunchBreaker = field(default_factory=LaunchBreaker)

    async def submit(self, name: str, priority: Priority = Priority.BATCH, seconds: float = 1.0) -> Job:
        source = SourceFile(
            Dcc("4dn"),
            LocalId(name),
            "f.bam",
            formats.BAM,
            "https://example.org/f",
            md5="0" * 32,
            size_in_bytes=int(seconds * 50_000_000),
        )
        recipe = Recipe("bam", "1", formats.BAM)
        wanted = Submission(JobId(name), WorkflowKey(name), source, recipe, priority, Requester(name))
        return (await self.jobs.claim_workflow(wanted)).job

    async def keep_busy(self, worker_id: WorkerId, seconds: float) -> None:
        job = await self.submit(f"on {worker_id}", seconds=seconds)
        leased = await self.jobs.lease(job, Owner("one"), timedelta(hours=1))
        assert leased is not None
        await self.jobs.assign_worker(leased.job_id, leased.fence, worker_id)

    async def wait(self, job: Job) -> float | None:
        """In seconds, as who asks is told."""
        forecast = StartForecast(self.fleet, self.breaker, lambda: 0)
        place = await QueueStatistics(self.jobs, forecast=forecast).place(job)
        assert place is not None
        return place.wait_seconds


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    database = await open_sqlite(tmp_path / "store.sqlite", setting="X")
    yield Town(SqlJobs(database))
    await database.close()


async def test_a_batch_that_waits_for_the_one_worker_that_lives_is_told_when_that_is_free(town: Town) -> None:
    await town.keep_busy(BUSY.worker_id, seconds=600)
    town.fleet.now = Capacity(LAUNCH_SECONDS, [BUSY])
    assert 599 < (await town.wait(await town.submit("b")) or 0) < 601


async def test_who_does_not_wait_for_that_long_is_told_that_a_worker_is_launched_now(town: Town) -> None:
    await town.keep_busy(BUSY.worker_id, seconds=600)
    town.fleet.now = Capacity(LAUNCH_SECONDS, [BUSY])
    assert await town.wait(await town.submit("i", Priority.INTERACTIVE)) == 0


async def test_a_batch_without_any_worker_is_told_that_one_is_launched_now(town: Town) -> None:
    assert await town.wait(await town.submit("b")) == 0


async def test_a_batch_gets_an_idle_worker_now(town: Town) -> None:
    await town.keep_busy(BUSY.worker_id, seconds=600)
    town.fleet.now = Capacity(LAUNCH_SECONDS, [BUSY, IDLE])
    assert await town.wait(await town.submit("b")) == 0


async def test_an_idle_worker_of_the_warm_floor_is_not_promised_to_a_batch(town: Town) -> None:
    await town.keep_busy(BUSY.worker_id, seconds=600)
    town.fleet.now = Capacity(LAUNCH_SECONDS, [BUSY, IDLE], floor_wants=1, floor_size=SIZE)
    assert 599 < (await town.wait(await town.submit("b")) or 0) < 601


async def test_of_two_of_a_batch_the_second_is_not_promised_the_only_idle_worker(town: Town) -> None:
    town.fleet.now = Capacity(LAUNCH_SECONDS, [IDLE])
    first, second = await town.submit("b1", seconds=100), await town.submit("b2", seconds=100)
    assert await town.wait(first) == 0
    assert 100 <= (await town.wait(second) or 0) < 101


async def test_where_launches_cost_nothing_a_free_slot_is_enough(town: Town) -> None:
    town.fleet.now = Capacity()
    assert await town.wait(await town.submit("b")) == 0


async def test_while_workers_cannot_be_launched_nobody_is_told_to_start_now(town: Town) -> None:
    job = await town.submit("i", Priority.INTERACTIVE)
    for _ in range(3):
        town.breaker.failed("no subnet")
    assert await town.wait(job) is None  # Nothing is at work that could tell.


async def test_far_back_in_the_queue_the_pace_of_the_queue_tells_when(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To place all that wait before it would hold up the event loop at each poll."""
    placed: list[Job] = []
    place = Placements.place

    def counting(self: Placements, job: Job, size: WorkerSize) -> Placement:
        placed.append(job)
        return place(self, job, size)

    monkeypatch.setattr(Placements, "place", counting)
    town.fleet.now = Capacity(LAUNCH_SECONDS)
    job = await town.submit("b")
    forecast = StartForecast(town.fleet, town.breaker, lambda: 0)
    assert forecast.seconds_to_wait(job, 100, [], NOW) is not None
    assert len(placed) == 100
    assert forecast.seconds_to_wait(job, 101, [], NOW) is None
    assert len(placed) == 100


async def test_who_has_a_slot_far_back_in_the_queue_is_told_nothing_when_no_job_has_started_yet(
    town: Town,
) -> None:
    town.fleet.max_workers = 1000
    jobs = [await town.submit(f"b{number:03}", Priority.BATCH, seconds=60) for number in range(102)]
    assert await town.wait(jobs[100]) is not None
    assert await town.wait(jobs[101]) is None
