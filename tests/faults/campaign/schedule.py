"""What goes wrong when: decided by the seed alone, before anything runs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Action(StrEnum):
    """Whom it befalls is decided as it happens, by `Trouble.which`, among those that are there then."""

    KILL_WORKER = "kill_worker"
    KILL_ATTEMPT = "kill_attempt"
    """Any process below a worker: the attempt, a tool, the fork server."""
    KILL_API = "kill_api"
    KILL_STORE = "kill_store"
    PAUSE_WORKER = "pause_worker"
    PAUSE_API = "pause_api"
    PAUSE_STORE = "pause_store"
    RECLAIM_WORKER = "reclaim_worker"
    RESTART_API = "restart_api"
    NO_CAPACITY = "no_capacity"
    THROTTLE_FLEET = "throttle_fleet"
    FAIL_FLEET = "fail_fleet"
    HIDE_FLEET = "hide_fleet"
    TASK_DIES = "task_dies"
    TASK_STARTS_LATE = "task_starts_late"
    TASK_NEVER_HEALTHY = "task_never_healthy"
    STORAGE_FAILS = "storage_fails"
    STORAGE_BREAKS_OFF = "storage_breaks_off"
    STORAGE_SLOW = "storage_slow"
    CLEAR = "clear"
    """No more faults of the cloud from here on."""

    @property
    def kills(self) -> bool:
        """SIGKILL to a process of ours or of the store."""
        return self.startswith("kill_")

    @property
    def pauses(self) -> bool:
        """SIGSTOP, and SIGCONT after `Trouble.seconds`."""
        return self.startswith("pause_")


_A_MINUTE: Final = {
    Action.KILL_WORKER: 12.0,
    Action.KILL_ATTEMPT: 4.0,
    Action.KILL_API: 4.0,
    Action.KILL_STORE: 1.0,
    Action.PAUSE_WORKER: 1.5,
    Action.PAUSE_API: 1.0,
    Action.PAUSE_STORE: 0.5,
    Action.RECLAIM_WORKER: 1.0,
    Action.RESTART_API: 1.0,
    Action.NO_CAPACITY: 1.0,
    Action.THROTTLE_FLEET: 1.0,
    Action.FAIL_FLEET: 1.0,
    Action.HIDE_FLEET: 0.3,
    Action.TASK_DIES: 1.0,
    Action.TASK_STARTS_LATE: 1.0,
    Action.TASK_NEVER_HEALTHY: 0.5,
    Action.STORAGE_FAILS: 1.5,
    Action.STORAGE_BREAKS_OFF: 1.5,
    Action.STORAGE_SLOW: 1.0,
    Action.CLEAR: 2.0,
}
"""How often each happens."""

_LASTS: Final = {
    Action.PAUSE_WORKER: (1.0, 25.0),  # longer than makes a worker lost
    Action.PAUSE_API: (1.0, 12.0),  # longer than a lease
    Action.PAUSE_STORE: (0.5, 4.0),
    Action.KILL_STORE: (0.0, 3.0),
    Action.HIDE_FLEET: (2.0, 15.0),
    Action.TASK_STARTS_LATE: (1.0, 10.0),
    Action.STORAGE_SLOW: (0.1, 2.0),
}
"""Seconds; of a store that is killed: until it is started again."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that goes wrong, `at` seconds from the beginning."""

    at: float
    action: Action
    which: float
    """0 to 1: whom it befalls, or which kind of it."""
    times: int
    seconds: float


def schedule(seed: int, minutes: float) -> Sequence[Trouble]:
    """All that goes wrong within `minutes`, in order; equal arguments give equal schedules."""
    chance = random.Random(f"schedule {seed}")
    rate = sum(_A_MINUTE.values()) / 60
    found: list[Trouble] = []
    at = chance.expovariate(rate)
    while at < 60 * minutes:
        (action,) = chance.choices(list(_A_MINUTE), list(_A_MINUTE.values()))
        seconds = chance.uniform(*_LASTS.get(action, (0.0, 0.0)))
        found.append(Trouble(at, action, chance.random(), chance.randint(1, 4), seconds))
        at += chance.expovariate(rate)
    return found
