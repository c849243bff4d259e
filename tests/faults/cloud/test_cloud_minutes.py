"""Minutes of trouble, and workers that take a minute to start: `./dev long`.

`GOOSEHERD_FAULT_MINUTES` says how many minutes (default 3).
"""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from gooseherd.devcloud.faults import Kind
from gooseherd.domain.errors import GooseherdError, InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.cloud.conftest import Api, Cloud

MINUTES = float(os.environ.get("GOOSEHERD_FAULT_MINUTES", "3"))
SETTLE_SECONDS = 300

pytestmark = [pytest.mark.fault, pytest.mark.long, pytest.mark.timeout(60 * MINUTES + 4 * SETTLE_SECONDS)]


def test_workers_that_take_a_minute_to_start_cost_no_attempt(cloud: Cloud, api: Api) -> None:
    cloud.cloud_admin.spoil_tasks(Kind.SLOW_START, times=9, seconds=60)
    jobs = [api.begin(api.library.bed(f"minute-{number}.bed")) for number in range(3)]
    for job in jobs:
        api.ended(job, SETTLE_SECONDS)
        assert api.completed(job) == ["published"]


def test_trouble_at_random_ends_every_job_and_leaves_nothing(cloud: Cloud) -> None:
    """Calls, tasks and storage fail all the time; when that is over, every file can be had."""
    with cloud.api(ECS_WORKER_PLACEMENT="spot_first") as api:
        _trouble_at_random(cloud, api)


def _trouble_at_random(cloud: Cloud, api: Api) -> None:
    chance = random.Random(random.getrandbits(32))
    kinds: list[Callable[[], None]] = [
        lambda: cloud.cloud_admin.refuse_capacity(chance.randint(1, 3), as_error=chance.random() < 0.5),
        lambda: cloud.cloud_admin.throttle(
            "RunTask", "DescribeTasks", "ListTasks", times=chance.randint(1, 5)
        ),
        lambda: cloud.cloud_admin.fail("ListTasks", "DescribeTasks", "StopTask", times=chance.randint(1, 5)),
        lambda: cloud.cloud_admin.spoil_tasks(Kind.DIES, exit_code=137),
        lambda: cloud.cloud_admin.spoil_tasks(Kind.SLOW_START, seconds=chance.uniform(1, 10)),
        lambda: cloud.cloud_admin.spoil_tasks(Kind.NEVER_HEALTHY),
        lambda: cloud.cloud_admin.spoil_storage(Kind.ERROR, "PutObject", times=chance.randint(1, 4)),
        lambda: cloud.cloud_admin.spoil_storage(Kind.RESET, "GetObject", times=chance.randint(1, 4)),
        lambda: cloud.cloud_admin.spoil_storage(
            Kind.LATENCY, share=0.3, times=20, seconds=chance.uniform(0.1, 2)
        ),
        cloud.cloud_admin.clear,
    ]
    names: list[str] = []
    jobs: dict[str, str] = {}
    over = time.monotonic() + 60 * MINUTES
    while time.monotonic() < over:
        chance.choice(kinds)()
        name = api.library.bed(f"trouble-{len(names)}.bed", chance.choice([50, 5000, 50_000]))
        names.append(name)
        api.register(name)
        try:
            answer = api.client.ask("t", name)
        except GooseherdError:
            pass  # The cache could not be asked just then; below it is asked for again.
        else:
            assert answer.job_id is not None
            jobs[name] = answer.job_id
        live = [task for task in cloud.live() if task["status"] == "RUNNING"]
        if live and chance.random() < 0.2:
            # It may have ended just now.
            with suppress(NotFound, InvalidInput):
                chance.choice([cloud.cloud_admin.kill, cloud.cloud_admin.reclaim])(chance.choice(live)["id"])
        time.sleep(chance.uniform(0.5, 3))
    cloud.cloud_admin.clear()

    ends = {name: api.ended(job, SETTLE_SECONDS) for name, job in jobs.items()}
    assert all(end["status"] == "completed" or end["reason"] for end in ends.values())
    assert any(end["status"] == "completed" for end in ends.values())
    for name in names:
        answer = api.client.ask("t", name, retry=True)
        if answer.job_id is not None:
            api.ended(answer.job_id, SETTLE_SECONDS)
            api.completed(answer.job_id)
