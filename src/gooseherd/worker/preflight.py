"""The preflight of a worker (`--doctor`): its image has no `gooseherd doctor`."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

from gooseherd.installation import remedy
from gooseherd.processing.tools.limits import OPEN_FILES
from gooseherd.processing.tools.preflight import Check, Report, disk, soft_limit, tools, writable
from gooseherd.worker.resources import tool_limits, with_machine_sizes
from gooseherd.worker.selfcheck import missing_tools
from gooseherd.worker.settings import WorkerSettings, build_id


def examine(settings: WorkerSettings, work_dir: Path) -> Report:
    """Check what attempts of this worker need. Takes seconds; blocks."""
    checks = (
        *tools(settings.sandbox, os.environ, settings.readable),
        _libraries(),
        _memory(settings),
        _open_files(),
        writable("work folder", work_dir, "WORKER_WORK_DIR"),
        disk(work_dir),
    )
    return Report("worker", checks, {"build": build_id(), "user": os.getuid()})


def _libraries() -> Check:
    """The checks that a worker makes at its start."""
    missing = asyncio.run(missing_tools())
    if missing:
        install = remedy(
            checkout="install them",
            package="install them; libraries of Python: pip install --force-reinstall gooseherd",
            image="build the image anew: ./dev images",
        )
        return Check("self-check", "missing", ", ".join(missing), f"{install}; /health is 503 without")
    return Check("self-check", "ok", "all that attempts start and import is here")


def _memory(settings: WorkerSettings) -> Check:
    given = tool_limits(with_machine_sizes(settings)).memory_bytes
    if given is None:
        return Check("memory", "warn", "a tool may take all there is", "set WORKER_MEMORY_BYTES")
    return Check("memory", "ok", f"{given >> 20} MiB for each tool")


def _open_files() -> Check:
    """Each tool gets OPEN_FILES, unless the worker's own limit is lower."""
    remedy = f"ulimit nofile {OPEN_FILES} in the task definition"
    return soft_limit("open files", resource.RLIMIT_NOFILE, OPEN_FILES, remedy)
