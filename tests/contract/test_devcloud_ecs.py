"""What the local cloud's ECS promises, asked as we ask AWS: by boto3, over HTTP."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.cloud_key import CLOUD_KEY

from gooseherd.devcloud.admin_client import LocalCloudAdmin, SignedBy
from gooseherd.devcloud.child_process import running_cloud
from gooseherd.devcloud.faults import Fault, Kind

IMAGE = "shell:dev"
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-a", "subnet-b"], "securityGroups": ["sg-a"]}}
SLEEPS = ["trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"]

Json = dict[str, Any]


def until(seen: Callable[[], Any], what: str = "") -> Any:
    """What `seen` gives as soon as it is true."""
    deadline = time.monotonic() + 60
    while not (value := seen()):
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.01)
    return value


OWNER = SignedBy(CLOUD_KEY)


class Cloud:
    """The local cloud as a test talks to it: one cluster, tasks that are shell scripts."""

    def __init__(self, url: str, cluster: str) -> None:
        self.url = url
        self.cluster = cluster
        self.cloud_admin = LocalCloudAdmin(url, CLOUD_KEY)
        self.ecs = boto3.client(
            "ecs",
            endpoint_url=url,
            region_name="eu-west-1",
            aws_access_key_id=CLOUD_KEY.key_id,
            aws_secret_access_key=CLOUD_KEY.secret,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def define(self, family: str, **container: Any) -> str:
        health = container.pop("health", None)
        if health:
            container["healthCheck"] = {"command": health, "interval": 5, "retries": 2, "timeout": 5}
        made = self.ecs.register_task_definition(
            family=family,
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[{"name": "main", "image": IMAGE, "command": SLEEPS, **container}],
        )
        return str(made["taskDefinition"]["taskDefinitionArn"])

    def run(self, family: str, **more: Any) -> str:
        return str(self.ask(family, **more)["tasks"][0]["taskArn"])

    def ask(self, family: str, **more: Any) -> Json:
        asked: Json = {"launchType": "FARGATE", "networkConfiguration": NETWORK, **more}
        asked = {name: value for name, value in asked.items() if value is not None}
        answer: Json = self.ecs.run_task(cluster=self.cluster, taskDefinition=family, **asked)
        return answer

    def see(self, arn: str) -> Json:
        found = self.ecs.describe_tasks(cluster=self.cluster, tasks=[arn], include=["TAGS"])
        return dict(found["tasks"][0])

    def wait(self, arn: str, status: str = "RUNNING", health: str | None = None) -> Json:
        def seen() -> Json | None:
            task = self.see(arn)
            return task if task["lastStatus"] == status and health in {None, task["healthStatus"]} else None

        return dict(until(seen, f"{status} {health}"))

    def stop(self, arn: str, **more: Any) -> Json:
        self.ecs.stop_task(cluster=self.cluster, task=arn, **more)
        return self.wait(arn, "STOPPED")

    def log(self, arn: str) -> str:
        path = next(task["logs"][0] for task in self.cloud_admin.tasks() if task["arn"] == arn)
        return Path(path).read_text()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("devcloud")
    images = {IMAGE: ["/bin/sh", "-c"], "program:dev": ["/no/such/program"]}
    with running_cloud(state, images=images, options=["--scale", "0.02"]) as url:
        yield url


@pytest.fixture(scope="module")
def shared(url: str) -> Iterator[Cloud]:
    cloud = Cloud(url, "gooseherd")
    cloud.ecs.create_cluster(clusterName="gooseherd", capacityProviders=["FARGATE", "FARGATE_SPOT"])
    cloud.define("plain")
    cloud.define("healthy", health=["CMD-SHELL", "test -n $BIND_HOST"])
    yield cloud
    cloud.cloud_admin.close()
    cloud.ecs.close()


@pytest.fixture
def cloud(shared: Cloud) -> Iterator[Cloud]:
    yield shared
    shared.cloud_admin.clear()
    for task in shared.cloud_admin.tasks():
        if task["status"] != "STOPPED":
            shared.cloud_admin.kill(task["arn"])
            shared.ecs.stop_task(cluster=shared.cluster, task=task["arn"])
    until(lambda: all(task["status"] == "STOPPED" for task in shared.cloud_admin.tasks()), "all stopped")


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


# -- a task's life -------------------------------------------------------------------------------


def test_a_task_is_a_process_with_an_address_that_becomes_healthy(cloud: Cloud) -> None:
    overrides = {
        "cpu": "1024",
        "memory": "2048",
        "ephemeralStorage": {"sizeInGiB": 40},
        "containerOverrides": [{"name": "main", "environment": [{"name": "JOB", "value": "j1"}]}],
    }
    arn = cloud.run(
        "healthy", overrides=overrides, startedBy="gooseherd/x_1", tags=[{"key": "a", "value": "b"}]
    )
    task = cloud.wait(arn, health="HEALTHY")
    details = {item["name"]: item["value"] for item in task["attachments"][0]["details"]}
    address = details["privateIPv4Address"]
    assert address.startswith("127.")
    assert task["attachments"][0]["status"] == "ATTACHED"
    assert details["subnetId"] == "subnet-a"
    assert task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"] == address
    assert task["containers"][0]["healthStatus"] == "HEALTHY"
    assert (task["cpu"], task["memory"], task["ephemeralStorage"]) == ("1024", "2048", {"sizeInGiB": 40})
    assert task["overrides"]["containerOverrides"] == overrides["containerOverrides"]
    assert (task["launchType"], task["startedBy"]) == ("FARGATE", "gooseherd/x_1")
    assert task["tags"] == [{"key": "a", "value": "b"}]
    assert task["createdAt"] <= task["pullStartedAt"] <= task["startedAt"]
    assert ":eu-west-1:" in arn


def test_a_stopped_task_keeps_its_reason_and_loses_its_tags(cloud: Cloud) -> None:
    arn = cloud.run("plain", tags=[{"key": "a", "value": "b"}])
    until(lambda: "up" in cloud.log(cloud.wait(arn)["taskArn"]))
    task = cloud.stop(arn, reason="idle")
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "idle")
    assert (task["desiredStatus"], task["tags"]) == ("STOPPED", [])
    assert task["containers"][0]["exitCode"] == 0
    assert task["attachments"][0]["status"] == "DELETED"
    assert task["stoppingAt"] <= task["executionStoppedAt"] <= task["stoppedAt"]


def test_a_program_that_ignores_sigterm_is_killed_after_its_stop_timeout(cloud: Cloud) -> None:
    cloud.define("stubborn", command=["trap '' TERM; echo up; while :; do sleep 0.02; done"], stopTimeout=10)
    arn = cloud.run("stubborn")
    until(lambda: "up" in cloud.log(cloud.wait(arn)["taskArn"]))
    task = cloud.stop(arn)
    assert task["containers"][0]["exitCode"] == 137
    assert (task["stoppedAt"] - task["stoppingAt"]).total_seconds() >= 0.2  # ten seconds, scaled


def test_a_program_that_ends_stops_its_task(cloud: Cloud) -> None:
    cloud.define("short", command=["exit 3"])
    task = cloud.wait(cloud.run("short"), "STOPPED")
    assert (task["stopCode"], task["stoppedReason"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
    )
    assert task["containers"][0]["exitCode"] == 3


def test_what_a_program_leaves_behind_ends_with_it(cloud: Cloud) -> None:
    cloud.define("litter", command=["setsid sleep 3417 & sleep 3417 & echo $! ; exit 0"])
    task = cloud.wait(cloud.run("litter"), "STOPPED")
    left = int(cloud.log(task["taskArn"]))
    with pytest.raises(ProcessLookupError):
        os.kill(left, 0)
    assert "3417" not in "".join(_command_lines())


def _command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue


@pytest.mark.parametrize(
    ("image", "reason"),
    [("nowhere:1", "CannotPullContainerError"), ("program:dev", "CannotStartContainerError")],
)
def test_an_image_that_cannot_run_fails_the_task_not_the_call(cloud: Cloud, image: str, reason: str) -> None:
    cloud.define("broken", image=image)
    task = cloud.wait(cloud.run("broken"), "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith(reason)
    assert "exitCode" not in task["containers"][0]


def test_an_unhealthy_task_goes_on(cloud: Cloud) -> None:
    cloud.define("sick", health=["CMD", "/bin/false"])
    arn = cloud.run("sick")
    assert cloud.wait(arn, health="UNHEALTHY")["desiredStatus"] == "RUNNING"


def test_without_a_health_check_the_health_is_unknown(cloud: Cloud) -> None:
    assert cloud.wait(cloud.run("plain"))["healthStatus"] == "UNKNOWN"


def test_a_sidecar_without_a_check_keeps_the_task_unknown(cloud: Cloud) -> None:
    check = {"command": ["CMD", "/bin/true"], "interval": 5}
    cloud.ecs.register_task_definition(
        family="two",
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[
            {"name": "main", "image": IMAGE, "command": SLEEPS, "healthCheck": check},
            {"name": "side", "image": IMAGE, "command": SLEEPS},
        ],
    )
    arn = cloud.run("two")
    until(lambda: cloud.see(arn)["containers"][0]["healthStatus"] == "HEALTHY")
    assert cloud.see(arn)["healthStatus"] == "UNKNOWN"
    assert cloud.stop(arn)["containers"][1]["exitCode"] is not None


def test_the_environment_is_the_task_definitions_and_no_more(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.define(
        "env",
        command=["env; pwd; sleep 600"],
        environment=[{"name": "FROM", "value": "definition"}, {"name": "KEPT", "value": "yes"}],
    )
    override = {"name": "main", "environment": [{"name": "FROM", "value": "override"}]}
    arn = cloud.run("env", overrides={"containerOverrides": [override]})
    cloud.wait(arn)
    log = until(lambda: text if "PWD=" in (text := cloud.log(arn)) else None)
    lines = dict(line.split("=", 1) for line in log.splitlines() if "=" in line)
    assert (lines["FROM"], lines["KEPT"]) == ("override", "yes")
    assert lines["AWS_ENDPOINT_URL"] == cloud.url
    assert lines["AWS_REGION"] == "eu-west-1"
    assert "PYTEST_CURRENT_TEST" not in lines


def test_a_task_learns_who_and_where_it_is(cloud: Cloud) -> None:
    cloud.define("curious", command=["echo $ECS_CONTAINER_METADATA_URI_V4; exec sleep 600"])
    arn = cloud.run("curious", tags=[{"key": "job", "value": "7"}])
    task = cloud.wait(arn)
    base = until(lambda: cloud.log(arn).strip())
    own = httpx.get(base, trust_env=False).json()
    whole = httpx.get(f"{base}/taskWithTags", trust_env=False).json()
    address = task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"]
    assert own["Networks"][0]["IPv4Addresses"] == [address]
    assert (whole["TaskARN"], whole["Cluster"]) == (arn, task["clusterArn"])
    assert whole["TaskTags"] == {"job": "7"}
    assert httpx.get(base[:-3] + "zz-0", trust_env=False).status_code == 404


def test_ten_tasks_have_ten_addresses(cloud: Cloud) -> None:
    made = cloud.ask("plain", count=10)["tasks"]
    seen = [cloud.wait(task["taskArn"]) for task in made]
    assert len({task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"] for task in seen}) == 10


# -- the calls -------------------------------------------------------------------------------------


def test_the_same_client_token_is_the_same_task(cloud: Cloud) -> None:
    first = cloud.run("plain", clientToken="job-1.1")
    assert cloud.run("plain", clientToken="job-1.1") == first
    assert cloud.run("plain", clientToken="job-1.2") != first
    cloud.stop(first)
    assert cloud.see(cloud.run("plain", clientToken="job-1.1"))["lastStatus"] == "STOPPED"


def test_a_client_token_for_another_request_is_a_conflict(cloud: Cloud) -> None:
    arn = cloud.run("plain", clientToken="job-2.1")
    with pytest.raises(ClientError) as refused:
        cloud.run("healthy", clientToken="job-2.1")
    assert code_of(refused) == "ConflictException"
    assert refused.value.response["resourceIds"] == [arn]


REFUSED: list[tuple[str, Json]] = [
    ("InvalidParameterException", {"count": 11}),
    ("InvalidParameterException", {"startedBy": "a" * 129}),
    ("InvalidParameterException", {"startedBy": "with space"}),
    ("InvalidParameterException", {"clientToken": "a" * 65}),
    ("InvalidParameterException", {"networkConfiguration": None}),
    ("InvalidParameterException", {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["nope"]}}}),
    ("InvalidParameterException", {"launchType": None}),
    ("InvalidParameterException", {"launchType": "EC2"}),
    ("InvalidParameterException", {"capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]}),
    (
        "InvalidParameterException",
        {"launchType": None, "capacityProviderStrategy": [{"capacityProvider": "MINE"}]},
    ),
    ("InvalidParameterException", {"overrides": {"ephemeralStorage": {"sizeInGiB": 20}}}),
    ("InvalidParameterException", {"overrides": {"containerOverrides": [{"name": "other"}]}}),
    ("ClientException", {"overrides": {"cpu": "256", "memory": "8192"}}),
    ("InvalidParameterException", {"propagateTags": "SERVICE"}),
]


@pytest.mark.parametrize(("code", "asked"), REFUSED)
def test_what_aws_refuses_is_refused(cloud: Cloud, code: str, asked: Json) -> None:
    with pytest.raises(ClientError) as refused:
        cloud.ask("plain", **asked)
    assert code_of(refused) == code


def test_what_does_not_exist_is_named(cloud: Cloud) -> None:
    with pytest.raises(ClientError) as refused:
        cloud.run("no-such-family")
    assert code_of(refused) == "ClientException"
    with pytest.raises(ClientError) as refused:
        cloud.ecs.list_tasks(cluster="elsewhere")
    assert code_of(refused) == "ClusterNotFoundException"
    with pytest.raises(ClientError) as refused:
        cloud.ecs.stop_task(cluster=cloud.cluster, task="0" * 32)
    assert code_of(refused) == "InvalidParameterException"
    arn = cloud.define("retired")
    cloud.ecs.deregister_task_definition(taskDefinition=arn)
    with pytest.raises(ClientError) as refused:
        cloud.run(arn)
    assert "inactive" in str(refused.value)


def test_tasks_that_are_not_here_are_missing(cloud: Cloud) -> None:
    arn = cloud.run("plain")
    elsewhere = arn.replace("/gooseherd/", "/other/")
    found = cloud.ecs.describe_tasks(cluster=cloud.cluster, tasks=[arn, "0" * 32, elsewhere])
    assert [task["taskArn"] for task in found["tasks"]] == [arn]
    assert {failure["reason"] for failure in found["failures"]} == {"MISSING"}
    assert len(found["failures"]) == 2
    assert found["tasks"][0].get("tags", []) == []
    with pytest.raises(ClientError) as refused:
        cloud.ecs.describe_tasks(cluster=cloud.cluster, tasks=[arn] * 101)
    assert code_of(refused) == "InvalidParameterException"


def test_a_list_comes_in_pages_of_tasks_that_are_meant_to_run(cloud: Cloud) -> None:
    made = [task["taskArn"] for task in cloud.ask("plain", count=7)["tasks"]]
    other = cloud.run("healthy")
    pages = cloud.ecs.get_paginator("list_tasks").paginate(
        cluster=cloud.cluster, family="plain", PaginationConfig={"PageSize": 3}
    )
    sizes = [page["taskArns"] for page in pages]
    assert [len(page) for page in sizes] == [3, 3, 1]
    assert [arn for page in sizes for arn in page] == made
    cloud.stop(made[0])
    listed = cloud.ecs.list_tasks(cluster=cloud.cluster)["taskArns"]
    assert made[0] not in listed
    assert other in listed
    stopped = cloud.ecs.list_tasks(cluster=cloud.cluster, desiredStatus="STOPPED")["taskArns"]
    assert made[0] in stopped


def test_started_by_is_a_filter_of_its_own(cloud: Cloud) -> None:
    arn = cloud.run("plain", startedBy="me")
    cloud.run("plain", startedBy="you")
    assert cloud.ecs.list_tasks(cluster=cloud.cluster, startedBy="me")["taskArns"] == [arn]
    with pytest.raises(ClientError) as refused:
        cloud.ecs.list_tasks(cluster=cloud.cluster, startedBy="me", family="plain")
    assert code_of(refused) == "InvalidParameterException"


def test_tags_of_a_task_can_change_while_it_lives(cloud: Cloud) -> None:
    arn = cloud.run("plain", tags=[{"key": "a", "value": "1"}])
    cloud.ecs.tag_resource(resourceArn=arn, tags=[{"key": "b", "value": "2"}])
    cloud.ecs.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert cloud.ecs.list_tags_for_resource(resourceArn=arn)["tags"] == [{"key": "b", "value": "2"}]


def test_a_standalone_task_cannot_be_protected(cloud: Cloud) -> None:
    arn = cloud.run("plain")
    result = cloud.ecs.update_task_protection(cluster=cloud.cluster, tasks=[arn], protectionEnabled=True)
    assert result["failures"][0]["reason"] == "TASK_NOT_VALID"


# -- trouble to order ------------------------------------------------------------------------------


def test_capacity_is_refused_as_often_as_ordered(cloud: Cloud) -> None:
    cloud.cloud_admin.refuse_capacity(2)
    for _ in range(2):
        answer = cloud.ask("plain", clientToken="patient")
        assert answer["tasks"] == []
        assert answer["failures"][0]["reason"].startswith("Capacity is unavailable")
    assert cloud.run("plain", clientToken="patient")
    cloud.cloud_admin.refuse_capacity(1, as_error=True)
    with pytest.raises(ClientError) as refused:
        cloud.run("plain")
    assert code_of(refused) == "ClientException"


def test_calls_are_throttled_and_fail_as_ordered(cloud: Cloud) -> None:
    cloud.cloud_admin.throttle("RunTask", times=1)
    cloud.cloud_admin.fail("StopTask", code="AccessDeniedException", message="no")
    with pytest.raises(ClientError) as refused:
        cloud.run("plain")
    assert code_of(refused) == "ThrottlingException"
    arn = cloud.run("plain")
    with pytest.raises(ClientError) as refused:
        cloud.ecs.stop_task(cluster=cloud.cluster, task=arn)
    assert code_of(refused) == "AccessDeniedException"
    assert cloud.cloud_admin.faults() == []


def test_an_outage_of_the_reads_ends_by_itself(cloud: Cloud) -> None:
    arn = cloud.run("plain")
    cloud.cloud_admin.hide_fleet(0.5)
    with pytest.raises(ClientError) as refused:
        cloud.see(arn)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    until(lambda: not cloud.cloud_admin.faults() or _answers(cloud, arn))
    assert cloud.see(arn)["taskArn"] == arn


def _answers(cloud: Cloud, arn: str) -> bool:
    try:
        return bool(cloud.see(arn))
    except ClientError:
        return False


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Kind.CANNOT_PULL, "CannotPullContainerError"),
        (Kind.NO_ADDRESS, "Timeout waiting for network interface"),
        (Kind.DIES, "Essential container in task exited"),
    ],
)
def test_the_next_task_fails_as_ordered_and_the_one_after_does_not(
    cloud: Cloud, kind: Kind, reason: str
) -> None:
    cloud.cloud_admin.spoil_tasks(kind, exit_code=41)
    spoiled, other = cloud.run("healthy"), cloud.run("healthy")
    task = cloud.wait(spoiled, "STOPPED")
    assert task["stoppedReason"].startswith(reason)
    assert task["containers"][0].get("exitCode") == (41 if kind is Kind.DIES else None)
    cloud.wait(other, health="HEALTHY")


def test_a_slow_task_is_pending_and_can_be_stopped_there(cloud: Cloud) -> None:
    cloud.cloud_admin.spoil_tasks(Kind.SLOW_START, seconds=600)
    arn = cloud.run("plain")
    task = cloud.wait(arn, "PENDING")
    assert task["attachments"][0]["status"] == "ATTACHED"
    task = cloud.stop(arn, reason="too slow")
    assert (task["stoppedReason"], task.get("startedAt")) == ("too slow", None)


def test_a_task_never_becomes_healthy_as_ordered(cloud: Cloud) -> None:
    cloud.cloud_admin.spoil_tasks(Kind.NEVER_HEALTHY)
    cloud.wait(cloud.run("healthy"), health="UNHEALTHY")


def test_a_new_task_is_not_seen_for_a_while_as_ordered(cloud: Cloud) -> None:
    cloud.cloud_admin.spoil_tasks(Kind.HIDDEN, seconds=0.5)
    arn = cloud.run("plain")
    assert cloud.ecs.describe_tasks(cluster=cloud.cluster, tasks=[arn])["failures"][0]["reason"] == "MISSING"
    assert arn not in cloud.ecs.list_tasks(cluster=cloud.cluster)["taskArns"]
    until(lambda: arn in cloud.ecs.list_tasks(cluster=cloud.cluster)["taskArns"])


def test_spot_capacity_is_taken_back_with_a_notice(cloud: Cloud) -> None:
    cloud.define(
        "polite", command=["trap 'echo noticed; exit 0' TERM; echo up; while :; do sleep 0.02; done"]
    )
    arn = cloud.run(
        "polite",
        launchType=None,
        capacityProviderStrategy=[
            {"capacityProvider": "FARGATE_SPOT", "weight": 1},
            {"capacityProvider": "FARGATE", "weight": 0},
        ],
    )
    until(lambda: "up" in cloud.log(cloud.wait(arn)["taskArn"]))
    assert cloud.see(arn)["capacityProviderName"] == "FARGATE_SPOT"
    cloud.cloud_admin.reclaim(arn)
    task = cloud.wait(arn, "STOPPED")
    assert task["stopCode"] == "SpotInterruption"
    assert "noticed" in cloud.log(arn)


def test_a_killed_task_says_137(cloud: Cloud) -> None:
    arn = cloud.run("plain")
    cloud.wait(arn)
    cloud.cloud_admin.kill(arn)
    task = cloud.wait(arn, "STOPPED")
    assert (task["stopCode"], task["containers"][0]["exitCode"]) == ("EssentialContainerExited", 137)


def test_calls_are_counted_by_operation(cloud: Cloud) -> None:
    cloud.cloud_admin.forget_calls()
    cloud.ecs.list_tasks(cluster=cloud.cluster)
    cloud.ecs.list_tasks(cluster=cloud.cluster)
    counted = cloud.cloud_admin.calls()["operations"]["ecs:ListTasks"]
    assert counted == {"total": 2, "last_minute": 2, "busiest_minute": 2}


def test_an_order_that_makes_no_sense_is_refused(cloud: Cloud) -> None:
    for order in ({"kind": "nonsense"}, {"kind": "error"}, {"kind": "capacity", "tims": 2}, 7):
        answer = httpx.post(f"{cloud.url}/_devcloud/faults", json=order, trust_env=False, auth=OWNER)
        assert answer.status_code == 400, order
    assert cloud.cloud_admin.faults() == []
    assert Fault.from_json({"kind": "capacity", "times": 2}).to_json() == {"kind": "capacity", "times": 2}


@pytest.mark.parametrize("headers", [{"Origin": "https://example.org"}, {"Host": "rebound.example.org"}])
def test_a_web_page_cannot_start_processes(cloud: Cloud, headers: dict[str, str]) -> None:
    target = {"X-Amz-Target": "AmazonEC2ContainerServiceV20141113.ListClusters"}
    signed = httpx.post(cloud.url, json={}, headers=target, trust_env=False, auth=OWNER)
    assert signed.status_code == 200
    for path, extra in (("", target), ("/_devcloud/faults", {})):
        given = {**extra, **headers}
        answer = httpx.post(cloud.url + path, json={}, headers=given, trust_env=False, auth=OWNER)
        assert answer.status_code == 403
