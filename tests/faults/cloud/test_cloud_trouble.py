"""Trouble of every kind on the cloud, met by the whole service: the job ends well, nothing is orphaned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gooseherd.devcloud.faults import Kind
from gooseherd.doctor import launches

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.cloud.conftest import Api, Cloud

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize("as_error", [False, True], ids=["failures-in-a-200", "client-exception"])
def test_capacity_that_is_refused_three_times_is_waited_for(cloud: Cloud, api: Api, as_error: bool) -> None:
    cloud.cloud_admin.refuse_capacity(3, as_error=as_error)
    job = api.begin(api.library.bed(f"refused-{as_error}.bed"))
    assert api.completed(job) == ["no_capacity"] * 3 + ["published"]
    assert len(cloud.tasks()) == 1


def test_throttling_delays_and_costs_no_attempt(cloud: Cloud, api: Api) -> None:
    cloud.cloud_admin.throttle("RunTask", times=1)
    cloud.cloud_admin.throttle("DescribeTasks", "ListTasks", times=3)
    assert api.completed(api.begin(api.library.bed("throttled.bed"))) == ["published"]
    assert len(cloud.tasks()) == 1


def test_a_task_that_stops_before_it_is_healthy_costs_one_attempt(cloud: Cloud, api: Api) -> None:
    cloud.cloud_admin.spoil_tasks(Kind.DIES, exit_code=137)
    job = api.begin(api.library.bed("dies.bed"))
    assert api.completed(job) == ["launch_failed", "published"]
    detail = api.client.job(job)["attempts"][0]["detail"]
    assert "137" in detail


def test_an_image_that_cannot_be_pulled_is_named_and_waited_for(cloud: Cloud, api: Api) -> None:
    cloud.cloud_admin.spoil_tasks(Kind.CANNOT_PULL, times=2)
    job = api.begin(api.library.bed("pull.bed"))
    assert api.completed(job) == ["launch_failed"] * 2 + ["published"]
    assert "image" in api.client.job(job)["attempts"][0]["detail"]


def test_a_deploy_with_a_task_definition_that_is_not_there_ends_no_job(
    cloud: Cloud, until: Callable[..., Any]
) -> None:
    fleet = {"ECS_FLEET": "deployed", "WORKFLOW_S3_PREFIX": "deployed/"}
    with cloud.api(**fleet, ECS_WORKER_TASK_DEFINITION="not-registered:7") as api:
        job = api.begin(api.library.bed("bad-deploy.bed"))
        workers = until(
            lambda: (state := api.client.readiness()["dependencies"]["workers"]) != "ok" and state,
            "launches fail",
        )
        assert workers.startswith("degraded: workers cannot be started: ECS_WORKER_TASK_DEFINITION;")
        found = [check for path in cloud.folder.glob("*/server.json") for check in launches(path.parent)]
        assert "workers cannot be started: ECS_WORKER_TASK_DEFINITION; the log says why" in {
            check.detail for check in found if check.state == "warn"
        }
        waiting = api.client.job(job)
        assert waiting["status"] in ("pending", "running")
        reasons = {attempt["reason"] for attempt in waiting["attempts"]} - {None}
        assert reasons == {"launch_failed"}
        assert "ECS_WORKER_TASK_DEFINITION" in waiting["attempts"][0]["detail"]


def test_a_task_that_starts_too_late_is_stopped_and_replaced(cloud: Cloud) -> None:
    cloud.cloud_admin.spoil_tasks(Kind.SLOW_START, seconds=600)
    with cloud.api(ECS_START_TIMEOUT_SECONDS="20") as api:
        job = api.begin(api.library.bed("late.bed"))
        assert api.completed(job) == ["launch_failed", "published"]
        assert "not healthy after 20 seconds" in api.client.job(job)["attempts"][0]["detail"]


def test_a_worker_that_answers_is_used_although_its_health_checks_fail(cloud: Cloud, api: Api) -> None:
    # However long it takes to start here: what is known to be unhealthy is not asked any more.
    cloud.cloud_admin.spoil_tasks(Kind.NEVER_HEALTHY, times=9, seconds=90)
    job = api.ended(api.begin(api.library.bed("unhealthy.bed")))
    assert job["status"] == "completed"


def test_a_killed_worker_costs_one_attempt_and_not_the_job(cloud: Cloud, api: Api) -> None:
    name = api.library.bed("killed.bed", held=True)
    job = api.begin(name)
    assert api.library.halfway[name].wait(60)
    cloud.cloud_admin.kill(cloud.live()[0]["id"])
    api.library.let_go(name)
    assert api.completed(job) == ["worker_lost", "published"]
    lost = api.client.job(job)["attempts"][0]
    assert lost["detail"]


def test_a_worker_on_spot_that_is_taken_away_is_replaced(cloud: Cloud) -> None:
    with cloud.api(ECS_WORKER_PLACEMENT="spot_first") as api:
        name = api.library.bed("spot.bed", held=True)
        job = api.begin(name)
        assert api.library.halfway[name].wait(60)
        cloud.cloud_admin.reclaim(cloud.live()[0]["id"])
        api.library.let_go(name)
        first, *rest = api.completed(job)
    assert first in ("worker_drained", "worker_lost")
    assert rest == ["published"]


def test_storage_that_fails_and_breaks_off_delays_and_costs_no_attempt(cloud: Cloud, api: Api) -> None:
    cloud.cloud_admin.spoil_storage(Kind.ERROR, "PutObject", "HeadObject", times=3)
    cloud.cloud_admin.spoil_storage(Kind.RESET, "PutObject", times=2)
    cloud.cloud_admin.spoil_storage(Kind.THROTTLE, "PutObject", "GetObject", times=2)
    assert api.completed(api.begin(api.library.bed("storage.bed"))) == ["published"]


def test_an_outage_of_discovery_does_not_touch_running_work(
    cloud: Cloud, api: Api, until: Callable[..., Any]
) -> None:
    name = api.library.bed("outage.bed", held=True)
    job = api.begin(name)
    assert api.library.halfway[name].wait(60)
    cloud.cloud_admin.fail("ListTasks", "DescribeTasks", times=None)
    before = cloud.calls("ListTasks")
    until(lambda: cloud.calls("ListTasks") >= before + 2, "the outage is noticed")
    api.library.let_go(name)
    assert api.completed(job) == ["published"]
    cloud.cloud_admin.clear()
    other = api.begin(api.library.bed("after-outage.bed"))
    assert api.completed(other) == ["published"]
