"""The warm floor on the local cloud: two API processes over one store, tasks that are real processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from gooseherd.control.wakeups import Wakeup
from gooseherd.control.warm_floor import FloorWorkers, WarmFloor
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import WorkerLost
from gooseherd.domain.formats import BAM
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.domain.reservation import EndReason, Reservation, ReservationState
from gooseherd.fleet.ecs_fleet import EcsFleet
from gooseherd.store.sql.reservations import SqlReservations
from gooseherd.store.sql.sqlite import open_sqlite

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class SpokenTo:
    """Links to stand-in workers, which answer whatever they are told."""

    def __init__(self) -> None:
        self.kept: dict[str, float] = {}
        self.silent: set[str] = set()

    @asynccontextmanager
    async def connect(self, worker: WorkerHandle) -> AsyncIterator[Any]:
        if worker.worker_id in self.silent:
            raise WorkerLost("nothing listens")
        yield _Link(self, worker.worker_id)


class _Link:
    def __init__(self, workers: SpokenTo, worker_id: WorkerId) -> None:
        self._workers, self._worker_id = workers, worker_id

    async def keep(self, seconds: float) -> Mapping[str, Any]:
        self._workers.kept[self._worker_id] = seconds
        return {"build": "b1", "attempts": [], "draining": False}


@dataclass
class Process:
    """What one API process has of it."""

    fleet: EcsFleet
    floor_workers: FloorWorkers
    floor: WarmFloor
    reservations: Any

    async def passes(self, until) -> None:
        """Passes of its loop until that is true."""
        async with asyncio.timeout(60):
            while not await until():
                await self.floor.loop.run_once()
                await asyncio.sleep(0.05)


@pytest.fixture
async def store(tmp_path):
    database = await open_sqlite(tmp_path / "store.sqlite", setting="X")
    yield database
    await database.close()


@pytest.fixture
async def process(site, store):
    """Makes API processes that share the store and the fleet's name."""
    made: list[Process] = []
    workers = SpokenTo()

    def make(floor: int = 2, build: str = "b1", max_workers: int = 6, **options: Any) -> Process:
        reservations = SqlReservations(store)
        wakeup = Wakeup()
        floor_workers = FloorWorkers(reservations, build, wakeup)
        fleet = site.fleet(max_workers=max_workers, floor=floor_workers, build=build, **options)
        warm_floor = WarmFloor(
            reservations=reservations,
            fleet=fleet,
            workers=workers,
            floor_workers=floor_workers,
            wakeup=wakeup,
            work=Wakeup(),
            floor=floor,
            max_workers=max_workers,
            build=build,
            tick_seconds=60,
        )
        made.append(Process(fleet, floor_workers, warm_floor, reservations))
        return made[-1]

    make.workers = workers  # type: ignore[attr-defined]
    yield make
    for one in made:
        await one.floor.close()


async def live(process: Process) -> list[Reservation]:
    return list(await process.reservations.live())


async def ended(process: Process) -> list[Reservation]:
    since = await process.reservations.now() - timedelta(hours=1)
    return [one for one in await process.reservations.live(since) if not one.live]


def ready(process: Process, many: int):
    async def look() -> bool:
        states = [one.state for one in await live(process)]
        return states == [ReservationState.READY] * many and len(process.floor_workers.ready()) == many

    return look


def big(site, job):
    return replace(site.need(job), source_format=BAM, source_bytes=20 << 30)


async def test_two_processes_keep_the_floor_together_not_each(site, process) -> None:
    one, other = process(), process()
    await asyncio.gather(one.passes(ready(one, 2)), other.passes(ready(other, 2)))
    assert len(site.tasks()) == 2
    for _ in range(3):
        await asyncio.gather(one.floor.loop.run_once(), other.floor.loop.run_once())
    assert len(site.tasks()) == 2
    assert {view.size for view in await one.fleet.view()} == {"1 vCPU, 2048 MiB, 21 GiB disk"}


async def test_a_worker_of_the_floor_is_handed_out_once_and_replaced(site, process) -> None:
    one, other = process(), process()
    await one.passes(ready(one, 2))
    await other.passes(ready(other, 2))
    kept = {task["id"] for task in site.live()}
    slots = one.fleet.slots(), other.fleet.slots()
    first, second = await asyncio.gather(
        one.fleet.acquire(site.need("j1")), other.fleet.acquire(site.need("j2"))
    )
    assert {first.worker_id, second.worker_id} == kept
    assert slots == (6, 6), "idle ones of the floor count as free"
    await one.passes(ready(one, 2))
    assert len(site.live()) == 4
    assert {reservation.worker_id for reservation in await live(one)}.isdisjoint(kept)


async def test_a_worker_that_came_from_the_floor_is_an_ordinary_warm_one_afterwards(site, process) -> None:
    one = process(floor=1)
    await one.passes(ready(one, 1))
    worker = await one.fleet.acquire(site.need("j1"))
    await one.fleet.release(worker.worker_id, reusable=True, attempt=site.need("j1").attempt)
    assert await one.fleet.acquire(site.need("j2")) == worker


