"""The local cloud's configuration: addresses, folders, images, and how fast time passes there."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

OF_THE_MACHINE: Final = frozenset(
    {"PATH", "HOME", "LANG", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    | {"COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"}
)
"""Of the environment no more than what an image would bring along, so that a variable the
task definition forgot is missing here as it would be on AWS."""
SPOT_NOTICE_SECONDS: Final = 120.0
"""Fargate Spot's warning before it kills (developer guide)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds a task spends in each state; `scale` multiplies all times, also those of health checks.

    A health check's timeout and start period are not: a program does not run or start faster in
    a scaled cloud. (One that is never to be healthy is not waited for.)
    """

    provisioning: float = 0.0
    pending: float = 0.0
    activating: float = 0.0
    deactivating: float = 0.0
    deprovisioning: float = 0.0
    scale: float = 1.0

    def seconds(self, duration: float) -> float:
        """That time as it passes here."""
        return duration * self.scale


PACES: Final[Mapping[str, Pace]] = {
    "instant": Pace(scale=0.1),
    "fargate": Pace(provisioning=9, pending=22, activating=2, deactivating=2, deprovisioning=12),
}
"""`fargate` is about what a small image in ECR takes, seen from the API."""


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
            "AWS_ACCESS_KEY_ID": "devcloud",
            "AWS_SECRET_ACCESS_KEY": "devcloud",
        }


class NoAddressLeft(Exception):
    """Every address of the subnet is taken."""


class AddressPool:
    """Loopback addresses, one per live task; a freed one is reused as late as possible.

    Linux answers on all of 127.0.0.0/8 without configuration; elsewhere the addresses have
    to be added to the loopback interface first.
    """

    def __init__(self, network: ipaddress.IPv4Network) -> None:
        if not network.is_loopback:
            raise ValueError(f"{network} is not loopback")
        self._network = network
        self._hosts = self._cycle()
        self._taken: set[str] = set()

    def take(self) -> str:
        """An address nobody has. Raises NoAddressLeft."""
        for _ in range(self._network.num_addresses):
            address = next(self._hosts)
            if address not in self._taken:
                self._taken.add(address)
                return address
        raise NoAddressLeft

    def give_back(self, address: str) -> None:
        """It is free again."""
        self._taken.discard(address)

    def _cycle(self) -> Iterator[str]:
        while True:
            yield from map(str, self._network.hosts())


def own_network(port: int) -> ipaddress.IPv4Network:
    """254 loopback addresses that belong to whoever listens on that port: no two local clouds share one."""
    return ipaddress.IPv4Network((f"127.{port >> 8}.{port & 255}.0", 24))
