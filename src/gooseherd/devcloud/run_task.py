"""From a RunTask request to a plan of what is started: pure, and as strict as AWS where it matters.

Limits and texts: the ECS API's service model (2014-11-13) and the Fargate developer guide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

FARGATE_MEMORY_GIB: Final[Mapping[int, tuple[float, ...]]] = {
    256: (0.5, 1, 2),
    512: (1, 2, 3, 4),
    1024: tuple(range(2, 9)),
    2048: tuple(range(4, 17)),
    4096: tuple(range(8, 31)),
    8192: tuple(range(16, 61, 4)),
    16384: tuple(range(32, 121, 8)),
}
"""Memory that goes with each cpu size."""
_DEFAULT_DISK_GIB: Final = 20
_STARTED_BY: Final = re.compile(r"[\w/-]{0,128}", re.ASCII)
_CLIENT_TOKEN: Final = re.compile(r"[!-~]{1,64}")


class ApiError(Exception):
    """An answer that is an AWS error; `more` are further members of it."""

    def __init__(self, code: str, message: str, status: int = 400, **more: Any) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status
        self.more = more


def invalid(message: str) -> ApiError:
    """What a caller gets for a parameter that can never work."""
    return ApiError("InvalidParameterException", message)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How a container's health is found out; times in seconds, as the task definition says them."""

    argv: tuple[str, ...]
    interval: float
    timeout: float
    retries: int
    start_period: float


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """One container: what runs, with which environment, and how it is watched and stopped."""

    name: str
    image: str
    argv: tuple[str, ...]
    """Appended to the image's own command; `replaces` says that it stands instead of it."""
    replaces: bool
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    """Variable to where its value is: `valueFrom` of the task definition."""
    environment_files: tuple[str, ...]
    """ARNs of objects; what they say counts less than `environment`."""
    essential: bool
    health: HealthCheck | None
    stop_timeout: float
    cpu: str


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """One task, whatever its number."""

    family: str
    definition_arn: str
    containers: tuple[ContainerPlan, ...]
    cpu: str
    memory: str
    disk_gib: int
    subnet: str
    role_arn: str
    """Of the task, whose credentials its containers find; empty: they find none."""
    execution_role_arn: str
    """Of ECS, which reads secrets for it."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where RunTask's tasks go: Fargate by launch type, or a capacity provider."""

    launch_type: str | None
    provider: str | None

    @property
    def spot(self) -> bool:
        """Whether they can be reclaimed."""
        return self.provider == "FARGATE_SPOT"


def check_request(request: Json) -> int:
    """Refuse what AWS refuses at once; how many tasks are wanted."""
    count = request.get("count", 1)
    if not isinstance(count, int) or not 1 <= count <= 10:
        raise invalid("Count should be between 1 and 10.")
    if not _STARTED_BY.fullmatch(request.get("startedBy") or ""):
        raise invalid(
            "startedBy can be up to 128 letters, numbers, hyphens, forward slashes and underscores."
        )
    token = request.get("clientToken")
    if token is not None and not _CLIENT_TOKEN.fullmatch(token):
        raise invalid("The client token must be 1 to 64 ASCII characters in the range of 33 to 126.")
    check_tags(request.get("tags") or [])
    if (request.get("propagateTags") or "NONE") not in {"NONE", "TASK_DEFINITION"}:
        raise invalid("propagateTags must be TASK_DEFINITION for RunTask.")
    if request.get("launchType") and request.get("capacityProviderStrategy"):
        raise invalid(
            "Specifying both a launch type and capacity provider strategy is not supported. "
            "Remove one and try again."
        )
    return count


def check_tags(tags: Sequence[Mapping[str, str]]) -> None:
    """Refuse more or longer tags than a task can bear."""
    if len(tags) > 50:
        raise invalid("The maximum number of tags is 50.")
    for tag in tags:
        if not 1 <= len(tag.get("key", "")) <= 128 or len(tag.get("value", "")) > 256:
            raise invalid("Tag keys are 1 to 128 and tag values at most 256 characters long.")


def place(request: Json, providers: Sequence[str], default: Sequence[Json], count: int) -> list[Placement]:
    """A placement for each of `count` tasks; `providers` and `default` are the cluster's."""
    launch_type = request.get("launchType")
    strategy = request.get("capacityProviderStrategy") or ([] if launch_type else default)
    if not strategy:
        if launch_type != "FARGATE":
            raise invalid("No Container Instances were found in your cluster.")
        return [Placement("FARGATE", None)] * count
    for item in strategy:
        if item["capacityProvider"] not in providers:
            name = item["capacityProvider"]
            raise invalid(f"The specified capacity provider '{name}' is not associated with the cluster.")
    placed: list[str] = []
    for item in strategy:
        placed += [item["capacityProvider"]] * min(item.get("base", 0), count - len(placed))
    weights = {item["capacityProvider"]: item.get("weight", 1) for item in strategy}
    if len(placed) < count and not any(weights.values()):
        raise invalid("The capacity provider strategy needs a weight greater than zero.")
    shares = dict.fromkeys(weights, 0)
    while len(placed) < count:
        name = min((n for n in weights if weights[n]), key=lambda n: (shares[n] + 1) / weights[n])
        shares[name] += 1
        placed.append(name)
    return [Placement(None, name) for name in placed]


