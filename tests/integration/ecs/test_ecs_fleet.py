"""The ECS fleet against the local cloud: launched, reused, counted, found again, let go."""

from __future__ import annotations

import asyncio

import pytest

from gooseherd.domain.errors import NoCapacity, NotFound, Unavailable, WorkerLost
from gooseherd.domain.job import WorkerId
from gooseherd.fleet.provisioner import Placement
from gooseherd.fleet.sizes import SizeBounds

pytestmark = pytest.mark.integration


async def until_warm(fleet) -> None:
    """Return when the fleet's only worker is idle."""
    async with asyncio.timeout(60):
        while [(view.health, view.warm) for view in await fleet.view()] != [("healthy", True)]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_cold_need_becomes_a_healthy_worker_of_its_own(site) -> None:
    fleet = site.fleet()
    worker = await fleet.acquire(site.need("j1"))
    [task] = site.live()
    assert task["id"] == worker.worker_id
    assert worker.address == f"{task['address']}:50051"
    [view] = await fleet.view()
    assert (view.health, view.attempt) == ("healthy", str(site.need("j1").attempt))


async def test_without_a_probe_ecs_says_who_is_healthy(site) -> None:
    worker = await site.fleet(probing=False).acquire(site.need("j1"))
    [task] = site.live()
    assert (task["id"], task["health"]) == (worker.worker_id, "HEALTHY")


async def test_one_attempt_gets_one_worker_however_often_it_asks(site) -> None:
    fleet = site.fleet()
    workers = await asyncio.gather(*(fleet.acquire(site.need("j1")) for _ in range(5)))
    assert len(set(workers)) == 1
    assert await fleet.acquire(site.need("j1")) == workers[0]
    assert len(site.tasks()) == 1
    assert site.cloud_admin.calls()["operations"]["ecs:RunTask"]["total"] >= 1


async def test_two_processes_that_ask_for_one_attempt_get_one_worker(site) -> None:
    one, other = site.fleet(), site.fleet()
    workers = await asyncio.gather(one.acquire(site.need("j1")), other.acquire(site.need("j1")))
    assert workers[0] == workers[1]
    assert len(site.tasks()) == 1


async def test_a_warm_worker_is_used_before_another_is_launched(site) -> None:
    fleet = site.fleet(max_workers=2)
    first = await fleet.acquire(site.need("j1"))
    assert fleet.slots() == 1
    await fleet.release(first.worker_id, reusable=True)
    assert fleet.slots() == 2
    assert await fleet.acquire(site.need("j2")) == first
    assert [view.attempt for view in await fleet.view()] == [str(site.need("j2").attempt)]
    assert await fleet.acquire(site.need("j3")) != first


async def test_nobody_is_handed_a_warm_worker_of_another_process(site) -> None:
    one, other = site.fleet(), site.fleet()
    first = await one.acquire(site.need("j1"))
    await one.release(first.worker_id, reusable=True)
    assert await other.acquire(site.need("j2")) != first


@pytest.mark.parametrize(
    "expected",
    [
        {"build": "b2", "attempts": [], "draining": False},
        {"build": "b1", "attempts": ["x.1"], "draining": False},
        {"build": "b1", "attempts": [], "draining": True},
    ],
    ids=["another-build", "busy", "draining"],
)
async def test_a_warm_worker_that_says_otherwise_is_not_handed_out(site, expected) -> None:
    fleet = site.fleet()
    first = await fleet.acquire(site.need("j1"))
    await fleet.release(first.worker_id, reusable=True)
    site.answers[first.worker_id] = expected
    assert await fleet.acquire(site.need("j2")) != first


async def test_a_worker_that_was_released_just_now_is_not_asked(site) -> None:
    fleet = site.fleet(sure_for=600)
    first = await fleet.acquire(site.need("j1"))
    site.answers[first.worker_id] = WorkerLost("asked")
    await fleet.release(first.worker_id, reusable=True)
    assert await fleet.acquire(site.need("j2")) == first


