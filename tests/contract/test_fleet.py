"""What every Fleet promises: processes of this machine, tasks of the local cloud, the double."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from tests.cloud_key import CLOUD_KEY
from tests.doubles import FleetDouble, Machine
from tests.integration.ecs.conftest import STAND_IN, Site
from tests.integration.fleet.conftest import Yard

from gooseherd.devcloud.admin_client import LocalCloudAdmin
from gooseherd.devcloud.bootstrap import WORKER_IMAGE, Deployment, bootstrap
from gooseherd.devcloud.child_process import running_cloud
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import NoCapacity, NotFound
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import BED
from gooseherd.domain.job import JobId, WorkerId
from gooseherd.domain.ports.fleet import Fleet, WorkerHandle, WorkerHealth, WorkerNeed, WorkerView

pytestmark = [pytest.mark.integration, pytest.mark.slow]

WORKERS = 2
"""The most of each fleet."""


class Place(Protocol):
    """Where fleets of one kind share their workers, as processes of one deployment do."""

    stranger: WorkerId
    """A name of the right form that no worker has."""

    def fleet(self) -> Fleet: ...
    async def kill(self, worker: WorkerHandle) -> None:
        """The worker dies by itself."""


class Local:
    stranger = WorkerId("w-0123456789ab")

    def __init__(self, yard: Yard) -> None:
        self._yard = yard

    def fleet(self) -> Fleet:
        return self._yard.fleet(max_workers=WORKERS)

    async def kill(self, worker: WorkerHandle) -> None:
        process = self._yard.entry(worker).process
        assert process is not None
        process.signal(signal.SIGKILL)


class Ecs:
    stranger = WorkerId("f" * 32)

    def __init__(self, site: Site) -> None:
        self._site = site

    def fleet(self) -> Fleet:
        return self._site.fleet(max_workers=WORKERS)

    async def kill(self, worker: WorkerHandle) -> None:
        await asyncio.to_thread(self._site.cloud_admin.kill, worker.worker_id)


class Doubled:
    stranger = WorkerId("nobody")

    def __init__(self) -> None:
        self._machine: Machine = {}

    def fleet(self) -> Fleet:
        return FleetDouble(self._machine, WORKERS)

    async def kill(self, worker: WorkerHandle) -> None:
        self._machine[worker.worker_id].end("killed by signal 9")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Deployment]]:
    images = {WORKER_IMAGE: [sys.executable, "-S", "-E", str(STAND_IN)]}
    with running_cloud(tmp_path_factory.mktemp("ecs"), images=images, options=["--scale", "0.02"]) as url:
        yield url, bootstrap(url, key=CLOUD_KEY, stop_timeout_seconds=30)


@pytest.fixture(params=["local", "ecs", "double"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    match request.param:
        case "local":
            yard = Yard(tmp_path)
            yield Local(yard)
            await yard.close()
        case "ecs":
            request.getfixturevalue("cloud_credentials")
            url, deployment = request.getfixturevalue("cloud")
            with LocalCloudAdmin(url, CLOUD_KEY) as cloud_admin:
                site = Site(url, deployment, cloud_admin, f"contract-{uuid.uuid4().hex[:8]}")
                yield Ecs(site)
                await site.close()
        case _:
            yield Doubled()


def need(number: int = 1) -> WorkerNeed:
    """The first attempt of a job of its own."""
    return WorkerNeed(AttemptId(JobId(f"{uuid.uuid4().hex[:12]}"), number), BED, 1000)


async def until_slots(fleet: Fleet, slots: int) -> None:
    async with asyncio.timeout(60):
        while fleet.slots() != slots:  # noqa: ASYNC110 - a fleet tells nobody
            await asyncio.sleep(0.02)


async def view_of(fleet: Fleet, worker: WorkerHandle) -> WorkerView:
    [view] = [view for view in await fleet.survey([worker.worker_id]) if view.worker_id == worker.worker_id]
    return view


async def view_of_other(fleet: Fleet, worker: WorkerHandle) -> WorkerView:
    """The one live worker that is not that."""
    [view] = [
        view
        for view in await fleet.survey()
        if view.worker_id != worker.worker_id and view.health is not WorkerHealth.GONE
    ]
    return view


async def stays_undone(task: asyncio.Task[str]) -> bool:
    return not (await asyncio.wait({task}, timeout=0.2))[0]


async def test_one_attempt_gets_one_worker_however_often_it_asks(place: Place) -> None:
    fleet, wanted = place.fleet(), need()
    workers = await asyncio.gather(*(fleet.acquire(wanted) for _ in range(3)))
    assert {*workers, await fleet.acquire(wanted)} == {workers[0]}
    assert fleet.slots() == WORKERS - 1


async def test_two_attempts_get_two_workers_and_a_third_finds_no_capacity(place: Place) -> None:
    fleet = place.fleet()
    one, other = await asyncio.gather(fleet.acquire(need()), fleet.acquire(need()))
    assert one != other
    assert fleet.slots() == 0
    with pytest.raises(NoCapacity):
        await fleet.acquire(need())
    with pytest.raises(NoCapacity):  # Workers of another process count as well.
        await place.fleet().acquire(need())


async def test_a_reusable_worker_is_warm_and_goes_to_the_next_attempt(place: Place) -> None:
    fleet, first = place.fleet(), need()
    worker = await fleet.acquire(first)
    assert (await view_of(fleet, worker)).attempt == str(first.attempt)
    await fleet.release(worker.worker_id, reusable=True, attempt=first.attempt)
    view = await view_of(fleet, worker)
    assert (view.health, view.attempt, view.warm, view.stoppable) == (WorkerHealth.HEALTHY, None, True, True)
    assert fleet.slots() == WORKERS
    assert await fleet.acquire(need()) == worker


async def test_a_worker_that_is_not_reusable_ends_and_frees_its_slot(place: Place) -> None:
    fleet, first = place.fleet(), need()
    worker = await fleet.acquire(first)
    ending = asyncio.create_task(fleet.gone(worker.worker_id))
    assert await stays_undone(ending)
    await fleet.release(worker.worker_id, reusable=False, attempt=first.attempt)
    assert await ending
    assert await fleet.find(worker.worker_id) is None
    await until_slots(fleet, WORKERS)
    await fleet.release(worker.worker_id, reusable=False, attempt=first.attempt)
    await fleet.release(place.stranger, reusable=True)


async def test_who_had_a_worker_before_does_not_release_it_under_the_next(place: Place) -> None:
    fleet, first, second = place.fleet(), need(), need()
    worker = await fleet.acquire(first)
    await fleet.release(worker.worker_id, reusable=True, attempt=first.attempt)
    assert await fleet.acquire(second) == worker
    for reusable in (True, False):
        await fleet.release(worker.worker_id, reusable=reusable, attempt=first.attempt)
    assert (await view_of(fleet, worker)).attempt == str(second.attempt)
    assert await fleet.find(worker.worker_id) == worker


async def test_another_process_finds_a_worker_and_gives_it_back_for_its_attempt(place: Place) -> None:
    one, other, first = place.fleet(), place.fleet(), need()
    worker = await one.acquire(first)
    assert await other.find(worker.worker_id) == worker
    await other.release(worker.worker_id, reusable=True, attempt=first.attempt)
    assert await other.acquire(need()) == worker


async def test_nobody_finds_a_worker_that_never_was(place: Place) -> None:
    fleet = place.fleet()
    assert await fleet.find(place.stranger) is None
    assert fleet.slots() == WORKERS


async def test_everybody_learns_of_the_end_of_a_worker_that_dies(place: Place) -> None:
    one, other = place.fleet(), place.fleet()
    worker = await one.acquire(need())
    assert await other.find(worker.worker_id) == worker
    ending = [asyncio.create_task(fleet.gone(worker.worker_id)) for fleet in (one, other)]
    assert [await stays_undone(task) for task in ending] == [True, True]
    await place.kill(worker)
    assert all(await asyncio.gather(*ending))
    assert await one.verdict(worker.worker_id) is Reason.WORKER_LOST
    view = await view_of(one, worker)
    assert (view.health, view.attempt, view.warm, view.stoppable) == (WorkerHealth.GONE, None, False, False)
    assert view.detail
    assert await one.find(worker.worker_id) is None
    assert one.slots() == WORKERS


async def test_a_busy_worker_is_stopped_with_its_reason_by_any_process_and_once(place: Place) -> None:
    one, other = place.fleet(), place.fleet()
    worker = await one.acquire(need())
    await other.stop(worker.worker_id, "nobody works with it")
    assert "nobody works with it" in await other.gone(worker.worker_id)
    for name in (worker.worker_id, place.stranger):
        with pytest.raises(NotFound):
            await other.stop(name, "again")


async def test_a_disowned_worker_goes_on(place: Place) -> None:
    fleet = place.fleet()
    worker = await fleet.acquire(need())
    await fleet.disown(worker.worker_id)
    await fleet.disown(place.stranger)
    assert await fleet.find(worker.worker_id) == worker


async def test_a_process_that_leaves_stops_idle_workers_and_leaves_busy_ones(place: Place) -> None:
    fleet, first = place.fleet(), need()
    idle, busy = await fleet.acquire(first), await fleet.acquire(need())
    await fleet.release(idle.worker_id, reusable=True, attempt=first.attempt)
    await fleet.close()
    with pytest.raises(NoCapacity):
        await fleet.acquire(need())
    other = place.fleet()
    assert await other.find(busy.worker_id) == busy
    async with asyncio.timeout(60):
        while await other.find(idle.worker_id) is not None:  # noqa: ASYNC110 - a fleet tells nobody
            await asyncio.sleep(0.05)


async def test_a_reserved_worker_is_taken_for_one_attempt_after_the_other(place: Place) -> None:
    fleet, other = place.fleet(), place.fleet()
    reserved = WorkerNeed(AttemptId(JobId(f"session-{uuid.uuid4().hex}"), 1), BED, 0, reserved=True)
    worker = await fleet.acquire(reserved)
    assert await fleet.acquire(reserved) == worker
    for taker in (fleet, other):
        assert await taker.take(worker.worker_id, need().attempt, reserved=True) == worker
        await taker.disown(worker.worker_id)
        assert await taker.acquire(need()) != worker
        await taker.stop((await view_of_other(taker, worker)).worker_id, "the test goes on")
        await until_slots(taker, WORKERS - 1)
    assert await fleet.take(place.stranger, need().attempt) is None
    await place.kill(worker)
    await fleet.gone(worker.worker_id)
    assert await fleet.take(worker.worker_id, need().attempt) is None


async def test_a_reservation_never_gets_a_warm_worker_and_one_that_is_not_reserved_any_more_is_warm(
    place: Place,
) -> None:
    fleet, first, second = place.fleet(), need(), need()
    warm = await fleet.acquire(first)
    await fleet.release(warm.worker_id, reusable=True, attempt=first.attempt)
    reserved = WorkerNeed(AttemptId(JobId(f"floor-{uuid.uuid4().hex}"), 1), BED, 0, reserved=True)
    worker = await fleet.acquire(reserved)
    assert worker != warm
    assert await fleet.take(worker.worker_id, second.attempt) == worker
    await fleet.release(worker.worker_id, reusable=True, attempt=second.attempt)
    assert (await view_of(fleet, worker)).warm


async def test_a_caller_that_gives_up_leaves_no_worker_taken(place: Place) -> None:
    fleet = place.fleet()
    giving_up = asyncio.create_task(fleet.acquire(need()))
    await asyncio.sleep(0)
    giving_up.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await fleet.release((await giving_up).worker_id, reusable=True)
    await until_slots(fleet, WORKERS)
