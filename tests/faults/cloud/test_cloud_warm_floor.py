"""The warm floor of two real API processes: held together, used by a cold file, whoever is killed."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.cloud.conftest import Cloud

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]

FLOOR = 2


@pytest.fixture
def shared(cloud: Cloud) -> dict[str, str]:
    """One SQLite store, one fleet and one part of the bucket, and a floor."""
    mark = uuid.uuid4().hex[:8]
    return {
        "DATABASE_URL": f"sqlite:///{cloud.folder}/{mark}.sqlite",
        "ECS_FLEET": f"fleet-{mark}",
        "WORKFLOW_S3_PREFIX": f"{mark}/",
        "ECS_WARM_WORKERS": str(FLOOR),
        "ECS_MAX_WORKERS": "6",
        "WORKER_IDLE_TIMEOUT_SECONDS": "5",
    }


def floor_of(cloud: Cloud) -> list[str]:
    """Healthy tasks that were launched for the floor."""
    return [task["id"] for task in cloud.live() if task["health"] == "HEALTHY"]


def test_a_cold_file_gets_a_worker_of_the_floor_which_both_processes_hold_together(
    cloud: Cloud, shared: dict[str, str], until: Callable[..., Any]
) -> None:
    with cloud.api(**shared) as one:
        with cloud.api(**shared) as other:
            until(lambda: len(floor_of(cloud)) == FLOOR, "the floor is there")
            kept = {task["id"] for task in cloud.live()}
            assert len(cloud.tasks()) == FLOOR
            jobs = [one.begin(one.library.bed("warm-one.bed"))]
            until(lambda: one.client.job(jobs[0])["status"] != "pending", "the first runs")
            jobs.append(other.begin(one.library.bed("warm-other.bed")))
            assert [one.completed(job) for job in jobs] == [["published"]] * 2
            workers = {one.client.job(job)["attempts"][0]["worker_id"] for job in jobs}
            assert workers & kept, "a file that was asked for cold had a warm worker"
            other.kill()
        until(
            lambda: len(floor_of(cloud)) == len(cloud.live()) == FLOOR,
            "what was taken comes back or is replaced, and a killed process takes nothing along",
        )
        metrics = one.client.http.get("/metrics").text
        assert 'gooseherd_reservations{purpose="floor",state="ready"}' in metrics
    # The floor stays for whoever comes next, who wants none.
    assert floor_of(cloud)
    with cloud.api(**{**shared, "ECS_WARM_WORKERS": "0"}):
        until(lambda: not cloud.live(), "the surplus is let go")
