"""Every environment variable a worker reads, once.

A worker is started by a fleet or a container platform, so its environment is its whole
configuration; the attempt process inherits the part of it that it needs and no more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from gooseherd import __version__
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.keys import PIPELINE_VERSION
from gooseherd.domain.quantities import LEAST_CAP, MOST_THREADS, SIZE_HINT, size_in_bytes
from gooseherd.processes import ProcessId
from gooseherd.processing.tools.isolation import SandboxUse
from gooseherd.sources.rules import OutboundRules

_FOR_ATTEMPTS: Final = frozenset(
    {"PATH", "LANG", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "SYNC_DATA_DIR"}
    | {"WORKER_THREADS", "WORKER_MEMORY_BYTES", "WORKER_SANDBOX"}
    | {
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "LD_LIBRARY_PATH",
        "COVERAGE_PROCESS_START",
        "COVERAGE_PROCESS_CONFIG",
    }
)
_PREFIXES_FOR_ATTEMPTS: Final = ("SOURCE_", "CFDB_", "LC_")
_FOR_ATTEMPTS_ON_S3: Final = frozenset(
    {"WORKFLOW_S3_BUCKET", "WORKFLOW_S3_PREFIX", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"}
    # A task's role: botocore asks the address these name (ECS: container credentials provider).
    | {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"}
    | {"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}
    # A local cloud's made-up ones.
    | {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_EC2_METADATA_DISABLED"}
)
"""Only when artifacts go to a bucket. Tools get none of it: they see an environment made for them."""


def build_id() -> str:
    """What code this is; sender and worker of an attempt must agree on it."""
    return os.environ.get("GOOSEHERD_BUILD") or f"{__version__}+p{PIPELINE_VERSION}"


def attempt_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of a worker's environment that an attempt gets: no wiring of the worker, no certificates.

    Credentials are those of its bucket, and only when there is one.
    """
    names = _FOR_ATTEMPTS | (_FOR_ATTEMPTS_ON_S3 if environment.get("WORKFLOW_S3_BUCKET") else frozenset())
    return {
        name: value
        for name, value in environment.items()
        if name in names or name.startswith(_PREFIXES_FOR_ATTEMPTS)
    }


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """What the entrypoint tells the process that runs the routines."""

    work: Path
    entrypoint: ProcessId

    def export(self) -> None:
        """Put it into this process's environment, for children."""
        os.environ["WORKER_WORK_DIR"] = str(self.work)
        os.environ["WORKER_ENTRYPOINT"] = json.dumps(self.entrypoint.to_json())

    @classmethod
    def from_env(cls) -> Self:
        """Raises Misconfigured outside a worker."""
        try:
            entrypoint = ProcessId.from_json(json.loads(os.environ["WORKER_ENTRYPOINT"]))
            return cls(Path(os.environ["WORKER_WORK_DIR"]), entrypoint)
        except (KeyError, TypeError, ValueError):
            raise Misconfigured("WORKER_WORK_DIR", "routines run only inside a worker") from None


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """A worker's configuration; each field names its variable. Sizes in bytes, times in seconds."""

    data_dir: Path | None = None
    """SYNC_DATA_DIR: root of the local artifact cache."""
    bucket: str | None = None
    """WORKFLOW_S3_BUCKET: where artifacts go instead."""
    bucket_prefix: str = ""
    """WORKFLOW_S3_PREFIX: below which keys."""
    region: str = "us-east-1"
    """AWS_REGION of the bucket."""
    endpoint_url: str | None = None
    """AWS_ENDPOINT_URL of a cloud other than AWS."""
    idle_timeout: float = 300.0
    """WORKER_IDLE_TIMEOUT_SECONDS: with no live attempt for that long it ends. 0: never."""
    max_lifetime: float = 0.0
    """WORKER_MAX_LIFETIME_SECONDS: after that it takes no new attempts. 0: never."""
    sort_memory: int = 0
    """CFDB_SORT_MEMORY_CAP, such as 256M. 0: by the worker's memory."""
    samtools_memory: int = 0
    """CFDB_SAMTOOLS_MEMORY_CAP, such as 256M. 0: by the worker's memory."""
    threads: int = 0
    """WORKER_THREADS: of each tool. 0: by the worker's cores."""
    memory: int = 0
    """WORKER_MEMORY_BYTES: of the worker with all its tools. 0: what the machine or control group has."""
    sandbox: SandboxUse = SandboxUse.AUTO
    """WORKER_SANDBOX: auto, on or off."""
    outbound: OutboundRules = field(default_factory=OutboundRules)
    """SOURCE_…: what may be fetched."""

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the process's environment, or the one given.

        Raises:
            Misconfigured: naming the variable and what it should be.
        """
        env = os.environ if environment is None else environment
        data_dir = env.get("SYNC_DATA_DIR")
        if data_dir and not Path(data_dir).is_absolute():
            raise Misconfigured("SYNC_DATA_DIR", "an absolute path: workers have their own working folder")
        return cls(
            data_dir=Path(data_dir) if data_dir else None,
            bucket=env.get("WORKFLOW_S3_BUCKET") or None,
            bucket_prefix=env.get("WORKFLOW_S3_PREFIX", ""),
            region=env.get("AWS_REGION") or cls.region,
            endpoint_url=env.get("AWS_ENDPOINT_URL") or None,
            idle_timeout=_seconds(env, "WORKER_IDLE_TIMEOUT_SECONDS", cls.idle_timeout),
            max_lifetime=_seconds(env, "WORKER_MAX_LIFETIME_SECONDS", cls.max_lifetime),
            sort_memory=_bytes(env, "CFDB_SORT_MEMORY_CAP", cls.sort_memory, least=LEAST_CAP),
            samtools_memory=_bytes(env, "CFDB_SAMTOOLS_MEMORY_CAP", cls.samtools_memory, least=LEAST_CAP),
            threads=_count(env, "WORKER_THREADS", cls.threads),
            memory=_bytes(env, "WORKER_MEMORY_BYTES", cls.memory, least=0),
            sandbox=_sandbox(env, "WORKER_SANDBOX", cls.sandbox),
            outbound=OutboundRules.from_env(env),
        )


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1e9:
        raise Misconfigured(name, "a number of seconds, 0 or more")
    return value


def _count(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name)
    if not text:
        return default
    if not text.isdigit() or int(text) > MOST_THREADS:
        raise Misconfigured(name, f"a whole number from 1 to {MOST_THREADS}, or 0")
    return int(text)


def _sandbox(env: Mapping[str, str], name: str, default: SandboxUse) -> SandboxUse:
    try:
        return SandboxUse(env.get(name) or default)
    except ValueError:
        raise Misconfigured(name, f"one of {', '.join(SandboxUse)}") from None


def _bytes(env: Mapping[str, str], name: str, default: int, *, least: int = 1) -> int:
    text = env.get(name)
    if not text:
        return default
    try:
        value = size_in_bytes(text)
    except ValueError:
        value = -1
    if value != 0 and value < least:
        raise Misconfigured(name, f"{SIZE_HINT}, at least {least}, or 0")
    return value
