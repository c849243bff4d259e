"""A FleetTask, parsed from what DescribeTasks and RunTask return; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from gooseherd.domain.job import WorkerId
from gooseherd.domain.worker_size import Capacity, LaunchPurpose, WorkerResources, WorkerSize

ATTEMPT_VARIABLE: Final = "WORKER_LAUNCHED_FOR"
"""In the container's environment, where it outlives StopTask; tags do not."""
MEMORY_VARIABLE: Final = "WORKER_MEMORY_BYTES"
"""The task's own: a limit of the whole task is in no control group that its container sees."""
KEEP_VARIABLE: Final = "WORKER_KEEP_SECONDS"
"""Of a reserved worker: how long it stays although idle, unless somebody speaks to it."""
THREADS_VARIABLE: Final = "WORKER_THREADS"
"""Of its tools, unless the settings say how many: its container sees the host's cores."""

_SPOT: Final = "FARGATE_SPOT"
_BEFORE_RUNNING: Final = frozenset({"PROVISIONING", "PENDING", "ACTIVATING"})


@dataclass(frozen=True, slots=True)
class FleetTask:
    """One ECS task of ours. `created_at` is Unix seconds, `version` grows with each change."""

    worker_id: WorkerId
    """The last part of its ARN: unique in the account and enough to find it again."""
    status: str
    wanted: bool
    """Whether it is meant to go on (desiredStatus RUNNING)."""
    health: str
    address: str | None
    """Of its network interface; there long before anybody listens."""
    size: WorkerSize
    launched_for: str | None
    started_by: str
    created_at: float
    version: int
    payload: Mapping[str, Any] = field(compare=False, repr=False)

    @property
    def resources(self) -> WorkerResources:
        """What is paid for."""
        spot = self.payload.get("capacityProviderName") == _SPOT
        return WorkerResources(
            self.size, Capacity.SPOT if spot else Capacity.ON_DEMAND, LaunchPurpose.of(self.launched_for)
        )

    @property
    def paid_from(self) -> float:
        """From the download of its image on, Unix seconds; 0: it has not begun."""
        return _unix_seconds(self.payload.get("pullStartedAt"))

    @property
    def ended_at(self) -> float | None:
        """Unix seconds; None: it has not ended, or was never paid for."""
        return _unix_seconds(self.payload.get("stoppedAt")) or None

    @property
    def stopped(self) -> bool:
        """Certainly over."""
        return self.status == "STOPPED"

    @property
    def starting(self) -> bool:
        """Not yet known to be healthy, and not on its way out."""
        return self.wanted and (
            self.status in _BEFORE_RUNNING or (self.status == "RUNNING" and self.health == "UNKNOWN")
        )

    @property
    def running(self) -> bool:
        """Its containers run and it is meant to go on."""
        return self.wanted and self.status == "RUNNING"

    @classmethod
    def read(cls, payload: Mapping[str, Any]) -> FleetTask:
        """From a task of DescribeTasks or RunTask. Raises KeyError without ARN or status."""
        return cls(
            worker_id=WorkerId(payload["taskArn"].rpartition("/")[2]),
            status=payload["lastStatus"],
            wanted=payload.get("desiredStatus", "RUNNING") == "RUNNING",
            health=payload.get("healthStatus", "UNKNOWN"),
            address=_address(payload),
            size=WorkerSize(
                int(payload.get("cpu") or 0),
                int(payload.get("memory") or 0),
                int((payload.get("ephemeralStorage") or {}).get("sizeInGiB") or 20),
            ),
            launched_for=_launched_for(payload),
            started_by=payload.get("startedBy") or "",
            created_at=_unix_seconds(payload.get("createdAt")),
            version=int(payload.get("version") or 0),
            payload=payload,
        )


def _unix_seconds(moment: object) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else 0.0


_TASK_ID: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_task_id(worker_id: WorkerId) -> bool:
    """Whether ECS can be asked for it: one other name makes it refuse the whole question.

    A job may name a local worker, from before its deployment moved to ECS.
    """
    return _TASK_ID.fullmatch(worker_id) is not None


def _address(payload: Mapping[str, Any]) -> str | None:
    for attachment in payload.get("attachments") or []:
        if attachment.get("type") == "ElasticNetworkInterface":
            for item in attachment.get("details") or []:
                if item.get("name") == "privateIPv4Address":
                    return str(item["value"])
    return None


def _launched_for(payload: Mapping[str, Any]) -> str | None:
    for container in (payload.get("overrides") or {}).get("containerOverrides") or []:
        for item in container.get("environment") or []:
            if item.get("name") == ATTEMPT_VARIABLE:
                return str(item["value"])
    return None
