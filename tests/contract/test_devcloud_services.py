"""Services of the local cloud's ECS, and what ECS reads for a task before it starts it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.cloud_key import CLOUD_KEY

from gooseherd.devcloud.admin_client import LocalCloudAdmin
from gooseherd.devcloud.child_process import running_cloud

IMAGE = "shell:dev"
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-a"], "securityGroups": ["sg-a"]}}
SLEEPS = ["trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"]

Json = dict[str, Any]


def until(seen: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 60
    while not (value := seen()):
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.02)
    return value


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("devcloud")
    with running_cloud(state, images={IMAGE: ["/bin/sh", "-c"]}, options=["--scale", "0.02"]) as url:
        yield url


class Cluster:
    """A cluster of its own; every request must be one that AWS would take."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        self.ecs = self.client("ecs")
        self.ecs.create_cluster(clusterName=name)
        self.cloud_admin = LocalCloudAdmin(url, CLOUD_KEY)

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=CLOUD_KEY.key_id,
            aws_secret_access_key=CLOUD_KEY.secret,
        )

    def define(self, family: str, **container: Any) -> str:
        made = self.ecs.register_task_definition(
            family=family,
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[{"name": "main", "image": IMAGE, "command": SLEEPS, **container}],
        )
        return str(made["taskDefinition"]["taskDefinitionArn"])

    def serve(self, definition: str, count: int) -> None:
        self.ecs.create_service(
            cluster=self.name,
            serviceName="api",
            taskDefinition=definition,
            desiredCount=count,
            launchType="FARGATE",
            networkConfiguration=NETWORK,
            deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": True}},
        )

    def service(self) -> Json:
        (found,) = self.ecs.describe_services(cluster=self.name, services=["api"])["services"]
        return dict(found)

    def steady(self) -> Json:
        def seen() -> Json | None:
            service = self.service()
            states = [one["rolloutState"] for one in service["deployments"]]
            return service if states == ["COMPLETED"] else None

        return dict(until(seen, "the service is steady"))

    def running(self) -> list[Json]:
        arns = self.ecs.list_tasks(cluster=self.name)["taskArns"]
        tasks = self.ecs.describe_tasks(cluster=self.name, tasks=arns)["tasks"] if arns else []
        return [
            task for task in tasks if task["lastStatus"] == "RUNNING" and task["desiredStatus"] == "RUNNING"
        ]

    def run(self, definition: str) -> Json:
        (task,) = self.ecs.run_task(
            cluster=self.name, taskDefinition=definition, launchType="FARGATE", networkConfiguration=NETWORK
        )["tasks"]
        return dict(task)

    def see(self, task: Json) -> Json:
        (found,) = self.ecs.describe_tasks(cluster=self.name, tasks=[task["taskArn"]])["tasks"]
        return dict(found)

    def log(self, task: Json) -> str:
        (found,) = [one for one in self.cloud_admin.tasks() if one["arn"] == task["taskArn"]]
        path = Path(found["logs"][0])
        return path.read_text() if path.exists() else ""


@pytest.fixture
def cluster(url: str, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    made = Cluster(url, request.node.name[:60])
    yield made
    if made.ecs.list_services(cluster=made.name)["serviceArns"]:
        made.ecs.delete_service(cluster=made.name, service="api", force=True)
        until(lambda: made.service()["status"] == "INACTIVE", "the service ends")
        assert made.running() == []
    made.cloud_admin.close()


def test_a_service_replaces_a_task_that_dies(cluster: Cluster) -> None:
    cluster.serve(cluster.define("dies"), 2)
    assert cluster.steady()["runningCount"] == 2
    before = {task["taskArn"] for task in cluster.running()}
    cluster.cloud_admin.kill(min(before))
    until(lambda: len({task["taskArn"] for task in cluster.running()} - {min(before)}) == 2, "two run")
    assert cluster.running()[0]["group"] == "service:api"


def test_a_new_definition_replaces_the_old_one_and_there_are_always_enough(cluster: Cluster) -> None:
    first, second = cluster.define("rolls"), cluster.define("rolls", environment=[])
    cluster.serve(first, 2)
    cluster.steady()
    cluster.ecs.update_service(cluster=cluster.name, service="api", taskDefinition=second)
    fewest = 2
    while [one["rolloutState"] for one in cluster.service()["deployments"]] != ["COMPLETED"]:
        fewest = min(fewest, len(cluster.running()))
    assert fewest == 2
    assert {task["taskDefinitionArn"] for task in cluster.running()} == {second}


def test_a_deployment_whose_tasks_do_not_start_is_rolled_back(cluster: Cluster) -> None:
    good, bad = cluster.define("breaks"), cluster.define("breaks", image="no-such-image")
    cluster.serve(good, 1)
    cluster.steady()
    cluster.ecs.update_service(cluster=cluster.name, service="api", taskDefinition=bad)
    until(lambda: cluster.service()["taskDefinition"] == good, "it goes back")
    service = cluster.steady()
    assert any("rolling back" in event["message"] for event in service["events"])
    assert {task["taskDefinitionArn"] for task in cluster.running()} == {good}


def test_secrets_and_environment_files_are_read_before_a_task_starts(cluster: Cluster) -> None:
    made = cluster.client("secretsmanager").create_secret(
        Name="keys", SecretString=json.dumps({"A": "first"})
    )
    cluster.client("ssm").put_parameter(Name="/plain", Value="second", Type="SecureString")
    s3 = cluster.client("s3")
    s3.create_bucket(Bucket="settings")
    s3.put_object(Bucket="settings", Key="api.env", Body=b"# ours\nFROM_FILE=third\nBOTH=file\n")
    definition = cluster.define(
        "reads",
        command=["env; exec sleep 600"],
        environment=[{"name": "BOTH", "value": "definition"}],
        environmentFiles=[{"type": "s3", "value": "arn:aws:s3:::settings/api.env"}],
        secrets=[
            {"name": "KEY", "valueFrom": f"{made['ARN']}:A::"},
            {"name": "WORD", "valueFrom": "arn:aws:ssm:us-east-1:123456789012:parameter/plain"},
        ],
    )
    task = cluster.run(definition)
    log = until(lambda: text if "WORD=" in (text := cluster.log(task)) else None, "it printed")
    lines = dict(line.split("=", 1) for line in log.splitlines() if "=" in line)
    assert (lines["KEY"], lines["WORD"], lines["FROM_FILE"]) == ("first", "second", "third")
    assert lines["BOTH"] == "definition"
    cluster.ecs.stop_task(cluster=cluster.name, task=task["taskArn"])


def test_without_its_secret_a_task_does_not_start(cluster: Cluster) -> None:
    absent = "arn:aws:secretsmanager:us-east-1:123456789012:secret:nobody-123456"
    task = cluster.run(cluster.define("lacks", secrets=[{"name": "KEY", "valueFrom": absent}]))
    seen = until(
        lambda: found if (found := cluster.see(task))["lastStatus"] == "STOPPED" else None, "it ends"
    )
    assert seen["stopCode"] == "TaskFailedToStart"
    assert seen["stoppedReason"].startswith("ResourceInitializationError: unable to pull secrets")
