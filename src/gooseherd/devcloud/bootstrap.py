"""What a deployment makes with Terraform, made on the local cloud: bucket, cluster, task definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gooseherd.worker
from gooseherd.devcloud.access_key import AccessKey

WORKER_IMAGE: Final = "gooseherd-worker:dev"
ATTEMPT_ROLE: Final = "arn:aws:iam::123456789012:role/gooseherd-attempt"
"""Need not exist here: the session policy alone counts."""
HEALTH_COMMAND: Final = ("CMD", "bash", str(Path(gooseherd.worker.__file__).with_name("healthy.sh")))
"""What the image has as `gooseherd-healthy`: the local cloud looks from outside the image."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What was made, by the names that the API's settings ask for."""

    bucket: str
    cluster: str
    task_definition: str
    subnets: tuple[str, ...] = ("subnet-local",)
    security_groups: tuple[str, ...] = ("sg-local",)

    def environment(
        self, endpoint_url: str, region: str = "us-east-1", *, key: AccessKey | None = None
    ) -> dict[str, str]:
        """The variables that point an API process at it."""
        return {
            "AWS_ENDPOINT_URL": endpoint_url,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            **(key.environment() if key is not None else {}),
            "WORKFLOW_S3_BUCKET": self.bucket,
            "WORKFLOW_S3_ATTEMPT_ROLE": ATTEMPT_ROLE,
            "ECS_CLUSTER": self.cluster,
            "ECS_WORKER_TASK_DEFINITION": self.task_definition,
            "ECS_WORKER_SUBNETS": ",".join(self.subnets),
            "ECS_WORKER_SECURITY_GROUPS": ",".join(self.security_groups),
        }


def bootstrap(
    endpoint_url: str,
    *,
    bucket: str = "gooseherd",
    cluster: str = "gooseherd",
    family: str = "gooseherd-worker",
    container: str = "worker",
    image: str = WORKER_IMAGE,
    worker_command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    health_command: Sequence[str] = HEALTH_COMMAND,
    stop_timeout_seconds: int = 120,
    region: str = "us-east-1",
    key: AccessKey | None = None,
    role: str | None = None,
) -> Deployment:
    """Make them, or leave them as they are: a second call with the same arguments changes nothing.

    `worker_command` stands behind the image's entry point. Without a `key` credentials are found as boto3
    finds them. With a `role` workers have credentials of their own. Blocks for some 100 ms.
    """
    import boto3

    def client(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=endpoint_url,
            region_name=region,
            aws_access_key_id=key.key_id if key is not None else None,
            aws_secret_access_key=key.secret if key is not None else None,
        )

    ecs, s3 = client("ecs"), client("s3")
    if bucket not in {found["Name"] for found in s3.list_buckets()["Buckets"]}:
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=bucket, **where)
    if not ecs.describe_clusters(clusters=[cluster])["clusters"]:
        ecs.create_cluster(clusterName=cluster, capacityProviders=["FARGATE", "FARGATE_SPOT"])
    definition = {
        "family": family,
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "1024",
        "memory": "4096",
        **({"taskRoleArn": role} if role is not None else {}),
        "containerDefinitions": [
            {
                "name": container,
                "image": image,
                "essential": True,
                "stopTimeout": stop_timeout_seconds,
                "command": list(worker_command),
                "environment": [
                    {"name": name, "value": value} for name, value in sorted((environment or {}).items())
                ],
                "healthCheck": {
                    "command": list(health_command),
                    "interval": 5,  # seconds, the least there is
                    "timeout": 5,
                    "retries": 3,
                    "startPeriod": 60,
                },
            }
        ],
    }
    if not _is_registered(ecs, family, definition):
        ecs.register_task_definition(**definition)
    return Deployment(bucket, cluster, family)


def _is_registered(ecs: Any, family: str, wanted: Mapping[str, Any]) -> bool:
    known = ecs.list_task_definitions(familyPrefix=family, sort="DESC")["taskDefinitionArns"]
    latest = next((arn for arn in known if arn.rpartition("/")[2].rpartition(":")[0] == family), None)
    if latest is None:
        return False
    found = ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
    registered = found["containerDefinitions"][0]
    return all(registered.get(name) == value for name, value in wanted["containerDefinitions"][0].items())
