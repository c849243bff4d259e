"""How one worker is started: its command line, and what it refuses to start with."""

from __future__ import annotations

import argparse
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gooseherd.domain.errors import Misconfigured
from gooseherd.environment import WORKER_HEALTH_PORT, WORKER_PORT
from gooseherd.worker import container, tls

UNNAMED: Final = "worker"
"""Of a worker whose fleet names it by its task."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line; each flag has a twin in the environment, WORKER_ and its name."""

    host: str | None
    """None: where the platform wants it, else loopback."""
    port: int
    worker_id: str
    work_dir: Path
    announce: Path | None
    health_port: int | None
    """None: no health port, which the local form has no use for."""
    doctor: bool = False
    """Print a preflight report instead of serving."""


def parse(argv: Sequence[str] | None = None) -> Options:
    """Flags win over the environment. Exits with status 2 when one is missing or wrong."""
    env = os.environ
    in_task = container.in_task(env)
    parser = argparse.ArgumentParser(prog="gooseherd.worker.main", description="Run one gooseherd worker.")
    parser.add_argument(
        "--host",
        default=env.get("WORKER_HOST"),
        help="address to bind; default: BIND_HOST, else the task's own, else loopback",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=env.get("WORKER_PORT") or (WORKER_PORT if in_task else 0),
        help="0: any free port",
    )
    parser.add_argument("--worker-id", default=env.get("WORKER_ID", UNNAMED))
    parser.add_argument(
        "--work-dir", type=Path, default=env.get("WORKER_WORK_DIR"), help="this worker's alone"
    )
    parser.add_argument(
        "--announce", type=Path, default=env.get("WORKER_ANNOUNCE"), help="JSON file, when ready"
    )
    parser.add_argument(
        "--health-port",
        type=int,
        default=env.get("WORKER_HEALTH_PORT") or (WORKER_HEALTH_PORT if in_task else None),
        help="for GET /health; default: none outside a task",
    )
    parser.add_argument(
        "--doctor",
        action="store_true",
        help="print a preflight report as JSON, and exit",
    )
    given = parser.parse_args(argv)
    work_dir = given.work_dir or (container.own_work_dir(env) if in_task else None)
    if work_dir is None:
        parser.error("--work-dir or WORKER_WORK_DIR is required")
    return Options(
        given.host,
        given.port,
        given.worker_id,
        work_dir.absolute(),
        given.announce,
        given.health_port,
        given.doctor,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check(host: str, certificates: tls.Certificates | None) -> None:
    """Raises Misconfigured for an open port that others could reach: who reaches it runs code here."""
    if not is_loopback(host) and certificates is None:
        raise Misconfigured(
            ", ".join(tls.VARIABLES),
            "needed outside loopback: without mutual TLS the port runs anybody's code",
        )