async def test_a_warm_worker_that_was_silent_is_asked_again_later(site) -> None:
    now = 0.0
    fleet = site.fleet(max_workers=2, clock=lambda: now)
    first = await fleet.acquire(site.need("j1"))
    await fleet.release(first.worker_id, reusable=True)
    site.answers[first.worker_id] = WorkerLost("busy machine")
    second = await fleet.acquire(site.need("j2"))
    assert second != first
    del site.answers[first.worker_id]
    assert fleet.slots() == 0
    now = 6.0
    assert fleet.slots() == 1
    assert await fleet.acquire(site.need("j3")) == first


async def test_leaving_stops_a_worker_that_was_silent(site) -> None:
    fleet = site.fleet()
    first = await fleet.acquire(site.need("j1"))
    await fleet.release(first.worker_id, reusable=True)
    site.answers[first.worker_id] = WorkerLost("busy machine")
    await fleet.release((await fleet.acquire(site.need("j2"))).worker_id, reusable=True)
    await fleet.close()
    await site.until(lambda: not site.live())


async def test_a_caller_that_leaves_while_a_warm_worker_is_asked_leaves_it_warm(site) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def describe(worker):
        asked.set()
        await answer.wait()
        return {"build": "b1", "attempts": [], "draining": False}

    fleet = site.fleet(max_workers=1, describe=describe)
    first = await fleet.acquire(site.need("j1"))
    await asked.wait()  # The connection to a new one is opened by asking it.
    answer.set()
    await fleet.release(first.worker_id, reusable=True)
    asked.clear()
    answer.clear()
    leaving = asyncio.create_task(fleet.acquire(site.need("j2")))
    await asked.wait()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    answer.set()
    await until_warm(fleet)
    assert await fleet.acquire(site.need("j3")) == first
    assert len(site.tasks()) == 1


async def test_a_process_that_leaves_while_a_warm_worker_is_asked_stops_it(site) -> None:
    asked = asyncio.Event()

    async def describe(worker):
        asked.set()
        await asyncio.Event().wait()

    fleet = site.fleet(describe=describe)
    first = await fleet.acquire(site.need("j1"))
    await asked.wait()
    asked.clear()
    await fleet.release(first.worker_id, reusable=True)
    leaving = asyncio.create_task(fleet.acquire(site.need("j2")))
    await asked.wait()
    await fleet.close()
    await asyncio.gather(leaving, return_exceptions=True)
    await site.until(lambda: not site.live())


async def test_nothing_is_launched_for_a_process_that_leaves(site) -> None:
    fleet = site.fleet()
    await fleet.close()
    with pytest.raises(NoCapacity):
        await fleet.acquire(site.need("j1"))
    assert not site.tasks()


async def test_a_warm_worker_near_its_own_end_is_not_handed_out(site) -> None:
    now = 0.0
    fleet = site.fleet(idle_timeout=60, clock=lambda: now)
    first = await fleet.acquire(site.need("j1"))
    await fleet.release(first.worker_id, reusable=True)
    now = 59.0
    assert await fleet.acquire(site.need("j2")) != first


async def test_no_more_workers_than_allowed_whoever_launched_them(site) -> None:
    fleet = site.fleet(max_workers=1)
    worker = await fleet.acquire(site.need("j1"))
    assert fleet.slots() == 0
    with pytest.raises(NoCapacity):
        await fleet.acquire(site.need("j2"))
    with pytest.raises(NoCapacity):
        await site.fleet(max_workers=1).acquire(site.need("j3"))
    await fleet.release(worker.worker_id, reusable=False)
    await site.until(lambda: fleet.slots() == 1)
    await fleet.acquire(site.need("j4"))


async def test_more_callers_than_slots_get_exactly_the_slots(site) -> None:
    fleet = site.fleet(max_workers=3)
    result = await asyncio.gather(
        *(fleet.acquire(site.need(f"j{n}")) for n in range(6)), return_exceptions=True
    )
    assert sum(isinstance(one, NoCapacity) for one in result) == 3
    assert len(site.tasks()) == 3


