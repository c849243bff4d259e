"""How large a FleetTask an attempt gets: from format and source size to a pair that Fargate has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.formats import Family
from gooseherd.domain.ports import WorkerNeed

_GIB: Final = 1 << 30

FARGATE_MEMORY_MIB: Final[Mapping[int, tuple[int, ...]]] = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4097, 1024)),
    1024: tuple(range(2048, 8193, 1024)),
    2048: tuple(range(4096, 16385, 1024)),
    4096: tuple(range(8192, 30721, 1024)),
    8192: tuple(range(16384, 61441, 4096)),
    16384: tuple(range(32768, 122881, 8192)),
}
"""Memory that goes with each cpu size (Fargate developer guide, task sizes); CPU units and MiB."""
LEAST_DISK_GIB: Final = 21
"""The least that can be asked for; unasked a task has 20."""
MOST_DISK_GIB: Final = 200

_DISK_FACTOR: Final[Mapping[Family, float]] = {
    # The source, the sorted runs spilled beside it, and the result.
    Family.ALIGNMENTS: 4.0,
    # Sources are mostly gzip: runs of the sort are plain text.
    Family.INTERVALS: 8.0,
    Family.TABLE: 8.0,
    Family.SIGNAL: 2.5,
}
_DISK_FLOOR_GIB: Final = 5
"""The image and the system take their part of the disk (developer guide, ephemeral storage)."""
_STEPS: Final[tuple[tuple[int, int, int], ...]] = (
    # source bytes below, CPU units, MiB. More threads pay from a few GiB of alignments on.
    (1 * _GIB, 1024, 2048),
    (8 * _GIB, 2048, 4096),
    (1 << 63, 4096, 8192),
)


@dataclass(frozen=True, slots=True, order=True)
class WorkerSize:
    """CPU units (1024 is one), MiB of memory, GiB of disk. Ordered by cpu, then memory, then disk."""

    cpu: int
    memory_mib: int
    disk_gib: int = 20

    def covers(self, other: WorkerSize) -> bool:
        """Whether work made for `other` can run in it."""
        return (
            self.cpu >= other.cpu and self.memory_mib >= other.memory_mib and self.disk_gib >= other.disk_gib
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeBounds:
    """What an operator allows, inclusive. `unknown_source_bytes` stands for a source of unsaid size.

    Raises Misconfigured for bounds that no Fargate size meets.
    """

    least_cpu: int = 1024
    most_cpu: int = 4096
    least_memory_mib: int = 2048
    most_memory_mib: int = 16384
    least_disk_gib: int = LEAST_DISK_GIB
    most_disk_gib: int = MOST_DISK_GIB
    unknown_source_bytes: int = 8 * _GIB

    def __post_init__(self) -> None:
        if not LEAST_DISK_GIB <= self.least_disk_gib <= self.most_disk_gib <= MOST_DISK_GIB:
            raise Misconfigured(
                "ECS_WORKER_MAX_DISK_GIB", f"disk is {LEAST_DISK_GIB} to {MOST_DISK_GIB} GiB, least first"
            )
        if not _pairs(self):
            raise Misconfigured(
                "ECS_WORKER_MAX_CPU",
                f"Fargate has no size of {self.least_cpu} to {self.most_cpu} CPU units "
                f"and {self.least_memory_mib} to {self.most_memory_mib} MiB",
            )


def size_for(need: WorkerNeed, bounds: SizeBounds) -> WorkerSize:
    """The smallest size within `bounds` that suits; the largest one when none does.

    What does not fit the largest fails on the worker, with out_of_disk or out_of_memory.
    """
    source = bounds.unknown_source_bytes if need.source_bytes is None else need.source_bytes
    cpu, memory = next((cpu, memory) for below, cpu, memory in _STEPS if source < below)
    factor = _DISK_FACTOR[need.source_format.family]
    disk = _DISK_FLOOR_GIB + -int(-source * factor // _GIB)
    # Disk comes in few steps, or hardly a warm worker would suit the next job.
    disk = next((step for step in (LEAST_DISK_GIB, 50, 100) if disk <= step), MOST_DISK_GIB)
    pairs = _pairs(bounds)
    fitting = (pair for pair in pairs if pair[0] >= cpu and pair[1] >= memory)
    cpu, memory = min(fitting, default=pairs[-1])
    return WorkerSize(cpu, memory, min(max(disk, bounds.least_disk_gib), bounds.most_disk_gib))


def _pairs(bounds: SizeBounds) -> list[tuple[int, int]]:
    return sorted(
        (cpu, memory)
        for cpu, memories in FARGATE_MEMORY_MIB.items()
        for memory in memories
        if bounds.least_cpu <= cpu <= bounds.most_cpu
        and bounds.least_memory_mib <= memory <= bounds.most_memory_mib
    )
