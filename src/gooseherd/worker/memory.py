"""Whether the kernel killed something of ours for want of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")


def oom_kills() -> int:
    """How often that happened in our control group so far; 0 when it cannot be known.

    From memory.events of cgroup v2 (the kernel's Documentation/admin-guide/cgroup-v2.rst).
    """
    try:
        # cgroups(7): "0::/path" is the v2 entry.
        entry = next(
            line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")
        )
        events = (_CGROUPS / entry[3:].strip("/") / "memory.events").read_text()
    except (OSError, StopIteration):
        return 0
    counts = dict(line.split() for line in events.splitlines())
    return int(counts.get("oom_kill", 0))
