"""What ran out of memory or disk gets a larger task, as RunTask on the local cloud was told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gooseherd.domain.failures import Reason
from gooseherd.domain.ports.fleet import Shortage, WorkerHandle
from gooseherd.fleet.sizes import SizeBounds

pytestmark = pytest.mark.integration


async def overrides(site, worker: WorkerHandle) -> tuple[str, str, int, dict[str, str]]:
    """cpu, memory, disk and the worker's environment, as the task was launched with them."""
    task = (await site.api().describe_tasks([worker.worker_id])).tasks[worker.worker_id].payload
    given = task["overrides"]
    environment = {item["name"]: item["value"] for item in given["containerOverrides"][0]["environment"]}
    disk = (given.get("ephemeralStorage") or task.get("ephemeralStorage"))["sizeInGiB"]
    return given["cpu"], given["memory"], disk, environment


async def test_the_attempt_after_one_that_ran_out_of_memory_is_launched_larger(site) -> None:
    fleet = site.fleet()
    first = await fleet.acquire(site.need("j", 1))
    await fleet.release(first.worker_id, reusable=False)
    shortage = Shortage(Reason.OUT_OF_MEMORY, first.worker_id)
    second = await fleet.acquire(replace(site.need("j", 2), shortages=(shortage,)))
    cpu, memory, disk, environment = await overrides(site, first)
    assert (cpu, memory, disk) == ("1024", "2048", 21)
    assert environment["WORKER_MEMORY_BYTES"] == str(2048 << 20)
    cpu, memory, disk, environment = await overrides(site, second)
    assert (cpu, memory, disk) == ("1024", "4096", 21)
    assert environment["WORKER_MEMORY_BYTES"] == str(4096 << 20)


async def test_the_attempt_after_one_that_ran_out_of_disk_has_more_disk(site) -> None:
    fleet = site.fleet()
    shortage = Shortage(Reason.OUT_OF_DISK)
    worker = await fleet.acquire(replace(site.need("j", 2), shortages=(shortage,)))
    assert (await overrides(site, worker))[:3] == ("1024", "2048", 50)


async def test_a_warm_worker_of_the_size_that_was_too_small_is_not_taken_again(site) -> None:
    fleet = site.fleet()
    warm = await fleet.acquire(site.need("other"))
    await fleet.release(warm.worker_id, reusable=True)
    larger = await fleet.acquire(
        replace(site.need("j", 2), shortages=(Shortage(Reason.OUT_OF_MEMORY, warm.worker_id),))
    )
    assert larger != warm


async def test_a_worker_that_was_merely_lost_is_replaced_by_one_like_it(site) -> None:
    fleet = site.fleet()
    first = await fleet.acquire(site.need("j", 1))
    site.cloud_admin.kill(first.worker_id)
    assert await fleet.verdict(first.worker_id) is Reason.WORKER_LOST
    need = replace(site.need("j", 2), shortages=(Shortage(Reason.WORKER_LOST, first.worker_id),))
    second = await fleet.acquire(need)
    assert (await overrides(site, second))[1] == "2048"


async def test_the_largest_worker_is_told_by_its_limit_and_setting(site) -> None:
    fleet = site.fleet(bounds=SizeBounds(most_memory_mib=2048))
    need = replace(site.need("j"), shortages=(Shortage(Reason.OUT_OF_MEMORY),))
    assert "2048 MiB (ECS_WORKER_MAX_MEMORY_MIB)" in (fleet.limit_reached(need) or "")
    assert site.fleet().limit_reached(need) is None
