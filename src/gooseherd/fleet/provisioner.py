"""Launches FleetTasks: one RunTask per attempt, held to the launch rate, with a fallback from Spot."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import Misconfigured, NoCapacity
from gooseherd.domain.job import WorkerId
from gooseherd.domain.quantities import tool_threads
from gooseherd.domain.reservation import KEEP_SECONDS, Purpose
from gooseherd.domain.worker_size import WorkerSize
from gooseherd.fleet.ecs_api import AlreadyLaunched, EcsApi
from gooseherd.fleet.ecs_rate import TokenBucket
from gooseherd.fleet.ecs_tasks import ATTEMPT_VARIABLE, KEEP_VARIABLE, MEMORY_VARIABLE, THREADS_VARIABLE
from gooseherd.fleet.sizes import CPU_UNITS

log = logging.getLogger(__name__)

_STARTED_BY: Final = re.compile(r"[A-Za-z0-9/_-]{1,128}")
_TOKEN: Final = re.compile(r"[!-~]{1,64}")
_NOT_IN_A_TAG: Final = re.compile(r"[^\w +=.:/@-]", re.ASCII)
_FREE_DISK_GIB: Final = 20
"""What a task has without asking."""


class Placement(StrEnum):
    """On which capacity workers run."""

    FARGATE = "fargate"
    """On demand, by launch type."""
    SPOT = "spot"
    """FARGATE_SPOT only: cheaper, and there may be none."""
    SPOT_FIRST = "spot_first"
    """FARGATE_SPOT, and on demand when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchTemplate:
    """What all workers of a fleet have in common. `fleet` marks them as ours (ECS `startedBy`).

    Two deployments that share a cluster must have different fleets. Raises Misconfigured
    for what is empty or cannot work.
    """

    fleet: str
    task_definition: str
    subnets: Sequence[str]
    security_groups: Sequence[str] = ()
    assign_public_ip: bool = False
    container: str = "worker"
    placement: Placement = Placement.FARGATE
    environment: Mapping[str, str] = field(default_factory=dict)
    build: str = ""
    """Of the launching process, for AWS's cost allocation; the image says its own."""

    def __post_init__(self) -> None:
        if not self.task_definition:
            raise Misconfigured("ECS_WORKER_TASK_DEFINITION", "names no task definition")
        if not any(self.subnets):
            raise Misconfigured("ECS_WORKER_SUBNETS", "names no subnet")
        if len(self.subnets) > 16:
            raise Misconfigured("ECS_WORKER_SUBNETS", "names more than 16 subnets")
        if not _STARTED_BY.fullmatch(self.fleet):
            raise Misconfigured("ECS_FLEET", "1 to 128 letters, digits, hyphens, slashes and underscores")


