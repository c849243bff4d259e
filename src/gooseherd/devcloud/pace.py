"""How fast time passes in the local cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

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
