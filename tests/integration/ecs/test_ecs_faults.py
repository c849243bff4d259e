"""The ECS fleet while the cloud misbehaves: it waits, says why, loses nobody and leaves nothing behind."""

from __future__ import annotations

import asyncio
import time

import pytest

from gooseherd.devcloud.faults import Fault, Kind
from gooseherd.domain.errors import LaunchFailed, Misconfigured, NoCapacity
from gooseherd.domain.worker_size import WorkerSize
from gooseherd.fleet.discovery import EcsDiscovery, PollPace
from gooseherd.fleet.ecs_api import CloudUnavailable
from gooseherd.fleet.provisioner import EcsProvisioner, Placement

pytestmark = [pytest.mark.integration, pytest.mark.fault]

SMALL = WorkerSize(1024, 2048)


@pytest.mark.parametrize("as_error", [False, True], ids=["failures", "error"])
async def test_capacity_refused_three_times_is_then_granted(site, as_error) -> None:
    fleet = site.fleet()
    site.cloud_admin.refuse_capacity(3, as_error=as_error)
    for number in (1, 2, 3):
        with pytest.raises(NoCapacity, match="Capacity is unavailable"):
            await fleet.acquire(site.need("j1", number))
    assert fleet.slots() == 4
    await fleet.acquire(site.need("j1", 4))
    assert len(site.tasks()) == 1


async def test_without_spot_capacity_a_worker_runs_on_demand(site) -> None:
    site.cloud_admin.refuse_capacity(1)
    fleet = site.fleet(placement=Placement.SPOT_FIRST)
    worker = await fleet.acquire(site.need("j1"))
    described = await site.api().describe_tasks([worker.worker_id])
    assert described.tasks[worker.worker_id].payload.get("capacityProviderName") is None


async def test_throttled_calls_are_made_again(site) -> None:
    site.cloud_admin.throttle("RunTask", times=3)
    site.cloud_admin.throttle("ListTasks", "DescribeTasks", times=3)
    fleet = site.fleet()
    worker = await fleet.acquire(site.need("j1"))
    site.cloud_admin.throttle("StopTask", times=3)
    await fleet.release(worker.worker_id, reusable=False)
    await fleet.gone(worker.worker_id)
    assert len(site.tasks()) == 1


async def test_an_answer_that_was_lost_starts_no_second_worker(site) -> None:
    fleet = site.fleet()
    await fleet.view()
    site.cloud_admin.inject(Fault(kind=Kind.RESET, operations=("RunTask",), times=1))
    await fleet.acquire(site.need("j1"))
    assert len(site.tasks()) == 1


@pytest.mark.parametrize(
    ("kind", "error", "expected"),
    [
        (Kind.DIES, LaunchFailed, "exited with status 3"),
        (Kind.CANNOT_PULL, Misconfigured, "image could not be pulled"),
        (Kind.NO_ADDRESS, LaunchFailed, "no network interface in time"),
    ],
)
async def test_a_worker_that_dies_before_it_is_healthy_is_told_with_its_diagnosis(
    site, kind, error, expected
) -> None:
    fleet = site.fleet(environment={"START_SECONDS": "5"})
    site.cloud_admin.spoil_tasks(kind, exit_code=3)
    with pytest.raises(error, match=expected):
        await fleet.acquire(site.need("j1"))
    await site.until(lambda: not site.live())
    assert fleet.slots() == 4


async def test_a_worker_that_fails_its_health_checks_is_stopped_and_told_so(site) -> None:
    fleet = site.fleet(probing=False, start_timeout=10.0)
    site.cloud_admin.spoil_tasks(Kind.NEVER_HEALTHY)
    with pytest.raises(LaunchFailed, match="health checks fail"):
        await fleet.acquire(site.need("j1"))
    await site.until(lambda: not site.live())


async def test_a_worker_that_takes_too_long_is_stopped_and_told_so(site) -> None:
    fleet = site.fleet(start_timeout=8.0)
    await fleet.survey()
    site.cloud_admin.spoil_tasks(Kind.SLOW_START, seconds=600)
    with pytest.raises(LaunchFailed, match="not healthy after 8 seconds, status"):
        await fleet.acquire(site.need("j1"))
    await site.until(lambda: not site.live())


async def test_a_worker_that_is_hidden_at_first_is_waited_for(site) -> None:
    fleet = site.fleet()
    site.cloud_admin.spoil_tasks(Kind.HIDDEN, seconds=1.0)
    await fleet.acquire(site.need("j1"))
    assert len(site.tasks()) == 1


