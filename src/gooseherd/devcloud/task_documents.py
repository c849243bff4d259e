"""The document of a task, as DescribeTasks shows it, and the pieces of it that change together."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Sequence

from gooseherd.devcloud.run_task import Json, Placement, TaskPlan

ZONE = "a"


def new_task(
    cluster_arn: str, plan: TaskPlan, placement: Placement, request: Json, tags: Sequence[Json], region: str
) -> Json:
    """A task that has just been accepted: PROVISIONING, without an address."""
    task_id = secrets.token_hex(16)
    arn = f"{cluster_arn.replace(':cluster/', ':task/')}/{task_id}"
    asked = request.get("overrides") or {}
    now = time.time()
    where = {"launchType": placement.launch_type or "FARGATE"}
    if placement.provider:
        where["capacityProviderName"] = placement.provider
    document: Json = {
        "taskArn": arn,
        "clusterArn": cluster_arn,
        "taskDefinitionArn": plan.definition_arn,
        "group": request.get("group") or f"family:{plan.family}",
        **where,
        "platformVersion": "1.4.0",
        "platformFamily": "Linux",
        "cpu": plan.cpu,
        "memory": plan.memory,
        "ephemeralStorage": {"sizeInGiB": plan.disk_gib},
        "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
        "availabilityZone": region + ZONE,
        "connectivity": "CONNECTED",
        "connectivityAt": now,
        "createdAt": now,
        "desiredStatus": "RUNNING",
        "lastStatus": "PROVISIONING",
        "healthStatus": "UNKNOWN",
        "enableExecuteCommand": False,
        "inferenceAccelerators": [],
        "overrides": {"containerOverrides": [], "inferenceAcceleratorOverrides": [], **asked},
        "attachments": [
            {
                "id": str(uuid.uuid4()),
                "type": "ElasticNetworkInterface",
                "status": "PRECREATED",
                "details": [{"name": "subnetId", "value": plan.subnet}],
            }
        ],
        "containers": [
            {
                "containerArn": f"{arn.replace(':task/', ':container/')}/{uuid.uuid4()}",
                "taskArn": arn,
                "name": container.name,
                "image": container.image,
                "lastStatus": "PENDING",
                "healthStatus": "UNKNOWN",
                "networkInterfaces": [],
                "cpu": container.cpu,
            }
            for container in plan.containers
        ],
        "tags": list(tags),
        "version": 1,
    }
    if request.get("startedBy"):
        document["startedBy"] = request["startedBy"]
    return document


def attach_address(document: Json, address: str) -> None:
    """The network interface is there; that says nothing about who listens behind it."""
    interface = f"eni-{secrets.token_hex(9)[:17]}"
    attachment = document["attachments"][0]
    attachment["status"] = "ATTACHED"
    attachment["details"] += [
        {"name": "networkInterfaceId", "value": interface},
        {
            "name": "macAddress",
            "value": "02:00:" + ":".join(f"{int(part):02x}" for part in address.split(".")),
        },
        {"name": "privateDnsName", "value": f"ip-{address.replace('.', '-')}.ec2.internal"},
        {"name": "privateIPv4Address", "value": address},
    ]
    for container in document["containers"]:
        container["networkInterfaces"] = [{"attachmentId": attachment["id"], "privateIpv4Address": address}]


def task_health(document: Json, essential: set[str]) -> str:
    """HEALTHY when all essential containers are; one without a check keeps it UNKNOWN."""
    states = {item["healthStatus"] for item in document["containers"] if item["name"] in essential}
    if "UNHEALTHY" in states:
        return "UNHEALTHY"
    return "HEALTHY" if states == {"HEALTHY"} else "UNKNOWN"


def metadata(document: Json, index: int) -> Json:
    """One container, as the task metadata endpoint (version 4) shows it."""
    container = document["containers"][index]
    addresses = [item["privateIpv4Address"] for item in container["networkInterfaces"]]
    return {
        "DockerId": f"{document['taskArn'].rpartition('/')[2]}-{index}",
        "Name": container["name"],
        "DockerName": container["name"],
        "Image": container["image"],
        "Labels": {
            "com.amazonaws.ecs.cluster": document["clusterArn"],
            "com.amazonaws.ecs.container-name": container["name"],
            "com.amazonaws.ecs.task-arn": document["taskArn"],
        },
        "DesiredStatus": document["desiredStatus"],
        "KnownStatus": container["lastStatus"],
        "ContainerARN": container["containerArn"],
        "Type": "NORMAL",
        "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": addresses}],
    }


def task_metadata(document: Json, *, with_tags: bool) -> Json:
    """The task, as its metadata endpoint shows it."""
    family, _, revision = document["taskDefinitionArn"].rpartition("/")[2].rpartition(":")
    result: Json = {
        "Cluster": document["clusterArn"],
        "TaskARN": document["taskArn"],
        "Family": family,
        "Revision": revision,
        "DesiredStatus": document["desiredStatus"],
        "KnownStatus": document["lastStatus"],
        "Limits": {"CPU": int(document["cpu"]) / 1024, "Memory": int(document["memory"])},
        "AvailabilityZone": document["availabilityZone"],
        "LaunchType": document["launchType"],
        "Containers": [metadata(document, index) for index in range(len(document["containers"]))],
        "EphemeralStorageMetrics": {
            "Utilized": 0,
            "Reserved": document["ephemeralStorage"]["sizeInGiB"] * 1024,
        },
    }
    if with_tags:
        result["TaskTags"] = {tag["key"]: tag.get("value", "") for tag in document["tags"]}
    return result