async def test_a_large_file_gets_a_worker_of_its_size_and_the_floor_stays(site, process) -> None:
    one = process(floor=1)
    await one.passes(ready(one, 1))
    [kept] = site.live()
    worker = await one.fleet.acquire(big(site, "j1"))
    assert worker.worker_id != kept["id"]
    assert [reservation.worker_id for reservation in await live(one)] == [kept["id"]]


async def test_a_floor_worker_that_dies_is_replaced(site, process) -> None:
    one = process(floor=1)
    await one.passes(ready(one, 1))
    [dead] = site.live()
    site.cloud_admin.kill(dead["id"])
    await site.until(lambda: not site.live(), "it is gone")

    async def replaced() -> bool:
        return [r.worker_id for r in await live(one) if r.state is ReservationState.READY] != [
            dead["id"]
        ] and await ready(one, 1)()

    await one.passes(replaced)
    assert [r.reason for r in await ended(one)] == [EndReason.WORKER_MISSING]


async def test_one_that_does_not_answer_is_not_handed_out_and_stopped(site, process) -> None:
    one = process(floor=1)
    await one.passes(ready(one, 1))
    [silent] = site.live()
    site.answers[silent["id"]] = WorkerLost("busy machine")
    worker = await one.fleet.acquire(site.need("j1"))
    assert worker.worker_id != silent["id"]
    await site.until(lambda: silent["id"] not in {task["id"] for task in site.live()}, "it is stopped")


async def test_a_deployment_of_a_new_build_drains_the_floor_of_the_old_one(site, process) -> None:
    old = process(build="b1")
    await old.passes(ready(old, 2))
    before = {task["id"] for task in site.live()}
    await asyncio.sleep(0.01)
    new = process(build="b2")

    async def drained() -> bool:
        await old.floor.loop.run_once()
        builds = {(one.build, one.state) for one in await live(new)}
        return builds == {("b2", ReservationState.READY)} and len(await live(new)) == 2

    await new.passes(drained)
    await site.until(lambda: before.isdisjoint({task["id"] for task in site.live()}), "the old ones end")
    await old.floor.loop.run_once()
    assert not old.floor_workers.ready()
    assert len(await live(new)) == 2


async def test_in_a_full_fleet_a_deployment_replaces_the_floor_when_there_is_room(site, process) -> None:
    """The new worker was launched before the old one was stopped, so the launch failed."""
    old = process(floor=1, build="b1", max_workers=1)
    await old.passes(ready(old, 1))
    [before] = site.live()
    await asyncio.sleep(0.01)
    new = process(floor=1, build="b2", max_workers=1)

    async def replaced() -> bool:
        return [(one.build, one.state) for one in await live(new)] == [("b2", ReservationState.READY)]

    await new.passes(replaced)
    assert await ended(new) == []
    assert before["id"] not in {task["id"] for task in site.live()}


async def test_a_smaller_floor_lets_the_surplus_go(site, process) -> None:
    one = process(floor=2)
    await one.passes(ready(one, 2))
    less = process(floor=0)

    async def empty() -> bool:
        return not await live(less)

    await less.passes(empty)
    await site.until(lambda: not site.live(), "they are stopped")


async def test_launches_that_fail_are_not_repeated_at_once(site, process) -> None:
    one = process(floor=1, environment={"CANNOT_WORK": "1"})

    async def failed() -> bool:
        return EndReason.LAUNCH_FAILED in [r.reason for r in await ended(one)]

    await one.passes(failed)
    count = len(site.tasks())
    for _ in range(3):
        await one.floor.loop.run_once()
    assert len(site.tasks()) == count
    assert not await live(one)


async def test_ready_workers_are_spoken_to_now_and_then(site, process) -> None:
    one = process(floor=1)
    await one.passes(ready(one, 1))
    [reservation] = await live(one)
    assert await one.floor._reserved.speak_to(reservation)
    assert list(process.workers.kept) == [reservation.worker_id]
    [after] = await live(one)
    assert after.kept_at is not None
    assert after.version == reservation.version + 1
    process.workers.silent.add(reservation.worker_id)
    assert not await one.floor._reserved.speak_to(after)
    assert await live(one) == [after], "silence is not an end"


async def test_who_leaves_while_it_launches_leaves_no_slot_taken(site, process) -> None:
    one = process(floor=1, environment={"START_SECONDS": "30"})
    await one.floor.loop.run_once()
    await site.until(site.live, "it is launched")
    await one.floor.close()
    await one.fleet.close()
    assert not [r for r in await live(one) if r.state is not ReservationState.ENDING]
    await site.until(lambda: not site.live(), "and stopped")


async def test_a_reserved_worker_is_launched_to_be_kept(site, process) -> None:
    one = process(floor=1)
    await one.passes(ready(one, 1))
    [task] = site.live()
    [reservation] = await live(one)
    described = (await site.api().describe_tasks([WorkerId(task["id"])])).tasks[WorkerId(task["id"])]
    assert described.launched_for == str(reservation.launch)
    [container] = described.payload["overrides"]["containerOverrides"]
    assert {"name": "WORKER_KEEP_SECONDS", "value": "600"} in container["environment"]
    assert await one.fleet.take(WorkerId("f" * 32), AttemptId(reservation.launch.job_id, 1)) is None