async def test_an_outage_of_discovery_changes_nothing(site) -> None:
    fleet = site.fleet()
    worker = await fleet.acquire(site.need("j1"))
    dying = asyncio.create_task(fleet.gone(worker.worker_id))
    site.cloud_admin.forget_calls()
    site.cloud_admin.hide_fleet(2.0)
    finding = asyncio.create_task(fleet.find(worker.worker_id))

    def failed() -> bool:
        calls = site.cloud_admin.calls()["operations"]
        names = ("ListTasks", "DescribeTasks")
        return sum(int(calls.get(f"ecs:{name}", {"total": 0})["total"]) for name in names) > 2

    await site.until(failed)
    assert not dying.done()
    assert [view.health for view in await fleet.view()] == ["healthy"]
    assert await finding == worker
    site.cloud_admin.kill(worker.worker_id)
    assert "137" in await dying


async def test_a_page_that_fails_spoils_the_whole_list(site) -> None:
    api = site.api(tries=1)
    site.cloud_admin.inject(Fault(kind=Kind.ERROR, operations=("ListTasks",), times=1))
    with pytest.raises(CloudUnavailable):
        await api.list_tasks(site.name, tries=1)
    assert await api.list_tasks(site.name) == frozenset()


async def test_a_cluster_that_is_not_there_is_named(site) -> None:
    api = site.api("elsewhere")
    with pytest.raises(Misconfigured, match="ECS_CLUSTER"):
        await EcsProvisioner(api, site.template()).launch(site.need("j1").attempt, SMALL)


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        ({"subnets": ["nonsense"]}, "ECS_WORKER_SUBNETS"),
        ({"security_groups": ["nonsense"]}, "ECS_WORKER_SECURITY_GROUPS"),
        ({"task_definition": "unheard-of"}, "ECS_WORKER_TASK_DEFINITION"),
        ({"container": "unheard-of"}, "ECS_WORKER_CONTAINER"),
    ],
)
async def test_what_no_retry_heals_names_its_setting(site, wrong, setting) -> None:
    with pytest.raises(Misconfigured) as error:
        await EcsProvisioner(site.api(), site.template(**wrong)).launch(site.need("j1").attempt, SMALL)
    assert error.value.setting == setting


async def test_the_token_of_an_earlier_launch_with_another_size_names_its_worker(site) -> None:
    attempt = site.need("j1").attempt
    first = await EcsProvisioner(site.api(), site.template()).launch(attempt, SMALL)
    again = await EcsProvisioner(site.api(), site.template()).launch(attempt, WorkerSize(2048, 4096))
    assert first == again


async def test_reads_are_bounded_however_busy_the_fleet_is(site, capsys) -> None:
    pace = PollPace(young=0.01, starting=0.01, busy=0.05, idle=0.05, calls_per_minute=60)
    fleet = site.fleet(max_workers=6, pace=pace)
    site.cloud_admin.forget_calls()
    began = time.monotonic()
    workers = await asyncio.gather(*(fleet.acquire(site.need(f"j{n}")) for n in range(6)))
    for worker in workers[:3]:
        await fleet.release(worker.worker_id, reusable=False)
    await asyncio.gather(*(fleet.gone(worker.worker_id) for worker in workers[:3]))
    minutes = (time.monotonic() - began) / 60
    calls = {name: lines["total"] for name, lines in site.cloud_admin.calls()["operations"].items()}
    reads = calls.get("ecs:ListTasks", 0) + calls.get("ecs:DescribeTasks", 0)
    with capsys.disabled():
        print(f"\n  6 launches, 3 stops in {minutes * 60:.1f} s: {calls}")
    assert calls["ecs:RunTask"] == 6
    assert reads <= 20 + 40 * minutes + 2


async def test_a_poll_that_is_asked_for_comes_at_once_and_many_are_one(site) -> None:
    api = site.api()
    slow = PollPace(young=3600, starting=3600, busy=3600, idle=3600)
    discovery = EcsDiscovery(api, site.name, worker_port=50051, pace=slow)
    await discovery.swept()
    worker_id = await EcsProvisioner(api, site.template()).launch(site.need("j1").attempt, SMALL)
    await site.until(lambda: [task["health"] for task in site.live()] == ["HEALTHY"])
    before = api.calls
    for _ in range(50):
        discovery.poll_soon()
    await site.until(lambda: worker_id in discovery.healthy())
    assert api.calls - before <= 4
    await discovery.close()
