"""The local cloud's configuration: folders, images, and what every container finds in its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gooseherd.devcloud.pace import Pace

OF_THE_MACHINE: Final = frozenset(
    {"PATH", "HOME", "LANG", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    | {"COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"}
)
"""Of the environment no more than what an image would bring along, so that a variable the
task definition forgot is missing here as it would be on AWS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudConfiguration:
    """All that does not change while the local cloud runs."""

    state_dir: Path
    url: str
    pace: Pace
    images: Mapping[str, Sequence[str]]
    """Image name to the argv that stands for its entry point. `{address}` in it is the task's
    address and `{env_file}` a file of NAME=VALUE lines, for commands that start containers."""
    pass_env: Sequence[str] = ()
    keep_stopped_seconds: float = 3600.0
    """How long a stopped task can be described (the API promises an hour)."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def logs(self) -> Path:
        """A file per container."""
        return self.state_dir / "logs"

    @property
    def scratch(self) -> Path:
        """A folder per live task: its working directory and TMPDIR."""
        return self.state_dir / "tasks"

    def image_environment(self, region: str) -> dict[str, str]:
        """What every container finds, before its task definition speaks."""
        kept = {
            name: value
            for name, value in self.environment.items()
            if name in OF_THE_MACHINE or name in self.pass_env or name.startswith("LC_")
        }
        return {
            **kept,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
        }