async def test_an_idle_worker_that_is_too_small_makes_room(site) -> None:
    fleet = site.fleet(max_workers=1, bounds=SizeBounds())
    small = await fleet.acquire(site.need("j1"))
    await fleet.release(small.worker_id, reusable=True)
    large = await fleet.acquire(site.need("j2", 1, 10 << 30))
    assert large != small
    assert [task["id"] for task in site.live()] == [large.worker_id]
    assert (await fleet.view())[-1].detail.startswith("running")
    # The other way round the large one will do.
    await fleet.release(large.worker_id, reusable=True)
    assert await fleet.acquire(site.need("j3")) == large


async def test_another_process_finds_a_worker_and_gives_it_back(site) -> None:
    one, other = site.fleet(), site.fleet()
    worker = await one.acquire(site.need("j1"))
    assert await other.find(worker.worker_id) == worker
    await other.release(worker.worker_id, reusable=True)
    assert await other.acquire(site.need("j2")) == worker


async def test_a_worker_that_was_found_is_asked_for_its_build_before_it_gets_other_work(site) -> None:
    """A new build follows the attempts of the one before to their end, on its workers."""
    one, other = site.fleet(), site.fleet(sure_for=600, build="b2")
    worker = await one.acquire(site.need("j1"))
    assert await other.find(worker.worker_id) == worker
    await other.release(worker.worker_id, reusable=True)
    assert await other.acquire(site.need("j2")) != worker


async def test_nobody_finds_a_worker_that_never_was(site) -> None:
    fleet = site.fleet()
    assert await fleet.find(WorkerId("0" * 32)) is None
    assert "no longer known" in await fleet.gone(WorkerId("1" * 32))
    assert fleet.slots() == 4


async def test_a_local_worker_of_earlier_days_does_not_blind_the_fleet(site) -> None:
    fleet, local = site.fleet(), WorkerId("w-0123456789ab")
    assert await fleet.find(local) is None
    assert "another kind of fleet" in await fleet.gone(local)
    worker = await fleet.acquire(site.need("j1"))
    assert [view.worker_id for view in await fleet.survey([local])] == [worker.worker_id]
    with pytest.raises(NotFound):
        await fleet.stop(local, "why not")
    await fleet.release(local, reusable=True)
    assert fleet.slots() == 3


async def test_gone_tells_why_and_find_knows_it(site) -> None:
    fleet, other = site.fleet(), site.fleet()
    worker = await fleet.acquire(site.need("j1"))
    dying = [asyncio.create_task(one.gone(worker.worker_id)) for one in (fleet, other)]
    await asyncio.wait(dying, timeout=0.3)
    assert not any(task.done() for task in dying)
    site.cloud_admin.kill(worker.worker_id)
    for result in await asyncio.gather(*dying):
        assert "killed (137, SIGKILL)" in result
    assert await fleet.find(worker.worker_id) is None
    [view] = await fleet.view()
    assert view.health == "gone"
    assert "137" in view.detail
    assert fleet.slots() == 4


async def test_a_worker_that_ends_by_itself_frees_its_slot(site) -> None:
    fleet = site.fleet(max_workers=1, environment={"WORKER_IDLE_TIMEOUT_SECONDS": "6"})
    worker = await fleet.acquire(site.need("j1"))
    await fleet.release(worker.worker_id, reusable=True)
    assert "ended by itself" in await fleet.gone(worker.worker_id)
    assert fleet.slots() == 1


async def test_a_released_worker_that_may_not_be_used_again_is_stopped(site) -> None:
    fleet = site.fleet()
    worker = await fleet.acquire(site.need("j1"))
    await fleet.release(worker.worker_id, reusable=False)
    assert "stopped on request" in await fleet.gone(worker.worker_id)
    await fleet.release(worker.worker_id, reusable=False)
    await fleet.release(WorkerId("2" * 32), reusable=False)


async def test_leaving_stops_idle_workers_and_leaves_busy_ones(site) -> None:
    fleet = site.fleet()
    busy, idle = await asyncio.gather(fleet.acquire(site.need("j1")), fleet.acquire(site.need("j2")))
    await fleet.release(idle.worker_id, reusable=True)
    await fleet.close()
    await site.until(lambda: [task["id"] for task in site.live()] == [busy.worker_id])
    assert await site.fleet().find(busy.worker_id) == busy


