"""How large a worker is, and what kind of capacity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self


@dataclass(frozen=True, slots=True, order=True)
class WorkerSize:
    """CPU units, MiB of memory, GiB of disk. Ordered by cpu, then memory, then disk."""

    cpu: int
    memory_mib: int
    disk_gib: int = 20

    def covers(self, other: WorkerSize) -> bool:
        """Whether work made for `other` can run in it."""
        return (
            self.cpu >= other.cpu and self.memory_mib >= other.memory_mib and self.disk_gib >= other.disk_gib
        )


class Capacity(StrEnum):
    """Whose machine it is, and so what an hour of it costs. Closed: prices rely on the list."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    LOCAL = "local"
    """A machine of one's own."""
    NONE = "none"
    """No worker was needed: bytes that were served."""


class LaunchPurpose(StrEnum):
    """What a worker was launched for, whoever uses it later."""

    JOB = "job"
    FLOOR = "floor"
    SESSION = "session"

    @classmethod
    def of(cls, launched_for: str | None) -> LaunchPurpose:
        """By the name under which it was launched: an attempt's or a reservation's."""
        word = (launched_for or "").partition("-")[0]
        return cls(word) if word in (cls.FLOOR, cls.SESSION) else cls.JOB


@dataclass(frozen=True, slots=True)
class WorkerResources:
    """What is paid for as long as a worker lives."""

    size: WorkerSize
    capacity: Capacity
    purpose: LaunchPurpose = LaunchPurpose.JOB

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self.size), "capacity": self.capacity.value, "purpose": self.purpose.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        size = WorkerSize(data["cpu"], data["memory_mib"], data["disk_gib"])
        return cls(size, Capacity(data["capacity"]), LaunchPurpose(data["purpose"]))
