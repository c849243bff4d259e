"""The memory and cores of this worker, and what of them its tools may use."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gooseherd.domain.quantities import tool_threads
from gooseherd.processing.tools.control_groups import counts, groups, oom_kills, text
from gooseherd.processing.tools.limits import ToolLimits, sort_memory, tool_memory

if TYPE_CHECKING:
    from gooseherd.worker.settings import WorkerSettings

_ROOT: Final = Path("/")

__all__ = ["cores", "memory_bytes", "oom_kills", "tool_limits", "with_machine_sizes"]


def memory_bytes(root: Path = _ROOT) -> int:
    """What this machine has, or less where a control group that we see limits us."""
    total = counts(root / "proc/meminfo", suffix=":").get("MemTotal", 0) << 10
    limits = [total] if total else []
    for folder in groups(root):
        for ancestor in (folder, *folder.parents):
            texts = [text(ancestor / name).strip() for name in ("memory.max", "memory.limit_in_bytes")]
            # "max", or in version 1 a number beyond all memory: no limit.
            limits += [int(number) for number in texts if number.isdigit()]
            if ancestor.name in ("cgroup", "memory"):
                break
    return min(limits, default=0)


def cores(root: Path = _ROOT) -> int:
    """Those that this process may use; a control group's share of time counts as so many, rounded up."""
    shares = [len(os.sched_getaffinity(0))]
    for folder in groups(root):
        quota, _, period = text(folder / "cpu.max").strip().partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            shares.append(math.ceil(int(quota) / int(period)))
    return max(1, min(shares))


def with_machine_sizes(settings: WorkerSettings) -> WorkerSettings:
    """The settings with every 0 that means the worker's size replaced by that size."""
    memory = settings.memory or memory_bytes()
    share = sort_memory(memory)
    return replace(
        settings,
        memory=memory,
        sort_memory=settings.sort_memory or share,
        samtools_memory=settings.samtools_memory or share,
        threads=settings.threads or tool_threads(cores()),
    )


def tool_limits(settings: WorkerSettings, wall_seconds: float | None = None) -> ToolLimits:
    """Of each tool. `settings` come from `with_machine_sizes`, `wall_seconds` from the attempt, if any."""
    # Of all its threads together.
    cpu = None if wall_seconds is None else math.ceil(wall_seconds * settings.threads)
    return ToolLimits(tool_memory(settings.memory, settings.sort_memory, settings.samtools_memory), cpu)
