"""Many files at once, and several API processes, on one fleet."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.cloud.conftest import Cloud

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def shared(database_url: str) -> dict[str, str]:
    """One store, one fleet and one part of the bucket, for any number of API processes."""
    mark = uuid.uuid4().hex[:8]
    return {
        "DATABASE_URL": database_url,
        "DATABASE_NAME": f"test_{mark}",
        "ECS_FLEET": f"fleet-{mark}",
        "WORKFLOW_S3_PREFIX": f"{mark}/",
    }


def test_forty_cold_files_share_eight_tasks(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    with cloud.api(ECS_MAX_WORKERS="8", WORKFLOW_MAX_RUNNING_PER_REQUESTER="100") as api:
        names = [api.library.bed(f"forty{number}.bed") for number in range(40)]
        with ThreadPoolExecutor(8) as pool:
            jobs = list(pool.map(api.begin, names))
            done = list(pool.map(lambda job: api.completed(job), jobs))
        tasks, calls = cloud.tasks(), cloud.cloud_admin.calls()
        workers = {attempt["worker_id"] for job in jobs for attempt in api.client.job(job)["attempts"]}
    assert {tuple(reasons) for reasons in done} == {("published",)}
    assert len(tasks) <= 8
    assert workers <= {task["id"] for task in tasks}
    reads = {
        name: result["busiest_minute"]
        for name, result in calls["operations"].items()
        if name in ("ecs:ListTasks", "ecs:DescribeTasks")
    }
    assert sum(reads.values()) <= 120, "as ECS_POLL_CALLS_PER_MINUTE says"
    with capsys.disabled():
        print(
            f"\n  40 files, {len(tasks)} tasks, {calls['seconds']:.0f} s: {json.dumps(calls['operations'])}"
        )


def test_two_api_processes_launch_one_worker_for_one_file(cloud: Cloud, shared: dict[str, str]) -> None:
    with cloud.api(**shared) as one, cloud.api(**shared) as other:
        name = one.library.bed("both.bed")
        one.register(name)
        with ThreadPoolExecutor(8) as pool:
            jobs = set(pool.map(lambda number: (one, other)[number % 2].ask(name), range(16)))
        assert len(jobs) == 1
        job = jobs.pop()
        assert one.completed(job) == other.completed(job) == ["published"]
        assert len(cloud.tasks()) == 1


@pytest.mark.parametrize("victim", [0, 1], ids=["the-one-asked", "the-other"])
def test_work_goes_on_when_either_api_process_is_killed(
    cloud: Cloud, shared: dict[str, str], until: Callable[..., Any], victim: int
) -> None:
    with cloud.api(**shared) as one, cloud.api(**shared) as other:
        running, waiting = (
            one.library.bed(f"running{victim}.bed", held=True),
            one.library.bed(f"w{victim}.bed"),
        )
        job = one.begin(running)
        assert one.library.halfway[running].wait(60)
        killed, survivor = (one, other) if victim == 0 else (other, one)
        killed.kill()
        until(lambda: not (Path("/proc") / str(killed.pid) / "fd" / "0").exists(), "it is dead")
        second = survivor.begin(waiting)
        one.library.let_go(running)
        assert survivor.completed(job) == ["published"], "adopted, not done again"
        assert survivor.completed(second) == ["published"]
        assert len(cloud.tasks()) <= 2
