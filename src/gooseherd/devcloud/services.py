"""ECS services of the local cloud: so many tasks kept running, replaced one deployment by the next."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

from gooseherd.devcloud.cloud_configuration import CloudConfiguration
from gooseherd.devcloud.ecs import TaskApi
from gooseherd.devcloud.load_balancer import Address
from gooseherd.devcloud.run_task import ApiError, Json, invalid, plan_task
from gooseherd.devcloud.service_plan import ServiceTask, failures_allowed, plan_step
from gooseherd.devcloud.task_definitions import TaskDefinitions
from gooseherd.devcloud.tasks import CloudTask, Ending

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.1
_AFTER_A_FAILURE_SECONDS: Final = 1.0
_EVENTS: Final = 100
_DRAIN_SECONDS: Final = 60.0
"""From leaving the load balancer to SIGTERM, scaled: deregistration_delay of the template."""


class _Service:
    """One service. `document` is what DescribeServices answers."""

    def __init__(self, document: Json, request: Json, region: str) -> None:
        self.document = document
        self.request = request
        self.region = region
        self.tasks: dict[str, CloudTask] = {}
        self.draining: dict[str, float] = {}
        self.failed = 0
        self.may_start_at = 0.0
        self.completed: Json | None = None
        """The deployment that was steady last, to go back to."""

    @property
    def definition(self) -> str:
        return str(self.document["taskDefinition"])

    def event(self, message: str) -> None:
        event = {"id": str(uuid.uuid4()), "createdAt": time.time(), "message": message}
        self.document["events"] = [event, *self.document["events"]][:_EVENTS]
        _log.info("service %s: %s", self.document["serviceName"], message)


class ServiceTable:
    """All services. Everything here belongs to the event loop's thread."""

    def __init__(self, configuration: CloudConfiguration, registry: TaskDefinitions, api: TaskApi) -> None:
        self._configuration = configuration
        self._registry = registry
        self._api = api
        self._services: dict[str, _Service] = {}
        self._scheduler: asyncio.Task[None] | None = None
        self.operations: Final[dict[str, Callable[[Json, str], Json]]] = {
            "CreateService": self.create,
            "UpdateService": self.update,
            "DeleteService": self.delete,
            "DescribeServices": self.describe,
            "ListServices": self.list,
        }

    # -- the API ------------------------------------------------------------------------------

    def create(self, request: Json, region: str) -> Json:
        """Make it; its tasks start soon after."""
        cluster = self._registry.cluster(request, region)
        name = request.get("serviceName") or ""
        arn = f"{cluster['clusterArn'].replace(':cluster/', ':service/')}/{name}"
        if not name or (arn in self._services and self._services[arn].document["status"] == "ACTIVE"):
            raise invalid("Creation of service was not idempotent.")
        definition = self._registry.definition(request.get("taskDefinition") or "", region)
        plan_task(definition, request)
        configuration = {"minimumHealthyPercent": 100, "maximumPercent": 200}
        document: Json = {
            "serviceArn": arn,
            "serviceName": name,
            "clusterArn": cluster["clusterArn"],
            "status": "ACTIVE",
            "launchType": request.get("launchType") or "FARGATE",
            "loadBalancers": request.get("loadBalancers") or [],
            "networkConfiguration": request.get("networkConfiguration") or {},
            "deploymentConfiguration": {**configuration, **(request.get("deploymentConfiguration") or {})},
            "desiredCount": int(request.get("desiredCount", 1)),
            "taskDefinition": definition["taskDefinitionArn"],
            "createdAt": time.time(),
            "events": [],
            "deployments": [],
        }
        self._services[arn] = service = _Service(document, request, region)
        self._deploy(service, definition["taskDefinitionArn"])
        if self._scheduler is None or self._scheduler.done():
            self._scheduler = asyncio.create_task(self._schedule())
        return {"service": self._shown(service)}

    def update(self, request: Json, region: str) -> Json:
        """Another count, another task definition: the latter is a new deployment."""
        service = self._one(request, region)
        document = service.document
        if request.get("desiredCount") is not None:
            document["desiredCount"] = int(request["desiredCount"])
        if request.get("deploymentConfiguration"):
            document["deploymentConfiguration"].update(request["deploymentConfiguration"])
        if request.get("networkConfiguration"):
            document["networkConfiguration"] = request["networkConfiguration"]
        wanted = service.definition
        if request.get("taskDefinition"):
            wanted = self._registry.definition(request["taskDefinition"], region)["taskDefinitionArn"]
        if wanted != service.definition or request.get("forceNewDeployment"):
            self._deploy(service, wanted)
        return {"service": self._shown(service)}

    def delete(self, request: Json, region: str) -> Json:
        """It drains; INACTIVE when its last task has stopped."""
        service = self._one(request, region)
        if service.document["desiredCount"] and not request.get("force"):
            raise invalid("The service cannot be stopped while it is scaled above 0.")
        service.document.update(status="DRAINING", desiredCount=0)
        return {"service": self._shown(service)}

    def describe(self, request: Json, region: str) -> Json:
        """By names or ARNs."""
        found, failures = [], []
        for name in request.get("services") or []:
            try:
                found.append(self._shown(self._one({**request, "service": name}, region)))
            except ApiError:
                failures.append({"arn": name, "reason": "MISSING"})
        return {"services": found, "failures": failures}

    def list(self, request: Json, region: str) -> Json:
        """ARNs of the cluster's services that are not INACTIVE."""
        cluster = self._registry.cluster(request, region)["clusterArn"]
        return {
            "serviceArns": [
                arn
                for arn, service in self._services.items()
                if service.document["clusterArn"] == cluster and service.document["status"] != "INACTIVE"
            ]
        }

    def steady(self, arn: str) -> bool:
        """Whether one deployment is left and as many of its tasks are ready as are wanted."""
        service = self._services[arn]
        views = [self._view(service, task) for task in service.tasks.values()]
        ready = [view for view in views if view.current and view.ready]
        desired: int = service.document["desiredCount"]
        return len(ready) == len(views) == desired

    def targets(self, target_group: str) -> Sequence[Address]:
        """Where the load balancer of that target group may send a connection."""
        found = []
        for service in self._services.values():
            for where in service.document["loadBalancers"]:
                if where["targetGroupArn"] != target_group:
                    continue
                for task in service.tasks.values():
                    view = self._view(service, task)
                    if view.ready and task.task_id not in service.draining:
                        address = task.document["containers"][0]["networkInterfaces"][0]["privateIpv4Address"]
                        found.append((address, int(where["containerPort"])))
        return found

    async def close(self) -> None:
        """No more scheduling: the cloud ends."""
        if self._scheduler is not None:
            self._scheduler.cancel()
            await asyncio.gather(self._scheduler, return_exceptions=True)

    # -- scheduling ---------------------------------------------------------------------------

    def _deploy(self, service: _Service, definition: str) -> None:
        service.failed, service.may_start_at = 0, 0.0
        service.document["taskDefinition"] = definition
        for deployment in service.document["deployments"]:
            deployment["status"] = "ACTIVE"
        now = time.time()
        deployment = {
            "id": f"ecs-svc/{uuid.uuid4().int % 10**19:019d}",
            "status": "PRIMARY",
            "taskDefinition": definition,
            "rolloutState": "IN_PROGRESS",
            "createdAt": now,
            "updatedAt": now,
        }
        service.document["deployments"] = [deployment, *service.document["deployments"]]

    async def _schedule(self) -> None:
        while True:
            for service in list(self._services.values()):
                try:
                    self._step(service)
                except Exception:
                    _log.exception("service %s", service.document["serviceName"])
                    service.may_start_at = time.monotonic() + _AFTER_A_FAILURE_SECONDS
            await asyncio.sleep(_LOOK_SECONDS)

    def _step(self, service: _Service) -> None:
        if service.document["status"] == "INACTIVE":
            return
        self._bury(service)
        document, now = service.document, time.monotonic()
        configuration = document["deploymentConfiguration"]
        views = [
            self._view(service, task) for name, task in service.tasks.items() if name not in service.draining
        ]
        step = plan_step(
            views,
            document["desiredCount"],
            configuration["minimumHealthyPercent"],
            configuration["maximumPercent"],
            may_start=document["status"] == "ACTIVE" and now >= service.may_start_at,
        )
        for _ in range(step.start):
            self._start(service)
        for name in step.stop:
            self._drain(service, name)
        for name, at in list(service.draining.items()):
            if at <= now:
                task = service.tasks[name]
                task.stop(
                    Ending("ServiceSchedulerInitiated", f"Scaling activity initiated by {self._id(service)}")
                )
        if (
            self.steady(document["serviceArn"])
            and document["deployments"][0]["rolloutState"] == "IN_PROGRESS"
        ):
            document["deployments"] = document["deployments"][:1]
            document["deployments"][0].update(rolloutState="COMPLETED", updatedAt=time.time())
            service.failed = 0
            service.completed = document["deployments"][0]
            service.event(f"(service {document['serviceName']}) has reached a steady state.")
        if document["status"] == "DRAINING" and not service.tasks:
            document["status"] = "INACTIVE"

    def _bury(self, service: _Service) -> None:
        """Forget those that have stopped; one that nobody told to has failed if it never was ready."""
        for name, task in list(service.tasks.items()):
            if not task.ended:
                continue
            del service.tasks[name]
            was_drained = service.draining.pop(name, None) is not None
            if was_drained or task.document["taskDefinitionArn"] != service.definition:
                continue
            service.event(f"task {name} stopped: {task.document.get('stoppedReason')}")
            service.may_start_at = time.monotonic() + self._configuration.pace.seconds(
                _AFTER_A_FAILURE_SECONDS
            )
            if service.document["deployments"][0]["rolloutState"] == "IN_PROGRESS":
                self._failed(service)

    def _failed(self, service: _Service) -> None:
        service.failed += 1
        breaker = service.document["deploymentConfiguration"].get("deploymentCircuitBreaker") or {}
        if service.failed < failures_allowed(service.document["desiredCount"]) or not breaker.get("enable"):
            return
        failed = service.document["deployments"][0]
        failed.update(rolloutState="FAILED", updatedAt=time.time())
        service.event(
            f"(service {service.document['serviceName']}) deployment failed: tasks failed to start."
        )
        back = service.completed
        if breaker.get("rollback") and back is not None and back["id"] != failed["id"]:
            service.event(f"rolling back to deployment {back['id']}")
            service.failed, service.may_start_at = 0, 0.0
            back.update(status="PRIMARY", rolloutState="IN_PROGRESS", updatedAt=time.time())
            failed["status"] = "INACTIVE"
            service.document.update(taskDefinition=back["taskDefinition"], deployments=[back, failed])
        else:
            service.may_start_at = float("inf")

    def _start(self, service: _Service) -> None:
        definition = self._registry.definition(service.definition, service.region)
        request = {
            **service.request,
            "networkConfiguration": service.document["networkConfiguration"],
            "group": f"service:{service.document['serviceName']}",
            "startedBy": service.document["deployments"][0]["id"],
            "tags": list(service.request.get("tags") or []),
            "propagateTags": service.request.get("propagateTags"),
        }
        cluster = self._registry.cluster({"cluster": service.document["clusterArn"]}, service.region)
        (task,) = self._api.launch(cluster, definition, request, service.region, count=1)
        service.tasks[task.task_id] = task

    def _drain(self, service: _Service, name: str) -> None:
        if name not in service.draining:
            waits = _DRAIN_SECONDS if service.document["loadBalancers"] else 0.0
            service.draining[name] = time.monotonic() + self._configuration.pace.seconds(waits)

    def _view(self, service: _Service, task: CloudTask) -> ServiceTask:
        document = task.document
        running = document["lastStatus"] == "RUNNING" and document["desiredStatus"] == "RUNNING"
        checked = any(container.health for container in task.plan.containers if container.essential)
        return ServiceTask(
            task.task_id,
            current=document["taskDefinitionArn"] == service.definition
            and document.get("startedBy") == service.document["deployments"][0]["id"],
            ready=running and (document["healthStatus"] == "HEALTHY" or not checked),
            broken=document["healthStatus"] == "UNHEALTHY",
        )

    # -- small steps --------------------------------------------------------------------------

    def _id(self, service: _Service) -> str:
        return f"(deployment {service.document['deployments'][0]['id']})"

    def _one(self, request: Json, region: str) -> _Service:
        cluster = self._registry.cluster(request, region)["clusterArn"]
        name = str(request.get("service") or "").rpartition("/")[2]
        found = self._services.get(f"{cluster.replace(':cluster/', ':service/')}/{name}")
        if found is None:
            raise ApiError("ServiceNotFoundException", "Service not found.")
        return found

    def _shown(self, service: _Service) -> Json:
        views = [self._view(service, task) for task in service.tasks.values()]
        running = sum(task.document["lastStatus"] == "RUNNING" for task in service.tasks.values())
        counts: dict[str, Any] = {"runningCount": running, "pendingCount": len(views) - running}
        deployments = [
            {**one, "desiredCount": service.document["desiredCount"], **self._counts(service, one["id"])}
            for one in service.document["deployments"]
        ]
        return {**service.document, **counts, "deployments": deployments}

    def _counts(self, service: _Service, deployment: str) -> dict[str, int]:
        mine = [task for task in service.tasks.values() if task.document.get("startedBy") == deployment]
        running = sum(task.document["lastStatus"] == "RUNNING" for task in mine)
        return {"runningCount": running, "pendingCount": len(mine) - running, "failedTasks": service.failed}
