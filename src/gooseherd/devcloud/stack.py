"""A CloudFormation template deployed on a local cloud, as on AWS (docs/aws.md), and all of it removed."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gooseherd.worker
from gooseherd import certs
from gooseherd.devcloud.access_key import AccessKey
from gooseherd.devcloud.admin_client import LocalCloudAdmin
from gooseherd.devcloud.child_process import running_cloud
from gooseherd.devcloud.stack_types import ONLY_CHECKED
from gooseherd.domain.errors import InvalidInput, Misconfigured, Unavailable
from gooseherd.statedir import make_private

TEMPLATE: Final = "gooseherd.yaml"
REGION: Final = "us-east-1"
STACK: Final = "gooseherd"
_REGISTRY: Final = "local"
_SETTINGS_BUCKET: Final = "gooseherd-settings"
_STEADY_SECONDS: Final = 120.0
_SETTLE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.2
_HEALTHY: Final = Path(gooseherd.worker.__file__).with_name("healthy.sh")


@dataclass(eq=False)
class StackFailed(Unavailable):
    """It was not created, or its service did not become steady."""

    problem: str

    def __str__(self) -> str:
        return f"the stack: {self.problem}"


class DeployedStack:
    """A stack on the local cloud at `endpoint_url`. Blocking calls, as an operator makes them."""

    def __init__(
        self,
        endpoint_url: str,
        key: AccessKey,
        template: str,
        parameters: Mapping[str, str],
        prerequisites: _Prerequisites,
    ) -> None:
        self._endpoint_url = endpoint_url
        self._key = key
        self._template = template
        self._parameters = dict(parameters)
        self._prerequisites = prerequisites
        self._cloudformation = self.client("cloudformation")
        self._ecs = self.client("ecs")

    def client(self, service: str, **credentials: str) -> Any:
        """Of boto3, for whatever the local cloud has; its owner's unless there are other `credentials`."""
        return _client(service, self._endpoint_url, self._key, **credentials)

    def cloud_admin(self) -> LocalCloudAdmin:
        """Of the local cloud; the caller closes it."""
        return LocalCloudAdmin(self._endpoint_url, self._key)

    # -- deploying ----------------------------------------------------------------------------

    def create(self) -> None:
        """Returns when the service is steady. Raises StackFailed."""
        from botocore.exceptions import ClientError

        try:
            self._cloudformation.create_stack(
                StackName=STACK,
                TemplateBody=self._template,
                Parameters=_parameters(self._parameters),
                Capabilities=["CAPABILITY_IAM"],
            )
        except ClientError as error:
            raise StackFailed(str(error.response["Error"].get("Message"))) from error
        self.wait_until_steady()

    def update(self, *, wait: bool = True, **parameters: str) -> None:
        """Another build, say. Returns when the service is steady, or at once. Raises StackFailed."""
        self._parameters |= parameters
        self._cloudformation.update_stack(
            StackName=STACK,
            TemplateBody=self._template,
            Parameters=_parameters(self._parameters),
            Capabilities=["CAPABILITY_IAM"],
        )
        if wait:
            self.wait_until_steady()

    def outputs(self) -> dict[str, str]:
        """The stack's."""
        (stack,) = self._cloudformation.describe_stacks(StackName=STACK)["Stacks"]
        return {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", ())}

    def only_checked(self) -> list[str]:
        """Types of resources in the template that the local cloud makes nothing of."""
        summary = self._cloudformation.get_template_summary(TemplateBody=self._template)
        return sorted(ONLY_CHECKED & set(summary["ResourceTypes"]))

    def service(self) -> dict[str, Any]:
        """The API's ECS service, as DescribeServices shows it."""
        cluster = self.outputs()["EcsCluster"]
        (arn,) = self._ecs.list_services(cluster=cluster)["serviceArns"]
        (found,) = self._ecs.describe_services(cluster=cluster, services=[arn])["services"]
        return dict(found)

    def workers(self) -> list[dict[str, Any]]:
        """Tasks of workers as DescribeTasks shows them, stopped ones too, oldest first."""
        outputs = self.outputs()
        with self.cloud_admin() as admin:
            arns = [task["arn"] for task in admin.tasks() if task["startedBy"] == outputs["EcsFleet"]]
        found: list[dict[str, Any]] = []
        for start in range(0, len(arns), 100):
            page = self._ecs.describe_tasks(cluster=outputs["EcsCluster"], tasks=arns[start : start + 100])
            found += page["tasks"]
        return sorted(found, key=lambda task: task["createdAt"])

    def wait_until_steady(self) -> None:
        """One deployment, completed. Raises StackFailed with what ECS says, also when it was rolled back."""
        # The newest revision is what was deployed last.
        revisions = self._ecs.list_task_definitions(familyPrefix=f"{STACK}-api", sort="DESC")
        wanted = revisions["taskDefinitionArns"][0]
        deadline = time.monotonic() + _STEADY_SECONDS
        while True:
            service = self.service()
            states = [one["rolloutState"] for one in service["deployments"]]
            enough = service["runningCount"] == service["desiredCount"]
            if states == ["COMPLETED"] and enough and service["taskDefinition"] == wanted:
                return
            rolled_back = states == ["COMPLETED"] and service["taskDefinition"] != wanted
            if states == ["FAILED"] or rolled_back or time.monotonic() > deadline:
                events = "; ".join(event["message"] for event in service["events"][:5])
                raise StackFailed(f"deployments {states}: {events}")
            time.sleep(_LOOK_SECONDS)

    def admin_key(self) -> str:
        """Of the secret that the stack made."""
        secret = self.client("secretsmanager").get_secret_value(SecretId=self.outputs()["ApiAdminKeyArn"])
        return str(secret["SecretString"])

    # -- removing -----------------------------------------------------------------------------

    def delete(self) -> None:
        """The stack, then what it leaves and what was made before it. Returns when all is gone.

        A cluster with tasks cannot be deleted, so workers first have their idle time to end.
        """
        outputs = self.outputs()
        bucket = outputs["WorkflowS3Bucket"]
        deadline = time.monotonic() + _STEADY_SECONDS
        workers = {"cluster": outputs["EcsCluster"], "startedBy": outputs["EcsFleet"]}
        while self._ecs.list_tasks(**workers)["taskArns"] and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        self._cloudformation.delete_stack(StackName=STACK)
        _remove_bucket(self.client("s3"), bucket)
        self._prerequisites.remove()

    def left_over(self) -> dict[str, int]:
        """What is still there of all kinds that a stack can make, after a time to settle."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            counts = self._count()
            if not any(counts.values()) or time.monotonic() > deadline:
                return counts
            time.sleep(_LOOK_SECONDS)

    def _count(self) -> dict[str, int]:
        with self.cloud_admin() as admin:
            tasks = admin.tasks()
        ecs, s3, ec2 = self._ecs, self.client("s3"), self.client("ec2")
        elb = self.client("elbv2")
        buckets = [one["Name"] for one in s3.list_buckets()["Buckets"]]
        mine = [{"Name": "tag:aws:cloudformation:stack-name", "Values": [STACK]}]
        groups = ec2.describe_security_groups()["SecurityGroups"]
        live = self._cloudformation.list_stacks()["StackSummaries"]
        return {
            "stacks": sum(one["StackStatus"] != "DELETE_COMPLETE" for one in live),
            "tasks": sum(task["status"] != "STOPPED" for task in tasks),
            "processes": sum(Path(f"/proc/{pid}").exists() for task in tasks for pid in task.get("pids", ())),
            "clusters": len(ecs.list_clusters()["clusterArns"]),
            "task_definitions": len(ecs.list_task_definitions()["taskDefinitionArns"]),
            "buckets": len(buckets),
            "uploads": sum(len(s3.list_multipart_uploads(Bucket=one).get("Uploads", ())) for one in buckets),
            "secrets": len(self.client("secretsmanager").list_secrets()["SecretList"]),
            "roles": len(self.client("iam").list_roles()["Roles"]),
            "log_groups": len(self.client("logs").describe_log_groups()["logGroups"]),
            "load_balancers": len(elb.describe_load_balancers()["LoadBalancers"]),
            "target_groups": len(elb.describe_target_groups()["TargetGroups"]),
            "vpcs": len(ec2.describe_vpcs(Filters=mine)["Vpcs"]),
            "subnets": len(ec2.describe_subnets(Filters=mine)["Subnets"]),
            "security_groups": sum(group["GroupName"] != "default" for group in groups),
            "internet_gateways": len(ec2.describe_internet_gateways()["InternetGateways"]),
            "endpoints": len(ec2.describe_vpc_endpoints()["VpcEndpoints"]),
            "database_instances": len(self.client("rds").describe_db_instances()["DBInstances"]),
        }


@contextmanager
def stack_on_local_cloud(
    template_folder: Path,
    folder: Path,
    *,
    settings: Mapping[str, str],
    builds: Sequence[str] = ("1",),
    parameters: Mapping[str, str] | None = None,
    database_url: str | None = None,
) -> Iterator[DeployedStack]:
    """The template deployed on a local cloud of its own below `folder`; that ends with the block.

    `settings` are further variables of the API. Images of all `builds` are there; the first one is
    deployed. Without a `database_url` it is SQLite, which all API tasks of this machine share.

    Raises:
        InvalidInput: there is no template in that folder.
        Misconfigured: the local cloud did not start.
        StackFailed: the stack was not created, or its service did not become steady.
    """
    path = template_folder / TEMPLATE
    if not path.is_file():
        raise InvalidInput("folder", f"there is no {TEMPLATE} in {template_folder}")
    template = path.read_text(encoding="utf-8")
    make_private(folder.absolute())
    cloud_folder = folder / "cloud"
    with ExitStack() as stack:
        images = {name: argv for build in builds for name, argv in _images(folder, build).items()}
        url = stack.enter_context(running_cloud(cloud_folder, images=images, environ=_environ(folder)))
        key = AccessKey.read(cloud_folder)
        if key is None:
            raise Misconfigured("local cloud", "its key cannot be read")
        before = _Prerequisites(url, key, folder)
        values = {
            "Registry": _REGISTRY,
            "Build": builds[0],
            "LoadBalancerScheme": "internal",
            "Database": "given",
            "DatabaseUrlSecret": before.secret(
                "database-url", database_url or f"sqlite:///{folder.absolute()}/gooseherd.db"
            ),
            "ApiCertificates": before.secret("api-certificates", before.certificates("api")),
            "WorkerCertificates": before.secret("worker-certificates", before.certificates("worker")),
            "EnvironmentFile": before.environment_file(settings),
            "MaxWorkers": "4",
            **(parameters or {}),
        }
        deployed = DeployedStack(url, key, template, values, before)
        deployed.create()
        yield deployed


class _Prerequisites:
    """What an operator makes before the stack, and removes after it."""

    def __init__(self, endpoint_url: str, key: AccessKey, folder: Path) -> None:
        self._secrets = _client("secretsmanager", endpoint_url, key)
        self._s3 = _client("s3", endpoint_url, key)
        self._pairs = folder / "certs"
        self._made: list[str] = []
        certs.make_all(self._pairs)
        self._s3.create_bucket(Bucket=_SETTINGS_BUCKET)

    def certificates(self, side: str) -> str:
        """The content of the secret with the certificate of that side."""
        return json.dumps(certs.as_secret(self._pairs, side))

    def secret(self, name: str, text: str) -> str:
        """A new one; its ARN."""
        made: str = self._secrets.create_secret(Name=name, SecretString=text)["ARN"]
        self._made.append(made)
        return made

    def environment_file(self, settings: Mapping[str, str]) -> str:
        """The ARN of an object with those settings."""
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        self._s3.put_object(Bucket=_SETTINGS_BUCKET, Key="gooseherd.env", Body=text.encode())
        return f"arn:aws:s3:::{_SETTINGS_BUCKET}/gooseherd.env"

    def remove(self) -> None:
        """All of it."""
        for made in self._made:
            self._secrets.delete_secret(SecretId=made, ForceDeleteWithoutRecovery=True)
        _remove_bucket(self._s3, _SETTINGS_BUCKET)


def _client(service: str, endpoint_url: str, key: AccessKey, **credentials: str) -> Any:
    import boto3

    owner = {"aws_access_key_id": key.key_id, "aws_secret_access_key": key.secret}
    return boto3.client(service, endpoint_url=endpoint_url, region_name=REGION, **(credentials or owner))


def _remove_bucket(s3: Any, bucket: str) -> None:
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for found in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            s3.delete_object(Bucket=bucket, Key=found["Key"], VersionId=found["VersionId"])
    for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
        s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    s3.delete_bucket(Bucket=bucket)


def _images(folder: Path, build: str) -> dict[str, list[str]]:
    """Both images of a build: this installation, told that it is that build."""
    state = folder.absolute() / "api"
    program = ["env", f"GOOSEHERD_BUILD={build}", sys.executable, "-m"]
    listening = ["--host", "{address}", "--port", "8080", "--state-dir", f"{state}/{{task}}"]
    hidden = f"WORKER_HIDDEN_PATHS={folder.absolute()}"
    return {
        f"{_REGISTRY}/gooseherd-api:{build}": [*program, "gooseherd.cli", "up", *listening],
        f"{_REGISTRY}/gooseherd-worker:{build}": ["env", hidden, *program[1:], "gooseherd.worker.main"],
    }


def _environ(folder: Path) -> dict[str, str]:
    """With `gooseherd-healthy` on PATH, as images have it: health commands are run on this machine."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    healthy = programs / "gooseherd-healthy"
    healthy.write_text(f'#!/bin/sh\nexec bash "{_HEALTHY}" "$@"\n', encoding="utf-8")
    healthy.chmod(0o755)
    return {**os.environ, "PATH": f"{programs.absolute()}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def _parameters(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
