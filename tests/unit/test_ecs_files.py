"""The files of deploy/ecs: of the form that AWS takes, by names the code knows, allowing what it calls."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from string import Template
from typing import Any

import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import MANIFEST
from gooseherd.domain.retention import UNFINISHED_LEAST
from gooseherd.domain.worker_size import WorkerSize
from gooseherd.environment import WORKER_HEALTH_PORT, WORKER_PORT
from gooseherd.fleet.provisioner import LaunchTemplate, launch_request
from gooseherd.fleet.sizes import FARGATE_MEMORY_MIB
from gooseherd.settings import Profile, Settings
from gooseherd.storage.s3_credentials import ONLY_NEW, S3Credentials
from gooseherd.wiring.fleet import worker_environment
from gooseherd.worker.tls import VARIABLES

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "ecs"
SAID = {
    "ACCOUNT": "123456789012",
    "REGION": "eu-north-1",
    "BUCKET": "artifacts",
    "REGISTRY": "123456789012.dkr.ecr.eu-north-1.amazonaws.com",
    "BUILD": "1",
    "WORKER_SUBNETS": "subnet-1,subnet-2",
    "WORKER_SECURITY_GROUPS": "sg-1",
}
TASKS = ("api", "worker")

READS = {"s3:GetObject", "s3:ListBucket"}


def filled(name: str) -> dict[str, Any]:
    """As `envsubst` makes it; a variable that the page does not name is a KeyError."""
    return dict(json.loads(Template((FILES / name).read_text()).substitute(SAID)))


def container(task: str) -> dict[str, Any]:
    (found,) = filled(f"{task}-task.json")["containerDefinitions"]
    return dict(found)


def variables(task: str) -> set[str]:
    it = container(task)
    return {one["name"] for one in [*it.get("environment", ()), *it["secrets"]]}


def actions(name: str) -> set[str]:
    lines = [statement["Action"] for statement in filled(name)["Statement"]]
    return {action for one in lines for action in ([one] if isinstance(one, str) else one)}


def refused(operation: str, request: dict[str, Any], service: str = "ecs") -> str:
    model = get_session().get_service_model(service)
    report = ParamValidator().validate(request, model.operation_model(operation).input_shape)
    return str(report.generate_report())


@pytest.mark.parametrize("task", TASKS)
def test_task_definitions_have_the_form_that_ecs_takes(task: str) -> None:
    definition = filled(f"{task}-task.json")
    assert refused("RegisterTaskDefinition", definition) == ""
    assert int(definition["memory"]) in FARGATE_MEMORY_MIB[int(definition["cpu"])]


def test_the_lifecycle_rule_has_the_form_that_s3_takes() -> None:
    request = {"Bucket": "artifacts", "LifecycleConfiguration": filled("bucket-lifecycle.json")}
    assert refused("PutBucketLifecycleConfiguration", request, "s3") == ""


def test_every_variable_of_the_api_is_known() -> None:
    assert variables("api") <= {name.upper() for name in Settings.model_fields} | set(VARIABLES)


def test_a_worker_is_told_all_but_its_certificates_at_its_launch() -> None:
    assert variables("worker") == set(VARIABLES)
    result = worker_environment(Settings(workflow_s3_bucket="artifacts", ecs_cluster="gooseherd"))
    assert {"WORKFLOW_S3_BUCKET", "AWS_REGION", "WORKER_IDLE_TIMEOUT_SECONDS"} <= set(result)


def test_the_api_has_all_it_must_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    it = container("api")
    for one in it["environment"]:
        monkeypatch.setenv(one["name"], one["value"])
    monkeypatch.setenv("DATABASE_URL", "mongodb://nowhere/")
    settings = Settings().checked()
    assert settings.profile is Profile.AWS
    worker = filled("worker-task.json")
    assert settings.ecs_worker_task_definition is not None
    assert settings.ecs_worker_task_definition == worker["family"]
    assert settings.ecs_worker_container == worker["containerDefinitions"][0]["name"]
    template = LaunchTemplate(
        fleet=settings.ecs_fleet,
        task_definition=settings.ecs_worker_task_definition,
        subnets=settings.ecs_worker_subnets,
        security_groups=settings.ecs_worker_security_groups,
        environment=worker_environment(settings),
    )
    request = launch_request(template, AttemptId(JobId("job1"), 1), WorkerSize(1024, 2048, 21), spot=False)
    assert refused("RunTask", {"cluster": settings.ecs_cluster, **request}) == ""
    assert {"DATABASE_URL", "API_ADMIN_KEY", *VARIABLES} <= variables("api")


def test_ports_are_those_that_are_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = {task: {one["containerPort"] for one in container(task)["portMappings"]} for task in TASKS}
    fields = Settings.model_fields
    assert ports["worker"] == {WORKER_PORT, WORKER_HEALTH_PORT}
    assert ports["worker"] == {fields["worker_port"].default, fields["worker_health_port"].default}
    assert ports["api"] == {8080}
    assert "API_PORT=8080" in (ROOT / "Dockerfile.api").read_text()


@pytest.mark.parametrize("task", TASKS)
def test_what_the_image_writes_to_is_mounted_and_its_health_command_is_asked(task: str) -> None:
    image, it = (ROOT / f"Dockerfile.{task}").read_text(), container(task)
    (volumes,) = re.findall(r"^VOLUME (\[.*\])$", image, re.MULTILINE)
    assert {mount["containerPath"] for mount in it["mountPoints"]} == set(json.loads(volumes))
    assert {mount["sourceVolume"] for mount in it["mountPoints"]} == {
        volume["name"] for volume in filled(f"{task}-task.json")["volumes"]
    }
    asked = " ".join(it["healthCheck"]["command"][1:])
    healthcheck = image.split("HEALTHCHECK", 1)[1].split("CMD", 1)[1].split("\n", 1)[0]
    body = " ".join(json.loads(healthcheck)) if healthcheck.strip().startswith("[") else healthcheck.strip()
    assert asked == body.replace('"$API_PORT"', "8080")


def test_the_role_that_is_handed_over_is_the_worker_s_for_its_secrets() -> None:
    (passed,) = [one for one in filled("api-policy.json")["Statement"] if one["Action"] == "iam:PassRole"]
    worker = filled("worker-task.json")
    assert "taskRoleArn" not in worker
    assert passed["Resource"] == worker["executionRoleArn"]


def test_attempts_get_the_role_that_the_api_may_assume() -> None:
    (assumed,) = [one for one in filled("api-policy.json")["Statement"] if one["Action"] == "sts:AssumeRole"]
    given = {one["name"]: one["value"] for one in container("api")["environment"]}
    assert assumed["Resource"] == given["WORKFLOW_S3_ATTEMPT_ROLE"]
    (trust,) = filled("attempt-trust-policy.json")["Statement"]
    assert trust["Principal"]["AWS"] == filled("api-task.json")["taskRoleArn"]
    # What the session policy allows the role must allow, too.
    narrowed = S3Credentials(
        given["WORKFLOW_S3_ATTEMPT_ROLE"], SAID["BUCKET"], "", endpoint_url=None, region="eu-north-1"
    ).policy("p1/ab/")
    assert set(narrowed["Statement"][0]["Action"]) == set(
        filled("attempt-policy.json")["Statement"][0]["Action"]
    )


def test_the_bucket_denies_what_a_session_policy_denies() -> None:
    policy = filled("bucket-policy.json")
    (replaced,) = [one for one in policy["Statement"] if one["Sid"] == "NothingIsReplaced"]
    assert replaced["Condition"] == ONLY_NEW["Condition"]
    assert refused("PutBucketPolicy", {"Bucket": "artifacts", "Policy": json.dumps(policy)}, "s3") == ""


def test_of_s3_the_api_reads_and_writes_manifests_only() -> None:
    assert {action for action in actions("api-policy.json") if action.startswith("s3:")} == {
        *READS,
        "s3:PutObject",
    }
    (writes,) = [one for one in filled("api-policy.json")["Statement"] if one["Action"] == "s3:PutObject"]
    assert writes["Resource"].endswith(f"/{MANIFEST}")
    (denied,) = [one for one in filled("attempt-policy.json")["Statement"] if one["Effect"] == "Deny"]
    assert denied["Resource"] == writes["Resource"]


def test_of_s3_only_the_policy_of_retention_removes_and_it_writes_nothing() -> None:
    removing = {"s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListBucketMultipartUploads"}
    assert actions("retention-policy.json") == READS | removing


def test_the_bucket_forgets_uploads_when_retention_does_and_expires_nothing() -> None:
    rule, versions = filled("bucket-lifecycle.json")["Rules"]
    assert versions["Expiration"] == {"ExpiredObjectDeleteMarker": True}, "no object that is there"
    assert set(rule) == {"ID", "Status", "Filter", "AbortIncompleteMultipartUpload"}
    days = rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
    assert timedelta(days=days) == UNFINISHED_LEAST


def test_secrets_are_those_that_the_execution_role_may_read() -> None:
    (statement,) = filled("execution-policy.json")["Statement"]
    below = statement["Resource"].removesuffix("*")
    for task in TASKS:
        assert all(one["valueFrom"].startswith(below) for one in container(task)["secrets"])
        assert filled(f"{task}-task.json")["executionRoleArn"].endswith(":role/gooseherd-execution")


def test_placeholders_are_those_that_the_page_names() -> None:
    page = (ROOT / "docs" / "aws.md").read_text()
    used = {name for file in FILES.iterdir() for name in re.findall(r"\$\{(\w+)\}", file.read_text())}
    assert used == set(SAID)
    assert all(f"export {name}=" in page or f" {name}=" in page for name in used)
    assert all(file.name in page for file in FILES.iterdir())
