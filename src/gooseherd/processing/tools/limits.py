"""The resource limits of each tool process, and the command that sets them before it executes the tool.

| limit | value | beyond it |
| --- | --- | --- |
| RLIMIT_DATA | the tool's share of the worker's memory | an allocation fails: out_of_memory |
| RLIMIT_CPU | the attempt's wall time on each of its threads | SIGXCPU, soon SIGKILL: deadline_exceeded |
| RLIMIT_FSIZE | the step's scratch | SIGXFSZ: out_of_disk |
| RLIMIT_NOFILE | 1,024 | an open fails: tool_failed |
| RLIMIT_NPROC | 256 in a sandbox; else 4,096 above what runs already | a fork or thread fails: tool_failed |
| RLIMIT_CORE | 0 | no core dump |

RLIMIT_DATA and not RLIMIT_AS: what a program only reserves (arenas of malloc, maps of files and
libraries) is no memory; samtools with 256 MiB to sort in needs 320 MiB of the one and 640 of the
other. RLIMIT_NPROC counts all that a user runs, but in a user namespace of its own only what
runs there; it does not hold for root. Wall time is the attempt's (worker/watchdog.py).

The system calls that no tool needs are refused where our own program sets the limits
(kernel/hold/filter.c, docs/adr/0011-a-filter-of-system-calls.md).
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gooseherd.processing.bundled import find_program

PROGRAM: Final = "gooseherd-hold"

OPEN_FILES: Final = 1024
"""samtools keeps 64 temporary files at most, sort 16, the kernel one."""
PROCESSES: Final = 256
"""Processes and threads of all tools of an attempt; four stages of 64 threads are never reached."""

_OTHER_PROCESSES: Final = 4096
"""Outside a sandbox every process of the user counts: how many more may be started while a tool runs."""
_CPU_GRACE_SECONDS: Final = 5
"""From SIGXCPU, at which sort removes its files, to SIGKILL."""
_WORKER_BYTES: Final = 256 << 20
"""Bytes for the worker itself: entrypoint, server, fork server and attempt."""
_MEMORY_FACTOR: Final = 1.5
"""What sort, samtools and the kernel need for each byte they are told to sort in, measured at 1.25 to 1.5."""
_LEAST_TOOL_BYTES: Final = 256 << 20
"""Of any program: numpy below pysam alone takes 100 MiB."""


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """Limits of each process. `memory_bytes` and `cpu_seconds` None: those of this process."""

    memory_bytes: int | None = None
    cpu_seconds: int | None = None
    open_files: int = OPEN_FILES
    processes: int = PROCESSES

    def command(
        self, file_bytes: int, *, alone: bool, filtered: bool = True, hold: Path | None = None
    ) -> tuple[str, ...]:
        """The command to put before a tool's argv; `alone`: in a user namespace of the tools' own.

        `hold` is our program, which also filters system calls if `filtered`. Without it two programs
        of util-linux set the limits; every Debian has them.

        Setting limits from outside, after the start, would come too late for what a program does
        first; between fork and exec no Python may run in a process with threads. The tool dies
        with its parent, and gains nothing by running a program that would raise its rights.
        """
        limits = (
            "--core=0",
            f"--fsize={_capped(resource.RLIMIT_FSIZE, file_bytes)}",
            f"--nofile={_capped(resource.RLIMIT_NOFILE, self.open_files)}",
            *self._data(),
            *self._cpu(),
            *self._nproc(alone=alone),
        )
        if hold is not None:
            return (str(hold), *limits, *(("--filter",) if filtered else ()), "--")
        return ("prlimit", *limits, "--", "setpriv", "--no-new-privs", "--pdeathsig=KILL", "--")

    def _data(self) -> tuple[str, ...]:
        if self.memory_bytes is None:
            return ()
        return (f"--data={_capped(resource.RLIMIT_DATA, self.memory_bytes)}",)

    def _cpu(self) -> tuple[str, ...]:
        if self.cpu_seconds is None:
            return ()
        soft, killed = self.cpu_seconds, self.cpu_seconds + _CPU_GRACE_SECONDS
        return (f"--cpu={_capped(resource.RLIMIT_CPU, soft)}:{_capped(resource.RLIMIT_CPU, killed)}",)

    def _nproc(self, *, alone: bool) -> tuple[str, ...]:
        running = 0 if alone else _running_processes()
        if running is None:
            return ()
        most = running + (self.processes if alone else _OTHER_PROCESSES)
        return (f"--nproc={_capped(resource.RLIMIT_NPROC, most)}",)


def find_hold() -> Path | None:
    """The path of gooseherd-hold; None where it is not built."""
    return find_program(PROGRAM)


def tool_memory(worker_bytes: int, *caps: int) -> int | None:
    """What one tool may allocate on a worker with so much memory; None when that is not known.

    Never less than a tool needs that keeps to its cap (bytes it is told to sort in).
    """
    if worker_bytes <= 0:
        return None
    return max(
        worker_bytes - _WORKER_BYTES,
        worker_bytes // 2,
        int(_MEMORY_FACTOR * max(caps, default=0)),
        _LEAST_TOOL_BYTES,
    )


def sort_memory(worker_bytes: int) -> int:
    """What a tool is told to sort in on a worker with so much memory: it then keeps within `tool_memory`."""
    if worker_bytes <= 0:
        return _LEAST_TOOL_BYTES
    return int(max(worker_bytes - _WORKER_BYTES, worker_bytes // 2) / _MEMORY_FACTOR)


def _running_processes() -> int | None:
    """Processes and threads on this machine, of all users: the user's own are no more than that. proc(5)."""
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return None


def _capped(which: int, most: int) -> int:
    hard = resource.getrlimit(which)[1]
    return most if hard == resource.RLIM_INFINITY else min(most, hard)