def plan_task(definition: Json, request: Json) -> TaskPlan:
    """What the task definition and the request's overrides make together."""
    if definition["status"] != "ACTIVE":
        raise ApiError("ClientException", "TaskDefinition is inactive")
    if "FARGATE" not in (definition.get("requiresCompatibilities") or []):
        raise invalid("Task definition does not support launch_type FARGATE.")
    overrides = request.get("overrides") or {}
    by_name = {item.get("name"): item for item in overrides.get("containerOverrides", [])}
    names = {container["name"] for container in definition["containerDefinitions"]}
    if unknown := sorted(str(name) for name in set(by_name) - names):
        raise invalid(f"Override for container named {unknown[0]} is not a container in the TaskDefinition.")
    cpu = str(overrides.get("cpu") or definition.get("cpu") or "")
    memory = str(overrides.get("memory") or definition.get("memory") or "")
    check_size(cpu, memory)
    disk = (overrides.get("ephemeralStorage") or definition.get("ephemeralStorage") or {}).get("sizeInGiB")
    if disk is not None and not 21 <= disk <= 200:
        raise invalid("Ephemeral storage must be between 21 and 200 GiB.")
    return TaskPlan(
        family=definition["family"],
        definition_arn=definition["taskDefinitionArn"],
        containers=tuple(
            _plan_container(container, by_name.get(container["name"], {}))
            for container in definition["containerDefinitions"]
        ),
        cpu=cpu,
        memory=memory,
        disk_gib=disk or _DEFAULT_DISK_GIB,
        subnet=_subnet(request),
        role_arn=overrides.get("taskRoleArn") or definition.get("taskRoleArn") or "",
        execution_role_arn=overrides.get("executionRoleArn") or definition.get("executionRoleArn") or "",
    )


def check_size(cpu: str, memory: str) -> None:
    """Refuse a pair that Fargate does not have; CPU units and MiB."""
    fits = cpu.isdigit() and memory.isdigit() and int(memory) / 1024 in FARGATE_MEMORY_GIB.get(int(cpu), ())
    if not fits:
        raise ApiError(
            "ClientException",
            f"No Fargate configuration exists for given values: {cpu} CPU, {memory} memory.",
        )


def _subnet(request: Json) -> str:
    network = (request.get("networkConfiguration") or {}).get("awsvpcConfiguration")
    if not network:
        raise invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    subnets = network.get("subnets") or []
    if not 1 <= len(subnets) <= 16:
        raise invalid("subnets must hold 1 to 16 items.")
    if (network.get("assignPublicIp") or "DISABLED") not in {"ENABLED", "DISABLED"}:
        raise invalid("assignPublicIp must be ENABLED or DISABLED.")
    for subnet in subnets:
        if not subnet.startswith("subnet-"):
            raise invalid(
                f"Error retrieving subnet information for [{subnet}]: "
                f"The subnet ID '{subnet}' does not exist (ErrorCode: InvalidSubnetID.NotFound)"
            )
    for group in network.get("securityGroups") or []:
        if not group.startswith("sg-"):
            raise invalid(
                f"Error retrieving security group information for [{group}]: The security group '{group}' "
                "does not exist (ErrorCode: InvalidGroup.NotFound)"
            )
    return str(subnets[0])


def _plan_container(container: Json, override: Json) -> ContainerPlan:
    environment: dict[str, str] = {}
    for variables in (container.get("environment") or [], override.get("environment") or []):
        environment.update({item["name"]: item["value"] for item in variables})
    entry = container.get("entryPoint") or []
    command = override.get("command") or container.get("command") or []
    return ContainerPlan(
        name=container["name"],
        image=container["image"],
        argv=(*entry, *command),
        replaces=bool(entry),
        environment=environment,
        secrets={item["name"]: item["valueFrom"] for item in container.get("secrets") or []},
        environment_files=tuple(item["value"] for item in container.get("environmentFiles") or []),
        essential=container.get("essential", True),
        health=_health_check(container.get("healthCheck")),
        stop_timeout=min(float(container.get("stopTimeout") or 30), 120.0),
        cpu=str(container.get("cpu", 0)),
    )


def _health_check(declared: Json | None) -> HealthCheck | None:
    command = (declared or {}).get("command") or ["NONE"]
    if not declared or command[0] == "NONE":
        return None
    if command[0] == "CMD-SHELL":
        # The task definition asks for a shell; docker gives it this one.
        argv = ("/bin/sh", "-c", *command[1:])
    else:
        argv = tuple(command[1:] if command[0] == "CMD" else command)
    return HealthCheck(
        argv=argv,
        interval=float(declared.get("interval") or 30),
        timeout=float(declared.get("timeout") or 5),
        retries=int(declared.get("retries") or 3),
        start_period=float(declared.get("startPeriod") or 0),
    )
