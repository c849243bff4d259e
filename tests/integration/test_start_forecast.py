"""What who waits is told agrees with what the dispatcher does about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from tests.doubles import FleetDouble

from gooseherd.api.models.waiting import WaitingView
from gooseherd.control.launch_breaker import LaunchBreaker
from gooseherd.control.queue_statistics import QueuePlace, QueueStatistics
from gooseherd.control.start_forecast import StartForecast
from gooseherd.domain import formats
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import Job, JobId, Owner, Requester, Submission, WorkerId
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.launching import Placements
from gooseherd.domain.ports.fleet import Capacity, LiveWorker, WorkerNeed
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.domain.states import Status
from gooseherd.domain.worker_size import WorkerSize
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.sqlite import open_sqlite

pytestmark = pytest.mark.integration

SIZE = WorkerSize(1024, 2048, 21)
LAUNCH_SECONDS = 60.0
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

    async def place(self, job: Job) -> QueuePlace | None:
        """As who asks is told."""
        forecast = StartForecast(self.fleet, self.breaker, lambda: 0)
        return await QueueStatistics(self.jobs, forecast=forecast).place(job)

    async def wait(self, job: Job) -> float | None:
        """In seconds."""
        place = await self.place(job)
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
    assert await town.wait(await town.submit("i", Priority.INTERACTIVE)) == LAUNCH_SECONDS


async def test_a_batch_without_any_worker_is_told_how_long_launches_take(town: Town) -> None:
    assert await town.wait(await town.submit("b")) == LAUNCH_SECONDS


async def test_who_has_left_the_queue_is_told_how_much_longer_launches_take(town: Town) -> None:
    """Nothing was said of it, although it is most of what there is to wait for."""
    town.fleet.now = Capacity(LAUNCH_SECONDS)
    leased = await town.jobs.lease(await town.submit("b"), Owner("one"), timedelta(hours=1))
    assert leased is not None
    place = await town.place(leased)
    assert place is not None
    assert place.position is None
    assert LAUNCH_SECONDS - 30 < (place.wait_seconds or 0) <= LAUNCH_SECONDS
    view = WaitingView.of(leased, await town.jobs.now(), place=place)
    assert view is not None
    assert (view.reason, view.wait_seconds) == ("launching", place.wait_seconds)
    assert view.detail == f"a worker is being started, about {round(place.wait_seconds or 0)} s"
    await town.jobs.assign_worker(leased.job_id, leased.fence, WorkerId("w"))
    assigned = await town.jobs.get(leased.job_id)
    assert assigned is not None
    assert await town.place(assigned) is None


async def test_who_is_leased_while_that_is_asked_does_not_wait_for_itself(town: Town) -> None:
    town.fleet.now = Capacity(LAUNCH_SECONDS, [LiveWorker(WorkerId("f"), SIZE, ready=True, of_floor=True)])
    job = await town.submit("i", Priority.INTERACTIVE)
    assert await town.jobs.lease(job, Owner("one"), timedelta(hours=1)) is not None
    assert await town.wait(job) == 0


async def test_who_comes_first_in_a_full_fleet_is_told_when_a_worker_is_free(town: Town) -> None:
    """Whatever the launch would have cost, there is none."""
    await town.keep_busy(BUSY.worker_id, seconds=600)
    town.fleet.now, town.fleet.max_workers = Capacity(LAUNCH_SECONDS, [BUSY]), 0
    assert 599 < (await town.wait(await town.submit("i", Priority.INTERACTIVE)) or 0) < 601


async def test_who_waits_is_told_by_the_work_of_those_before_and_not_by_how_seldom_others_came(
    town: Town,
) -> None:
    """Three files in ten minutes, then a hundred: the last was told five hours."""
    for number in range(3):
        leased = await town.jobs.lease(await town.submit(f"o{number}"), Owner("one"), timedelta(hours=1))
        assert leased is not None
        await town.jobs.release_workflow(
            leased.job_id, leased.fence, Status.FAILED, Failure(Reason.SOURCE_INVALID, "")
        )
    town.fleet.now = Capacity(LAUNCH_SECONDS, [IDLE])
    jobs = [await town.submit(f"b{number:03}", seconds=2) for number in range(100)]
    told = [await town.wait(job) or 0 for job in jobs]
    assert told == sorted(told)
    assert 200 < told[-1] < 280


async def test_large_files_before_a_small_one_are_not_taken_to_be_like_it(town: Town) -> None:
    town.fleet.now = Capacity(LAUNCH_SECONDS, [IDLE])
    for number in range(3):
        await town.submit(f"a{number}", seconds=100)
    assert 300 <= (await town.wait(await town.submit("b", seconds=1)) or 0) < 310


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


async def test_where_launches_cost_nothing_who_has_no_slot_waits_for_a_worker(town: Town) -> None:
    town.fleet.now, town.fleet.max_workers = Capacity(), 1
    await town.submit("a", seconds=50)
    assert 50 <= (await town.wait(await town.submit("b")) or 0) < 51


async def test_while_workers_cannot_be_launched_nobody_is_told_to_start_now(town: Town) -> None:
    job = await town.submit("i", Priority.INTERACTIVE)
    for _ in range(3):
        town.breaker.failed("no subnet")
    assert await town.wait(job) is None  # Nothing is at work that could tell.


async def test_of_a_long_queue_its_front_is_placed_and_the_others_are_taken_to_be_like_that(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To place all that wait before it would hold up the event loop."""
    monkeypatch.setattr("gooseherd.control.start_forecast.MOST_PLACED", 10)
    monkeypatch.setattr("gooseherd.control.queue_statistics.MOST_PLACED", 10)
    town.fleet.now = Capacity(LAUNCH_SECONDS, [IDLE])
    jobs = [await town.submit(f"b{number:03}", seconds=9.6) for number in range(25)]
    placed: list[Job] = []
    place = Placements.seconds_until_begun

    def counting(self: Placements, job: Job, size: WorkerSize, *, may_launch: bool) -> float | None:
        placed.append(job)
        return place(self, job, size, may_launch=may_launch)

    monkeypatch.setattr(Placements, "seconds_until_begun", counting)
    assert [await town.wait(jobs[number]) for number in (0, 9, 10, 24)] == [0, 90, 100, 240]
    assert len(placed) == 4 * 10
