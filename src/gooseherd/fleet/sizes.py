"""How large a FleetTask an attempt gets: from format and source size to a pair that Fargate has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import BEDGRAPH, BEDPE, CRAM, EMBL, GENBANK, PAF, PAIRS, WIG, Family, Format
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import Shortage, WorkerNeed
from gooseherd.domain.worker_size import WorkerSize

_GIB: Final = 1 << 30
CPU_UNITS: Final = 1024
"""Of one virtual CPU."""

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
    Family.SEQUENCES: 2.5,
    Family.MATRIX: 2.5,
}
_DISK_FACTOR_OF: Final[Mapping[Format, float]] = {
    # Reads take twice as much room in a BAM.
    CRAM: 8.0,
    # As intervals, and the values once more.
    BEDGRAPH: 10.0,
    WIG: 10.0,
    # Both texts, and what is made of them.
    GENBANK: 12.0,
    EMBL: 12.0,
    # The records unpacked, the runs of their sort, and two results.
    BEDPE: 16.0,
    PAF: 16.0,
    PAIRS: 16.0,
}
_DISK_MORE_GIB: Final[Mapping[Format, int]] = {
    # The sequences of a genome's reference, and the FASTA they are read from.
    CRAM: 6,
}
_DISK_FLOOR_GIB: Final = 5
"""The image and the system take their part of the disk (developer guide, ephemeral storage)."""
_DISK_STEPS_GIB: Final = (LEAST_DISK_GIB, 50, 100, MOST_DISK_GIB)
"""Few, or hardly a warm worker would suit the next job."""
_GROWTH: Final = 2
"""What ran out of memory gets twice as much, where there is as much: a little more would run out again."""
_STEPS: Final[tuple[tuple[int, int, int], ...]] = (
    # source bytes below, CPU units, MiB. More threads pay from a few GiB of alignments on.
    (1 * _GIB, 1024, 2048),
    (8 * _GIB, 2048, 4096),
    (1 << 63, 4096, 8192),
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


Sizes = Mapping[WorkerId, WorkerSize]
"""Of workers that are known, or were."""


def size_for(need: WorkerNeed, bounds: SizeBounds, known: Sizes | None = None) -> WorkerSize:
    """The smallest size within `bounds` that suits; the largest one when none does.

    Each shortage of the need asks for the next larger one: than would have been given, and
    than the worker it happened on, if that one is `known`. What does not fit the largest
    fails on the worker, with out_of_disk or out_of_memory.
    """
    size = _first_size(need, bounds)
    for shortage in need.shortages:
        size = _next_size(size, shortage, bounds, known or {}) or size
    return size


def smallest(bounds: SizeBounds) -> WorkerSize:
    """What a small source gets, whatever its format; the warm floor's workers have it."""
    cpu, memory_mib = _pair_for(0, bounds)
    return WorkerSize(cpu, memory_mib, bounds.least_disk_gib)


def limit_reached(need: WorkerNeed, bounds: SizeBounds, known: Sizes | None = None) -> str | None:
    """Which setting keeps the newest shortage from getting a larger size; None: there is a larger one."""
    if not need.shortages:
        return None
    *earlier, newest = need.shortages
    size = size_for(replace(need, shortages=tuple(earlier)), bounds, known)
    if _next_size(size, newest, bounds, known or {}) is not None:
        return None
    ran_on = _at_least(size, newest, known or {})
    if newest.reason is Reason.OUT_OF_DISK:
        return f"no worker may have more disk than its {ran_on.disk_gib} GiB (ECS_WORKER_MAX_DISK_GIB)"
    without_cpu_bound = replace(bounds, most_cpu=max(FARGATE_MEMORY_MIB))
    by_cpu = _more_memory(size, ran_on.memory_mib, without_cpu_bound) is not None
    setting = "ECS_WORKER_MAX_CPU" if by_cpu else "ECS_WORKER_MAX_MEMORY_MIB"
    return f"no worker may have more memory than its {ran_on.memory_mib} MiB ({setting})"


def _next_size(size: WorkerSize, shortage: Shortage, bounds: SizeBounds, known: Sizes) -> WorkerSize | None:
    """What comes after `size`, and after what the shortage happened on; None when nothing does."""
    ran_on = _at_least(size, shortage, known)
    if shortage.reason is Reason.OUT_OF_DISK:
        disk = min(_disk_step(ran_on.disk_gib + 1), bounds.most_disk_gib)
        return replace(size, disk_gib=disk) if disk > ran_on.disk_gib else None
    pair = _more_memory(size, ran_on.memory_mib, bounds)
    return None if pair is None else WorkerSize(*pair, size.disk_gib)


def _at_least(size: WorkerSize, shortage: Shortage, known: Sizes) -> WorkerSize:
    """`size`, or more of what the worker had more of: a warm one may have been larger than was asked for."""
    ran_on = known.get(shortage.worker_id, size) if shortage.worker_id is not None else size
    return WorkerSize(size.cpu, max(size.memory_mib, ran_on.memory_mib), max(size.disk_gib, ran_on.disk_gib))


def _more_memory(size: WorkerSize, memory_mib: int, bounds: SizeBounds) -> tuple[int, int] | None:
    larger = [pair for pair in _pairs(bounds) if pair[0] >= size.cpu and pair[1] > memory_mib]
    enough = [pair for pair in larger if pair[1] >= _GROWTH * memory_mib]
    if enough:
        return min(enough)
    return max(larger, key=lambda pair: (pair[1], -pair[0]), default=None)


def _disk_step(disk_gib: int) -> int:
    return next((step for step in _DISK_STEPS_GIB if disk_gib <= step), MOST_DISK_GIB)


def _first_size(need: WorkerNeed, bounds: SizeBounds) -> WorkerSize:
    source = bounds.unknown_source_bytes if need.source_bytes is None else need.source_bytes
    factor = _DISK_FACTOR_OF.get(need.source_format, _DISK_FACTOR[need.source_format.family])
    disk = _DISK_FLOOR_GIB + _DISK_MORE_GIB.get(need.source_format, 0) + -int(-source * factor // _GIB)
    cpu, memory = _pair_for(source, bounds)
    return WorkerSize(cpu, memory, min(max(_disk_step(disk), bounds.least_disk_gib), bounds.most_disk_gib))


def _pair_for(source: int, bounds: SizeBounds) -> tuple[int, int]:
    """CPU units and MiB, as its bytes ask for, or the most there is."""
    cpu, memory = next((cpu, memory) for below, cpu, memory in _STEPS if source < below)
    pairs = _pairs(bounds)
    return min((pair for pair in pairs if pair[0] >= cpu and pair[1] >= memory), default=pairs[-1])


@cache
def _pairs(bounds: SizeBounds) -> list[tuple[int, int]]:
    return sorted(
        (cpu, memory)
        for cpu, memories in FARGATE_MEMORY_MIB.items()
        for memory in memories
        if bounds.least_cpu <= cpu <= bounds.most_cpu
        and bounds.least_memory_mib <= memory <= bounds.most_memory_mib
    )
