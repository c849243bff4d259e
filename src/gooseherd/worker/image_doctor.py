"""What `gooseherd doctor` says of a machine, said of a worker's image, which has no such command."""

from __future__ import annotations

import asyncio
import os
import resource
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gooseherd.installation import remedy
from gooseherd.processing.tools.limits import OPEN_FILES
from gooseherd.processing.tools.preflight import Check, disk, tools, writable
from gooseherd.worker.resources import fitted, tool_limits
from gooseherd.worker.selfcheck import missing_tools
from gooseherd.worker.settings import WorkerSettings, build_id


def examine(settings: WorkerSettings, work_dir: Path) -> dict[str, Any]:
    """profile, ok, build, user and checks, as `gooseherd doctor --json` has them. Takes seconds; blocks."""
    checks = [
        *tools(settings.sandbox, os.environ),
        _libraries(),
        _memory(settings),
        _open_files(),
        writable("work folder", work_dir, "WORKER_WORK_DIR"),
        disk(work_dir),
    ]
    return {
        "profile": "worker",
        "ok": all(check.state != "missing" for check in checks),
        "build": build_id(),
        "user": os.getuid(),
        "checks": [asdict(check) for check in checks],
    }


def _libraries() -> Check:
    """And what else a worker looks for at its start."""
    missing = asyncio.run(missing_tools())
    if missing:
        words = remedy(
            checkout="install them",
            package="install them; libraries of Python: pip install --force-reinstall gooseherd",
            image="build the image anew: ./dev images",
        )
        return Check("self-check", "missing", ", ".join(missing), f"{words}; /health is 503 without")
    return Check("self-check", "ok", "all that attempts start and import is here")


def _memory(settings: WorkerSettings) -> Check:
    given = tool_limits(fitted(settings)).memory_bytes
    if given is None:
        return Check("memory", "warn", "a tool may take all there is", "set WORKER_MEMORY_BYTES")
    return Check("memory", "ok", f"{given >> 20} MiB for each tool")


def _open_files() -> Check:
    """A tool gets its own number; less than that for all is what hurts."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= OPEN_FILES:
        return Check("open files", "ok", f"limit {soft}")
    return Check("open files", "warn", f"limit {soft}", f"ulimit nofile {OPEN_FILES} in the task definition")
