"""Clusters and task definitions: what has to be there before a task can run."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from gooseherd.devcloud.run_task import ApiError, Json, check_size, invalid

ACCOUNT: Final = "123456789012"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
_BOUNDS: Final = {"interval": (5, 300), "timeout": (2, 60), "retries": (1, 10), "startPeriod": (0, 300)}
"""Of a health check: seconds, and a number of tries."""
_DEFINITION_FIELDS: Final = (
    "family", "taskRoleArn", "executionRoleArn", "networkMode", "volumes", "placementConstraints",
    "requiresCompatibilities", "cpu", "memory", "pidMode", "ipcMode", "proxyConfiguration",
    "runtimePlatform", "ephemeralStorage",
)  # fmt: skip


class TaskDefinitions:
    """Everything here belongs to the event loop's thread. Methods take a request and a region."""

    def __init__(self) -> None:
        self._clusters: dict[tuple[str, str], Json] = {}
        self._definitions: dict[tuple[str, str], list[Json]] = {}
        self._tags: dict[str, list[Json]] = {}
        self.operations: Final[dict[str, Callable[[Json, str], Json]]] = {
            "CreateCluster": self.create_cluster,
            "DescribeClusters": self.describe_clusters,
            "ListClusters": self.list_clusters,
            "DeleteCluster": self.delete_cluster,
            "PutClusterCapacityProviders": self.put_capacity_providers,
            "RegisterTaskDefinition": self.register,
            "DescribeTaskDefinition": self.describe_definition,
            "DeregisterTaskDefinition": self.deregister,
            "ListTaskDefinitions": self.list_definitions,
            "ListTaskDefinitionFamilies": self.list_families,
        }

    # -- clusters -------------------------------------------------------------------------------

    def cluster(self, request: Json, region: str) -> Json:
        """The request's cluster, by name or ARN; raises ClusterNotFoundException."""
        name = str(request.get("cluster") or "default").rpartition("/")[2]
        found = self._clusters.get((region, name))
        if found is None or found["status"] != "ACTIVE":
            raise ApiError("ClusterNotFoundException", "Cluster not found.")
        return found

    def create_cluster(self, request: Json, region: str) -> Json:
        """Make it; one that is there stays as it is."""
        name = request.get("clusterName") or "default"
        if not _NAME.fullmatch(name):
            raise invalid("clusterName: up to 255 letters, numbers, underscores and hyphens.")
        known = self._clusters.get((region, name))
        if known is None or known["status"] != "ACTIVE":
            known = self._clusters[region, name] = {
                "clusterArn": f"arn:aws:ecs:{region}:{ACCOUNT}:cluster/{name}",
                "clusterName": name,
                "status": "ACTIVE",
                "registeredContainerInstancesCount": 0,
                "runningTasksCount": 0,
                "pendingTasksCount": 0,
                "activeServicesCount": 0,
                "statistics": [],
                "tags": request.get("tags") or [],
                "settings": request.get("settings") or [{"name": "containerInsights", "value": "disabled"}],
                "capacityProviders": request.get("capacityProviders") or [],
                "defaultCapacityProviderStrategy": request.get("defaultCapacityProviderStrategy") or [],
            }
        return {"cluster": known}

    def describe_clusters(self, request: Json, region: str) -> Json:
        """By names or ARNs; those that are not here are MISSING."""
        names = [name.rpartition("/")[2] for name in request.get("clusters") or ["default"]]
        found = {name: self._clusters.get((region, name)) for name in names}
        prefix = f"arn:aws:ecs:{region}:{ACCOUNT}:cluster/"
        return {
            "clusters": [cluster for cluster in found.values() if cluster],
            "failures": [
                {"arn": prefix + name, "reason": "MISSING"} for name, cluster in found.items() if not cluster
            ],
        }

    def list_clusters(self, _request: Json, region: str) -> Json:
        """The active ones."""
        mine = [found for (where, _), found in self._clusters.items() if where == region]
        return {"clusterArns": [found["clusterArn"] for found in mine if found["status"] == "ACTIVE"]}

    def delete_cluster(self, request: Json, region: str) -> Json:
        """It is INACTIVE afterwards; its tasks go on."""
        found = self.cluster(request, region)
        found["status"] = "INACTIVE"
        return {"cluster": found}

    def put_capacity_providers(self, request: Json, region: str) -> Json:
        """Replace the providers and the default strategy."""
        found = self.cluster(request, region)
        for name in ("capacityProviders", "defaultCapacityProviderStrategy"):
            found[name] = request.get(name) or []
        return {"cluster": found}

    # -- task definitions -------------------------------------------------------------------------

    def definition(self, name: str, region: str) -> Json:
        """By family (its latest active revision), family:revision or ARN; raises ClientException."""
        family, _, revision = name.rpartition("/")[2].partition(":")
        known = self._definitions.get((region, family), [])
        if not revision:
            known = [found for found in known if found["status"] == "ACTIVE"]
            if known:
                return known[-1]
        elif revision.isdigit() and 1 <= int(revision) <= len(known):
            return known[int(revision) - 1]
        raise ApiError("ClientException", "Unable to describe task definition.")

    def register(self, request: Json, region: str) -> Json:
        """A new revision of the family."""
        family = request.get("family") or ""
        if not _NAME.fullmatch(family):
            raise ApiError("ClientException", "Family contains invalid characters.")
        _check_definition(request)
        revisions = self._definitions.setdefault((region, family), [])
        number = len(revisions) + 1
        arn = f"arn:aws:ecs:{region}:{ACCOUNT}:task-definition/{family}:{number}"
        made: Json = {
            **{name: request[name] for name in _DEFINITION_FIELDS if name in request},
            "taskDefinitionArn": arn,
            "revision": number,
            "status": "ACTIVE",
            "compatibilities": ["EC2", "FARGATE"],
            "registeredAt": time.time(),
            "containerDefinitions": [_filled(item) for item in request["containerDefinitions"]],
        }
        revisions.append(made)
        self._tags[arn] = list(request.get("tags") or [])
        return {"taskDefinition": made, "tags": self._tags[arn]}

    def describe_definition(self, request: Json, region: str) -> Json:
        """The definition, and its tags when they are asked for."""
        found = self.definition(request.get("taskDefinition") or "", region)
        with_tags = "TAGS" in (request.get("include") or [])
        return {"taskDefinition": found, "tags": self.tags_of(found) if with_tags else []}

    def tags_of(self, definition: Json) -> list[Json]:
        """Of a task definition."""
        return self._tags[definition["taskDefinitionArn"]]

    def deregister(self, request: Json, region: str) -> Json:
        """It can be described still, and no longer run."""
        found = self.definition(request.get("taskDefinition") or "", region)
        found["status"] = "INACTIVE"
        return {"taskDefinition": found}

    def list_definitions(self, request: Json, region: str) -> Json:
        """ARNs by family and revision; `familyPrefix` is a whole family's name."""
        family, status = request.get("familyPrefix"), request.get("status") or "ACTIVE"
        found = [
            (name, item["revision"], item["taskDefinitionArn"])
            for (where, name), items in self._definitions.items()
            for item in items
            if where == region and family in {None, name} and item["status"] == status
        ]
        arns = [arn for _, _, arn in sorted(found, reverse=request.get("sort") == "DESC")]
        return {"taskDefinitionArns": arns}

    def list_families(self, request: Json, region: str) -> Json:
        """Names that start with `familyPrefix`."""
        prefix = request.get("familyPrefix") or ""
        return {
            "families": sorted(
                n for where, n in self._definitions if where == region and n.startswith(prefix)
            )
        }


