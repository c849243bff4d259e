"""The ECS fleet with the worker itself in its tasks, spoken to over Wool."""

from __future__ import annotations

import asyncio

import pytest

from gooseherd.domain.errors import Misconfigured
from gooseherd.fleet.ecs_launches import describe_over_wool
from gooseherd.fleet.wool_workers import WoolWorkers
from gooseherd.worker.settings import build_id

pytestmark = pytest.mark.integration


async def test_a_worker_is_launched_spoken_to_kept_warm_and_let_go(site, tmp_path) -> None:
    workers = WoolWorkers()
    environment = {"SYNC_DATA_DIR": str(tmp_path / "cache"), "GOOSEHERD_BUILD": build_id()}
    fleet = site.fleet(
        task_definition=site.real_worker(environment),
        describe=describe_over_wool(workers),
        build=build_id(),
        start_timeout=60,
    )
    worker = await fleet.acquire(site.need("j1"))
    async with workers.connect(worker) as link:
        await link.cancel_attempt(site.need("unknown").attempt)
    dying = asyncio.create_task(fleet.gone(worker.worker_id))
    await fleet.release(worker.worker_id, reusable=True)
    # It is asked itself, over Wool, whether it is idle and of our build.
    assert await fleet.acquire(site.need("j2")) == worker
    await fleet.release(worker.worker_id, reusable=False)
    assert "stopped on request" in await dying
    assert len(site.tasks()) == 1


async def test_a_worker_that_refuses_its_settings_is_no_matter_for_a_retry(site) -> None:
    fleet = site.fleet(task_definition=site.real_worker({"CFDB_SORT_MEMORY_CAP": "lots"}))
    with pytest.raises(Misconfigured, match="refused its settings"):
        await fleet.acquire(site.need("j1"))
    await site.until(lambda: not site.live())
