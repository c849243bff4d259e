"""`gooseherd worker`: one worker of this host, for services elsewhere (docs/hosts.md)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from gooseherd.environment import WORKER_HEALTH_PORT, WORKER_PORT


def worker(
    host: Annotated[
        str,
        typer.Option(envvar="WORKER_HOST", help="Address to listen on; beyond loopback it needs mutual TLS."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="WORKER_PORT", min=1, max=65535, help="Port for services.")] = (
        WORKER_PORT
    ),
    health_port: Annotated[
        int, typer.Option(envvar="WORKER_HEALTH_PORT", min=0, max=65535, help="Port of /health; 0: none.")
    ] = WORKER_HEALTH_PORT,
    work_dir: Annotated[
        Path, typer.Option(envvar="WORKER_WORK_DIR", help="Folder for attempts, this worker's alone.")
    ] = Path("/var/lib/gooseherd/work"),
    doctor: Annotated[bool, typer.Option("--doctor", help="Say what this machine has, and end.")] = False,
) -> None:
    """Run a worker until a signal. It does not end for being idle; one attempt at a time."""
    sys.stdout.flush()
    # In this process's place: whoever started it signals and watches the worker itself.
    os.execve(
        sys.executable,
        _argv(host, port, health_port, work_dir, doctor=doctor),
        _environment(os.environ),
    )


def _argv(host: str, port: int, health_port: int, work_dir: Path, *, doctor: bool) -> list[str]:
    return [
        *(sys.executable, "-m", "gooseherd.worker.main", "--host", host, "--port", str(port)),
        *(("--health-port", str(health_port)) if health_port else ()),
        *("--work-dir", str(work_dir), "--worker-id", f"{host}:{port}"),
        *(("--doctor",) if doctor else ()),
    ]


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    # Nobody launches it anew for the next file, as on ECS.
    given = {"WORKER_IDLE_TIMEOUT_SECONDS": "0", **environ}
    # It is on the command line, or there is none.
    given.pop("WORKER_HEALTH_PORT", None)
    return given