def _check_definition(request: Json) -> None:
    containers = request.get("containerDefinitions") or []
    if not containers:
        raise ApiError("ClientException", "Container list cannot be empty.")
    if "FARGATE" in (request.get("requiresCompatibilities") or []):
        if request.get("networkMode") != "awsvpc":
            raise ApiError("ClientException", "Fargate only supports network mode 'awsvpc'.")
        check_size(str(request.get("cpu") or ""), str(request.get("memory") or ""))
    if not any(container.get("essential", True) for container in containers):
        raise ApiError("ClientException", "At least one container must be essential.")
    for container in containers:
        for name in ("name", "image"):
            if not container.get(name):
                raise ApiError("ClientException", f"Container.{name} should not be null or empty.")
        if not 0 <= container.get("stopTimeout", 30) <= 120:
            raise ApiError("ClientException", "Container.stopTimeout must be at most 120 on Fargate.")
        for name, (least, most) in _BOUNDS.items():
            value = (container.get("healthCheck") or {}).get(name)
            if value is not None and not least <= value <= most:
                raise ApiError("ClientException", f"healthCheck.{name} must be between {least} and {most}.")


def _filled(container: Json) -> Json:
    empty: Json = {"portMappings": [], "environment": [], "mountPoints": [], "volumesFrom": []}
    return {"cpu": 0, "essential": True, **empty, **container}
