"""The part of the ECS API that is about tasks: from a request's JSON to the answer's.

moto is no help here: its tasks run without a process, advance when they are described, and
have no health, and importing it costs a second and 130 MiB.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from gooseherd.devcloud.addresses import AddressPool
from gooseherd.devcloud.cloud_configuration import CloudConfiguration
from gooseherd.devcloud.faults import CAPACITY_REASON, PER_REQUEST, PER_TASK, FaultTable
from gooseherd.devcloud.run_task import (
    ApiError,
    Json,
    Placement,
    TaskPlan,
    check_request,
    check_tags,
    invalid,
    place,
    plan_task,
)
from gooseherd.devcloud.task_definitions import TaskDefinitions
from gooseherd.devcloud.task_documents import new_task
from gooseherd.devcloud.task_secrets import TaskSecrets
from gooseherd.devcloud.task_table import TaskTable
from gooseherd.devcloud.tasks import CloudTask, Ending

_log = logging.getLogger(__name__)

TARGET: Final = "AmazonEC2ContainerServiceV20141113."
"""What stands before the operation in X-Amz-Target."""
_MANAGED: Final = "aws:ecs:clusterName"


class TaskApi:
    """RunTask and what follows from it. Everything here belongs to the event loop's thread."""

    def __init__(
        self,
        configuration: CloudConfiguration,
        registry: TaskDefinitions,
        task_table: TaskTable,
        faults: FaultTable,
        addresses: AddressPool,
        secrets: TaskSecrets,
    ) -> None:
        self._configuration = configuration
        self._registry = registry
        self._task_table = task_table
        self._faults = faults
        self._addresses = addresses
        self._secrets = secrets
        self.operations: Final[dict[str, Callable[[Json, str], Json]]] = {
            "RunTask": self.run_task,
            "StopTask": self.stop_task,
            "DescribeTasks": self.describe_tasks,
            "ListTasks": self.list_tasks,
            "UpdateTaskProtection": self.task_protection,
            "GetTaskProtection": self.task_protection,
            "ExecuteCommand": self.execute_command,
            "StartTask": self.start_task,
            "TagResource": self.tag,
            "UntagResource": self.untag,
            "ListTagsForResource": self.list_tags,
        }

    def run_task(self, request: Json, region: str) -> Json:
        """Start tasks, or name those that the same client token started before."""
        count = check_request(request)
        cluster = self._registry.cluster(request, region)
        definition = self._definition(request, region)
        token = request.get("clientToken")
        if token and (known := self._task_table.of_token(cluster["clusterArn"], token, request)) is not None:
            return {"tasks": [task.document for task in known], "failures": []}
        placements = place(
            request, cluster["capacityProviders"], cluster["defaultCapacityProviderStrategy"], count
        )
        plan = plan_task(definition, request)
        if refused := self._faults.hit("ecs", "RunTask", PER_REQUEST):
            reason = refused[0].message or CAPACITY_REASON
            return {"tasks": [], "failures": [{"reason": reason}] * count}
        tasks = self._launch(cluster, definition, plan, placements, request, region)
        if token:
            self._task_table.remember(cluster["clusterArn"], token, request, tasks)
        return {"tasks": [task.document for task in tasks], "failures": []}

    def launch(
        self, cluster: Json, definition: Json, request: Json, region: str, *, count: int
    ) -> list[CloudTask]:
        """Tasks of a service: as by RunTask, with the request's network, overrides, group and tags."""
        placements = place(
            request, cluster["capacityProviders"], cluster["defaultCapacityProviderStrategy"], count
        )
        return self._launch(cluster, definition, plan_task(definition, request), placements, request, region)

    def _launch(
        self,
        cluster: Json,
        definition: Json,
        plan: TaskPlan,
        placements: Sequence[Placement],
        request: Json,
        region: str,
    ) -> list[CloudTask]:
        tags = list(request.get("tags") or [])
        if request.get("propagateTags") == "TASK_DEFINITION":
            tags += [
                tag
                for tag in self._registry.tags_of(definition)
                if tag["key"] not in {own["key"] for own in tags}
            ]
        if request.get("enableECSManagedTags"):
            tags.append({"key": _MANAGED, "value": cluster["clusterName"]})
        tasks = []
        for placement in placements:
            task = CloudTask(
                new_task(cluster["clusterArn"], plan, placement, request, tags, region),
                plan,
                self._faults.hit("ecs", "RunTask", PER_TASK),
                configuration=self._configuration,
                addresses=self._addresses,
                region=region,
                task_secrets=self._secrets,
            )
            tasks.append(task)
            self._task_table.open(cluster["clusterArn"], task)
            _log.info("task %s of %s started", task.task_id, plan.family)
        return tasks

    def definition_of(self, request: Json, region: str) -> Json:
        """The task definition that a RunTask names. Raises ApiError."""
        return self._definition(request, region)

    def stop_task(self, request: Json, region: str) -> Json:
        """Ask a task to end; its tags are gone at once."""
        task = self._one(request, region)
        reason = request.get("reason") or "Task stopped by user"
        if len(reason) > 1024:
            raise invalid("The reason is at most 1024 characters long.")
        task.stop(Ending("UserInitiated", reason))
        task.document["tags"] = []
        return {"task": task.document}

    def describe_tasks(self, request: Json, region: str) -> Json:
        """The tasks by id or ARN; those that are not here, or no longer, are MISSING."""
        cluster = self._registry.cluster(request, region)
        names = request.get("tasks") or []
        if not names:
            raise invalid("Tasks cannot be empty.")
        if len(names) > 100:
            raise invalid("Tasks must have between 1 and 100 items.")
        found = {name: self._task_table.find(cluster["clusterArn"], name) for name in names}
        with_tags = "TAGS" in (request.get("include") or [])
        prefix = cluster["clusterArn"].replace(":cluster/", ":task/") + "/"
        return {
            "tasks": [
                task.document if with_tags else {**task.document, "tags": []}
                for task in found.values()
                if task
            ],
            "failures": [
                {"arn": name if name.startswith("arn:") else prefix + name, "reason": "MISSING"}
                for name, task in found.items()
                if not task
            ],
        }

    def list_tasks(self, request: Json, region: str) -> Json:
        """ARNs in pages. Without `desiredStatus` only tasks that are meant to run."""
        cluster = self._registry.cluster(request, region)
        filters = ("family", "serviceName", "containerInstance", "launchType", "desiredStatus")
        started_by, family = request.get("startedBy"), request.get("family")
        if started_by and any(request.get(name) for name in filters):
            raise invalid(
                "When you specify startedBy as the filter, it must be the only filter that you use."
            )
        status, launch_type = request.get("desiredStatus") or "RUNNING", request.get("launchType")
        size = request.get("maxResults") or 100
        if not 1 <= size <= 100:
            raise invalid("maxResults must be between 1 and 100.")

        def wanted(task: CloudTask) -> bool:
            return (
                task.document["desiredStatus"] == status
                and (not started_by or task.document.get("startedBy") == started_by)
                and (not family or task.plan.family == family)
                and (not launch_type or task.document["launchType"] == launch_type)
                and not request.get("serviceName")
                and not request.get("containerInstance")
            )

        arns, token = self._task_table.page(cluster["clusterArn"], wanted, size, request.get("nextToken"))
        return {"taskArns": arns, **({"nextToken": token} if token else {})}

    def task_protection(self, request: Json, region: str) -> Json:
        """Only tasks of a service can be protected."""
        names = request.get("tasks") or []
        known = {name: self._task_table.find(self._cluster_arn(request, region), name) for name in names}
        return {
            "protectedTasks": [],
            "failures": [
                {"arn": name, "reason": "TASK_NOT_VALID" if task else "MISSING"}
                for name, task in known.items()
            ],
        }

    def execute_command(self, request: Json, region: str) -> Json:
        """Refused, as for every task that was not started for it."""
        self._one(request, region)
        raise invalid(
            "The execute command failed because execute command was not enabled when the task was run."
        )

    def start_task(self, _request: Json, _region: str) -> Json:
        """Refused: there are no container instances."""
        raise invalid("No Container Instances were found in your cluster.")

    # -- tags -----------------------------------------------------------------------------------

    def tag(self, request: Json, _region: str) -> Json:
        """Add tags; those of the same key are replaced."""
        task = self._tagged(request)
        new = request.get("tags") or []
        kept = [tag for tag in task.document["tags"] if tag["key"] not in {tag["key"] for tag in new}]
        check_tags([*kept, *new])
        task.document["tags"] = [*kept, *new]
        return {}

    def untag(self, request: Json, _region: str) -> Json:
        """Take tags away."""
        task = self._tagged(request)
        gone = request.get("tagKeys") or []
        task.document["tags"] = [tag for tag in task.document["tags"] if tag["key"] not in gone]
        return {}

    def list_tags(self, request: Json, _region: str) -> Json:
        """The task's tags."""
        return {"tags": self._tagged(request).document["tags"]}

    def _tagged(self, request: Json) -> CloudTask:
        arn = request["resourceArn"]
        if ":task/" not in arn:
            raise ApiError("UnsupportedFeatureException", "only tasks have tags that can change here")
        task = self._task_table.anywhere(arn)
        if task is None or task.ended:
            raise invalid("The specified task is not found or has stopped.")
        return task

    def _one(self, request: Json, region: str) -> CloudTask:
        task = self._task_table.find(self._cluster_arn(request, region), request.get("task") or "")
        if task is None:
            raise invalid("The referenced task was not found.")
        return task

    def _cluster_arn(self, request: Json, region: str) -> str:
        return str(self._registry.cluster(request, region)["clusterArn"])

    def _definition(self, request: Json, region: str) -> Json:
        try:
            return self._registry.definition(request.get("taskDefinition") or "", region)
        except ApiError:
            raise ApiError("ClientException", "TaskDefinition not found.") from None
