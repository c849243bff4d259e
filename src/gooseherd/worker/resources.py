"""The memory and cores of this worker, and whether the kernel killed a process for want of memory.

Control groups as in the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gooseherd.domain.quantities import tool_threads
from gooseherd.processing.tools.limits import ToolLimits, sort_memory, tool_memory

if TYPE_CHECKING:
    from gooseherd.worker.settings import WorkerSettings

_ROOT: Final = Path("/")


def oom_kills(root: Path = _ROOT) -> int:
    """Number of processes killed so far: in our control group where it counts them, else on this machine.

    0 when nothing counts them. Only an increase means something.
    """
    for folder in _groups(root):
        for name in ("memory.events", "memory.oom_control"):
            if (count := _counts(folder / name).get("oom_kill")) is not None:
                return count
    return _counts(root / "proc/vmstat").get("oom_kill", 0)


def memory_bytes(root: Path = _ROOT) -> int:
    """What this machine has, or less where a control group that we see limits us."""
    total = _counts(root / "proc/meminfo", suffix=":").get("MemTotal", 0) << 10
    limits = [total] if total else []
    for folder in _groups(root):
        for ancestor in (folder, *folder.parents):
            texts = [_text(ancestor / name).strip() for name in ("memory.max", "memory.limit_in_bytes")]
            # "max", or in version 1 a number beyond all memory: no limit.
            limits += [int(number) for number in texts if number.isdigit()]
            if ancestor.name in ("cgroup", "memory"):
                break
    return min(limits, default=0)


def cores(root: Path = _ROOT) -> int:
    """Those that this process may use; a control group's share of time counts as so many, rounded up."""
    shares = [len(os.sched_getaffinity(0))]
    for folder in _groups(root):
        quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
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


def _groups(root: Path) -> Iterator[Path]:
    """Where our memory is accounted. cgroups(7): 0::/path is version 2, n:memory:/path version 1."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        inside = path.strip("/")
        if number == "0" and not controllers:
            yield root / "sys/fs/cgroup" / inside
        elif "memory" in controllers.split(","):
            # Inside a container the path is the host's, and what is mounted is our own group.
            yield root / "sys/fs/cgroup/memory" / inside
            yield root / "sys/fs/cgroup/memory"


def _counts(path: Path, suffix: str = "") -> dict[str, int]:
    pairs = (line.split()[:2] for line in _text(path).splitlines())
    return {
        pair[0].removesuffix(suffix): int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()
    }


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
