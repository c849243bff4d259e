"""What a service's scheduler does next: pure. Rolling deployments as ECS makes them, in whole tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

FAILURES_AT_LEAST: Final = 3
"""ECS's circuit breaker: half the desired count, but three at least and 200 at most."""


@dataclass(frozen=True, slots=True)
class ServiceTask:
    """A task of the service that nobody has told to stop."""

    task_id: str
    current: bool
    """Whether it is of the deployment that is to stay."""
    ready: bool
    """It takes requests."""
    broken: bool
    """Its health checks fail."""


@dataclass(frozen=True, slots=True)
class Step:
    """Start so many of the current deployment, and stop these."""

    start: int
    stop: tuple[str, ...]


def plan_step(
    tasks: Sequence[ServiceTask],
    desired: int,
    least_percent: int,
    most_percent: int,
    *,
    may_start: bool = True,
) -> Step:
    """The next step towards `desired` ready tasks of the current deployment.

    Never more than `most_percent` of them at a time; of those that are ready never fewer than
    `least_percent`, except for those that are broken.
    """
    most = math.floor(desired * most_percent / 100)
    least = math.ceil(desired * least_percent / 100)
    broken = [task for task in tasks if task.broken]
    current = [task for task in tasks if task.current and not task.broken]
    older = [task for task in tasks if not task.current and not task.broken]
    stop = [task.task_id for task in broken]
    start = max(0, min(desired - len(current), most - len(current) - len(older))) if may_start else 0
    ready = sum(task.ready for task in current) + sum(task.ready for task in older)
    for task in sorted(older, key=lambda one: one.ready):
        if not task.ready and (len(current) >= desired or desired == 0):
            stop.append(task.task_id)
        elif task.ready and ready - 1 >= least:
            stop.append(task.task_id)
            ready -= 1
    surplus = len(current) - desired
    stop += [task.task_id for task in sorted(current, key=lambda one: one.ready)[: max(0, surplus)]]
    return Step(start, tuple(stop))


def failures_allowed(desired: int) -> int:
    """From how many failed starts on a deployment is given up."""
    return max(FAILURES_AT_LEAST, min(200, math.ceil(desired / 2)))
