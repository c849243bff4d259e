"""Whether the kernel killed a process for want of memory, and where it accounts ours.

Control groups as in the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/")


def oom_kills(root: Path = _ROOT) -> int:
    """Number of processes killed so far: in our control group where it counts them, else on this machine.

    0 when nothing counts them. Only an increase means something.
    """
    for folder in groups(root):
        for name in ("memory.events", "memory.oom_control"):
            if (count := counts(folder / name).get("oom_kill")) is not None:
                return count
    return counts(root / "proc/vmstat").get("oom_kill", 0)


def groups(root: Path = _ROOT) -> Iterator[Path]:
    """Where our memory is accounted. cgroups(7): 0::/path is version 2, n:memory:/path version 1."""
    for line in text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        inside = path.strip("/")
        if number == "0" and not controllers:
            yield root / "sys/fs/cgroup" / inside
        elif "memory" in controllers.split(","):
            # Inside a container the path is the host's, and what is mounted is our own group.
            yield root / "sys/fs/cgroup/memory" / inside
            yield root / "sys/fs/cgroup/memory"


def counts(path: Path, suffix: str = "") -> dict[str, int]:
    """Lines of a name and a number; of a file that is not there none."""
    pairs = (line.split()[:2] for line in text(path).splitlines())
    return {
        pair[0].removesuffix(suffix): int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()
    }


def text(path: Path) -> str:
    """The file's content; empty when it cannot be read."""
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
