"""Every environment variable that a worker reads.

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

from gooseherd import __version__, environment
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.keys import PIPELINE_VERSION
from gooseherd.domain.quantities import size_in_bytes
from gooseherd.environment import read
from gooseherd.processes import ProcessId
from gooseherd.processing.tools.isolation import SandboxUse
from gooseherd.sources.rules import OutboundRules

_FOR_ATTEMPTS: Final = frozenset(
    {"PATH", "LANG", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "SYNC_DATA_DIR"}
    | {"WORKER_THREADS", "WORKER_MEMORY_BYTES", "WORKER_SANDBOX"}
    | {"WORKER_READABLE_PATHS", "WORKER_HIDDEN_PATHS"}
    | {
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "LD_LIBRARY_PATH",
        "COVERAGE_PROCESS_START",
        "COVERAGE_PROCESS_CONFIG",
    }
)
_PREFIXES_FOR_ATTEMPTS: Final = ("SOURCE_", "CFDB_", "LC_", "GOOSEHERD_LOG_")
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
    """The version of this code; the API and the worker of an attempt must have the same."""
    return os.environ.get("GOOSEHERD_BUILD") or f"{__version__}+p{PIPELINE_VERSION}"


def attempt_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables of a worker that its attempts inherit: none of the worker's own, no certificates.

    Credentials are those of its bucket, and only when there is one.
    """
    names = _FOR_ATTEMPTS | (_FOR_ATTEMPTS_ON_S3 if inherited.get("WORKFLOW_S3_BUCKET") else frozenset())
    return {
        name: value
        for name, value in inherited.items()
        if name in names or name.startswith(_PREFIXES_FOR_ATTEMPTS)
    }


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """What the process that runs the routines gets from the entrypoint."""

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
    region: str = environment.REGION
    """AWS_REGION of the bucket."""
    endpoint_url: str | None = None
    """AWS_ENDPOINT_URL of a cloud other than AWS."""
    idle_timeout: float = environment.IDLE_TIMEOUT_SECONDS
    """WORKER_IDLE_TIMEOUT_SECONDS: with no live attempt for that long it ends. 0: never."""
    keep: float = 0.0
    """WORKER_KEEP_SECONDS: so long after its start it does not end for being idle; `keep` prolongs it."""
    max_lifetime: float = environment.MAX_LIFETIME_SECONDS
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
    readable: tuple[Path, ...] = ()
    """WORKER_READABLE_PATHS: what tools in a sandbox may read besides what belongs to programs."""
    outbound: OutboundRules = field(default_factory=OutboundRules)
    """SOURCE_…: what may be fetched."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read the process's environment, or the one given.

        Raises:
            Misconfigured: naming the variable and what it should be.
        """
        env = os.environ if env is None else env
        data_dir = env.get("SYNC_DATA_DIR")
        if data_dir and not Path(data_dir).is_absolute():
            raise Misconfigured("SYNC_DATA_DIR", "an absolute path: workers have their own working folder")
        return cls(
            data_dir=Path(data_dir) if data_dir else None,
            bucket=env.get("WORKFLOW_S3_BUCKET") or None,
            bucket_prefix=env.get("WORKFLOW_S3_PREFIX", ""),
            region=env.get("AWS_REGION") or environment.REGION,
            endpoint_url=env.get("AWS_ENDPOINT_URL") or None,
            idle_timeout=read(env, "WORKER_IDLE_TIMEOUT_SECONDS", environment.seconds, cls.idle_timeout),
            keep=read(env, "WORKER_KEEP_SECONDS", environment.seconds, cls.keep),
            max_lifetime=read(env, "WORKER_MAX_LIFETIME_SECONDS", environment.seconds, cls.max_lifetime),
            sort_memory=read(env, "CFDB_SORT_MEMORY_CAP", environment.cap, cls.sort_memory),
            samtools_memory=read(env, "CFDB_SAMTOOLS_MEMORY_CAP", environment.cap, cls.samtools_memory),
            threads=read(env, "WORKER_THREADS", environment.threads, cls.threads),
            memory=read(env, "WORKER_MEMORY_BYTES", size_in_bytes, cls.memory),
            sandbox=read(env, "WORKER_SANDBOX", _sandbox, cls.sandbox),
            readable=read(env, "WORKER_READABLE_PATHS", _absolute_paths, cls.readable),
            outbound=OutboundRules.from_env(env),
        )


def _absolute_paths(text: str) -> tuple[Path, ...]:
    return environment.absolute(tuple(map(Path, environment.words(text, os.pathsep))))


def _sandbox(text: str) -> SandboxUse:
    try:
        return SandboxUse(text)
    except ValueError:
        raise ValueError(f"one of {', '.join(SandboxUse)}") from None