async def test_leaving_while_a_worker_starts_stops_it(site) -> None:
    fleet = site.fleet(environment={"START_SECONDS": "30"})
    acquiring = asyncio.create_task(fleet.acquire(site.need("j1")))
    await site.until(lambda: site.live())
    await fleet.close()
    await asyncio.gather(acquiring, return_exceptions=True)
    await site.until(lambda: not site.live())


async def test_a_worker_whose_caller_has_left_is_there_for_the_next(site) -> None:
    fleet = site.fleet()
    acquiring = asyncio.create_task(fleet.acquire(site.need("j1")))
    await site.until(lambda: site.live())
    acquiring.cancel()
    await asyncio.gather(acquiring, return_exceptions=True)
    await until_warm(fleet)
    await fleet.acquire(site.need("j2"))
    assert len(site.tasks()) == 1


async def test_a_survey_tells_of_a_worker_that_ended_before_anybody_here_looked(site) -> None:
    one, other, stranger = site.fleet(), site.fleet(), site.fleet(name="somebody-else")
    worker = await one.acquire(site.need("j1"))
    site.cloud_admin.kill(worker.worker_id)
    await one.gone(worker.worker_id)
    assert await other.survey() == []
    unknown = WorkerId("3" * 32)
    [view] = await other.survey([worker.worker_id, unknown])
    assert (view.worker_id, view.health) == (worker.worker_id, "gone")
    assert "killed (137, SIGKILL)" in view.detail
    assert await stranger.survey([worker.worker_id]) == []


async def test_a_survey_during_an_outage_is_no_survey(site) -> None:
    fleet = site.fleet(survey_timeout=0.5)
    site.cloud_admin.hide_fleet(60.0)
    with pytest.raises(Unavailable):
        await fleet.survey()
    site.cloud_admin.clear()


async def test_a_worker_is_stopped_with_its_reason_whoever_launched_it_but_not_another_fleet_s(site) -> None:
    one, other, stranger = site.fleet(), site.fleet(), site.fleet(name="somebody-else")
    worker = await one.acquire(site.need("j1"))
    await one.release(worker.worker_id, reusable=True)
    for fleet, name in ((stranger, worker.worker_id), (other, WorkerId("4" * 32))):
        with pytest.raises(NotFound):
            await fleet.stop(name, "why not")
    [view] = await one.survey()
    assert (view.warm, view.stoppable, view.attempt) == (True, True, None)
    assert view.launched_for == str(site.need("j1").attempt)
    await other.stop(worker.worker_id, "nobody works with it")
    assert "nobody works with it" in await one.gone(worker.worker_id)
    with pytest.raises(NotFound):
        await one.stop(worker.worker_id, "again")


async def test_spot_first_says_so_and_a_reclaimed_worker_is_told_as_such(site) -> None:
    fleet = site.fleet(placement=Placement.SPOT_FIRST)
    worker = await fleet.acquire(site.need("j1"))
    site.cloud_admin.reclaim(worker.worker_id)
    assert "Spot capacity was taken back" in await fleet.gone(worker.worker_id)


async def test_forty_jobs_at_once_share_eight_workers(site, capsys) -> None:
    fleet = site.fleet(max_workers=8)
    most = 0
    site.cloud_admin.forget_calls()

    async def job(number: int) -> None:
        nonlocal most
        need = site.need(f"j{number}")
        worker = None
        while worker is None:
            try:
                worker = await fleet.acquire(need)
            except NoCapacity:
                await asyncio.sleep(0.1)
        most = max(most, 8 - fleet.slots())
        await asyncio.sleep(0.05)
        await fleet.release(worker.worker_id, reusable=True)

    await asyncio.gather(*(job(number) for number in range(40)))
    assert len(site.tasks()) <= 8
    assert most <= 8
    with capsys.disabled():
        print("\n  40 jobs on 8 workers:", site.cloud_admin.calls()["operations"])