class EcsProvisioner:
    """RunTask for attempts. `rate` holds all launches of this process (Fargate: 20 a second)."""

    def __init__(self, api: EcsApi, template: LaunchTemplate, *, rate: TokenBucket | None = None) -> None:
        self._api = api
        self._template = template
        self._rate = rate or TokenBucket(20, 20)
        self._launching: dict[AttemptId, asyncio.Task[WorkerId]] = {}

    async def launch(self, attempt: AttemptId, size: WorkerSize, *, reserved: bool = False) -> WorkerId:
        """Start a worker for the attempt; concurrent and repeated calls for one attempt name one worker.

        `reserved`: the attempt is a reservation's name, and the worker is kept. It is asked for, not yet
        started. A caller that is cancelled does not take the launch back.

        Raises:
            NoCapacity: there is none now, on no kind of capacity that is allowed.
            LaunchFailed: refused, for a reason that may pass.
            Misconfigured: refused, for a reason that stays.
            CloudUnavailable: no answer; whether a worker was started is unknown, the same call again tells.
        """
        task = self._launching.get(attempt)
        if task is None:
            task = asyncio.create_task(self._launch(attempt, size, reserved), name=f"launch {attempt}")
            self._launching[attempt] = task
            task.add_done_callback(lambda done: self._launched(attempt, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for launches that are under way: their workers shall be known to whoever asked."""
        await asyncio.gather(*self._launching.values(), return_exceptions=True)

    def _launched(self, attempt: AttemptId, task: asyncio.Task[WorkerId]) -> None:
        self._launching.pop(attempt, None)
        if not task.cancelled():
            task.exception()  # Looked at: every caller may have left.

    async def _launch(self, attempt: AttemptId, size: WorkerSize, reserved: bool) -> WorkerId:
        match self._template.placement:
            case Placement.FARGATE:
                return await self._run(attempt, size, spot=False, reserved=reserved)
            case Placement.SPOT:
                return await self._run(attempt, size, spot=True, reserved=reserved)
            case Placement.SPOT_FIRST:
                try:
                    return await self._run(attempt, size, spot=True, reserved=reserved)
                except NoCapacity as error:
                    log.info("no Spot capacity", extra={"attempt": str(attempt), "detail": error.detail})
                return await self._run(attempt, size, spot=False, reserved=reserved)

    async def _run(self, attempt: AttemptId, size: WorkerSize, *, spot: bool, reserved: bool) -> WorkerId:
        await self._rate.take()
        request = launch_request(self._template, attempt, size, spot=spot, reserved=reserved)
        try:
            worker_id = (await self._api.run_task(request)).worker_id
        except AlreadyLaunched as error:
            # An earlier call for this attempt, made with other settings, or with another size.
            if not error.worker_ids:
                raise NoCapacity("(the attempt's client token is taken)") from error
            worker_id = error.worker_ids[0]
        log.info(
            "worker requested",
            extra={
                "worker": worker_id,
                "attempt": str(attempt),
                "cpu": size.cpu,
                "memory_mib": size.memory_mib,
                "disk_gib": size.disk_gib,
                "spot": spot,
            },
        )
        return worker_id


def client_token(attempt: AttemptId, *, spot: bool) -> str:
    """The attempt's name, at most 64 characters. Each kind of capacity has its own: other parameters
    under one token are refused.
    """
    name = f"{attempt}{'.spot' if spot else ''}"
    return name if _TOKEN.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()


def launch_request(
    template: LaunchTemplate, attempt: AttemptId, size: WorkerSize, *, spot: bool, reserved: bool = False
) -> dict[str, Any]:
    """The parameters of RunTask, without the cluster. Equal arguments give equal requests."""
    environment = {
        THREADS_VARIABLE: str(tool_threads(size.cpu // CPU_UNITS)),
        **template.environment,
        ATTEMPT_VARIABLE: str(attempt),
        MEMORY_VARIABLE: str(size.memory_mib << 20),
        **({KEEP_VARIABLE: f"{KEEP_SECONDS:g}"} if reserved else {}),
    }
    network: dict[str, Any] = {
        "subnets": [subnet for subnet in template.subnets if subnet],
        "assignPublicIp": "ENABLED" if template.assign_public_ip else "DISABLED",
    }
    if template.security_groups:
        network["securityGroups"] = list(template.security_groups)
    overrides: dict[str, Any] = {
        "cpu": str(size.cpu),
        "memory": str(size.memory_mib),
        "containerOverrides": [
            {
                "name": template.container,
                "environment": [{"name": name, "value": environment[name]} for name in sorted(environment)],
            }
        ],
    }
    if size.disk_gib > _FREE_DISK_GIB:
        overrides["ephemeralStorage"] = {"sizeInGiB": size.disk_gib}
    where: dict[str, Any] = (
        {"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]}
        if spot
        else {"launchType": "FARGATE"}
    )
    return {
        "taskDefinition": template.task_definition,
        "count": 1,
        "clientToken": client_token(attempt, spot=spot),
        "startedBy": template.fleet,
        "networkConfiguration": {"awsvpcConfiguration": network},
        "overrides": overrides,
        "enableECSManagedTags": True,
        "tags": [{"key": name, "value": value} for name, value in _tags(template, attempt, reserved).items()],
        **where,
    }


def _tags(template: LaunchTemplate, attempt: AttemptId, reserved: bool) -> dict[str, str]:
    """What stays true while the worker lives: it takes jobs of others later, so no requesters."""
    purpose, _, reservation = str(attempt.job_id).partition("-") if reserved else ("job", "", "")
    return {
        "gooseherd:fleet": template.fleet,
        "gooseherd:attempt": str(attempt),
        "gooseherd:lane": purpose,
        **({"gooseherd:build": _NOT_IN_A_TAG.sub("_", template.build)} if template.build else {}),
        **({"gooseherd:session": reservation} if purpose == Purpose.SESSION else {}),
    }
