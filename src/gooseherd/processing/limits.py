"""What each process of a tool may use: the command that sets its limits and then becomes the tool.

| limit | value | beyond it |
| --- | --- | --- |
| RLIMIT_DATA | the tool's share of the worker's memory | an allocation fails: out_of_memory |
| RLIMIT_FSIZE | the step's scratch | SIGXFSZ: out_of_disk |
| RLIMIT_NOFILE | 1,024 | an open fails: tool_failed |
| RLIMIT_NPROC | 256, in a sandbox only | a fork or thread fails: tool_failed |
| RLIMIT_CORE | 0 | no core dump |

RLIMIT_DATA and not RLIMIT_AS: what a program only reserves (arenas of malloc, maps of files and
libraries) is no memory; samtools with 256 MiB to sort in needs 320 MiB of the one and 640 of the
other. RLIMIT_NPROC counts all that a user runs, but in a user namespace of its own only what
runs there; it does not hold for root. Wall time is the attempt's (worker/lifeline.py).
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Final

OPEN_FILES: Final = 1024
"""samtools keeps 64 temporary files at most, sort 16, the kernel one."""
PROCESSES: Final = 256
"""Processes and threads of all tools of an attempt; four stages of 64 threads are never reached."""

_OURS: Final = 256 << 20
"""Bytes for the worker itself: entrypoint, server, template and attempt."""
_ROOM: Final = 1.5
"""What sort, samtools and the kernel need for each byte they are told to sort in, measured at 1.25 to 1.5."""
_LEAST: Final = 256 << 20
"""Of any program: numpy below pysam alone takes 100 MiB."""


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """Of each process. `memory_bytes` None: what this process may have."""

    memory_bytes: int | None = None
    open_files: int = OPEN_FILES
    processes: int = PROCESSES

    def command(self, file_bytes: int, *, alone: bool) -> tuple[str, ...]:
        """To put before a tool's argv; `alone`: in a user namespace of the tools' own.

        Setting limits from outside, after the start, would come too late for what a program does
        first; between fork and exec no Python may run in a process with threads. Both programs
        are util-linux, which every Debian has. The tool dies with its parent, and gains nothing by
        running a program that would raise its rights.
        """
        wanted = [
            ("fsize", resource.RLIMIT_FSIZE, file_bytes),
            ("nofile", resource.RLIMIT_NOFILE, self.open_files),
        ]
        if self.memory_bytes is not None:
            wanted.append(("data", resource.RLIMIT_DATA, self.memory_bytes))
        if alone:
            wanted.append(("nproc", resource.RLIMIT_NPROC, self.processes))
        return (
            "prlimit",
            "--core=0",
            *(f"--{name}={_within(which, most)}" for name, which, most in wanted),
            "--",
            "setpriv",
            "--no-new-privs",
            "--pdeathsig=KILL",
        )


def tool_memory(worker_bytes: int, *caps: int) -> int | None:
    """What one tool may allocate on a worker with so much memory; None when that is not known.

    Never less than a tool needs that keeps to its cap (bytes it is told to sort in).
    """
    if worker_bytes <= 0:
        return None
    return max(worker_bytes - _OURS, worker_bytes // 2, int(_ROOM * max(caps, default=0)), _LEAST)


def _within(which: int, most: int) -> int:
    hard = resource.getrlimit(which)[1]
    return most if hard == resource.RLIM_INFINITY else min(most, hard)
