"""What is known of the worker of one host, and how an observation changes it; pure.

observation                                   becomes
---------------------------------------------------------------------------------
it answers, for the first time                known by this instance
it answers, the same instance                 known like that
it answers, another instance                  the one before has ended; the new one is known
nothing listens, once                         not reachable
nothing listens, twice in a row               the one before has ended
it does not answer, or TLS fails              not reachable; not seeing it is not its end
it answers what no worker answers             the same
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHealth

_REFUSALS: Final = 2
_INSTANCE: Final = re.compile(r"[0-9A-Za-z]{1,64}")
_MOST_CHARACTERS: Final = 300
_MOST_ATTEMPTS: Final = 100
_LONGEST_UPTIME_SECONDS: Final = 1e9
STARTED_ANEW: Final = "the worker was started anew"
NOTHING_LISTENS: Final = "the worker ended: nothing listens on its port"
NONSENSE: Final = "it gave an answer that is not understood"


@dataclass(frozen=True, slots=True)
class Unreachable:
    """It was asked and did not answer. `refused`: the host did, and nothing listens there."""

    detail: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class HostState:
    """The worker of one address; `worker_id` is None until it answered, and after its end."""

    address: str
    worker_id: WorkerId | None = None
    reachable: bool = False
    asked: bool = False
    build: str = ""
    attempts: tuple[str, ...] = ()
    claimed_by: str = ""
    draining: bool = False
    started_at: float = 0.0
    """Unix seconds."""
    detail: str = ""
    refusals: int = 0

    @property
    def user(self) -> str | None:
        """The attempt it works for or is claimed for, whoever asked for that."""
        return next(iter(self.attempts), self.claimed_by or None)

    def usable(self, build: str) -> bool:
        """Whether it could be given an attempt, were it idle."""
        return self.reachable and not self.draining and self.build == build

    def health(self, build: str) -> WorkerHealth:
        """As operators see it."""
        if not self.asked:
            return WorkerHealth.STARTING
        if self.reachable and self.draining:
            return WorkerHealth.DRAINING
        return WorkerHealth.HEALTHY if self.usable(build) else WorkerHealth.UNHEALTHY


def worker_name(address: str, instance: str) -> WorkerId:
    """Another one after each start of the worker, so that a job never takes the next one for its own."""
    return WorkerId(f"{address}@{instance[:12]}")


def address_of(worker_id: WorkerId) -> str | None:
    """None: it is a worker of another kind of fleet."""
    address, at, _ = worker_id.partition("@")
    return address if at and ":" in address else None


def observe(before: HostState, answer: object, now: float) -> tuple[HostState, dict[WorkerId, str]]:
    """What is known now, and which workers have certainly ended, with the diagnosis.

    `answer`: how the worker describes itself, or Unreachable. What is neither tells as little as silence.
    """
    after = None if isinstance(answer, Unreachable) else _described(before.address, answer, now)
    if after is None:
        silence = answer if isinstance(answer, Unreachable) else Unreachable(NONSENSE)
        refusals = before.refusals + 1 if silence.refused else 0
        after = replace(before, reachable=False, asked=True, detail=silence.detail, refusals=refusals)
        if before.worker_id is None or refusals < _REFUSALS:
            return after, {}
        return (
            replace(after, worker_id=None, attempts=(), claimed_by="", started_at=0.0),
            {before.worker_id: NOTHING_LISTENS},
        )
    if before.worker_id == after.worker_id:
        return replace(after, started_at=before.started_at), {}
    return after, {} if before.worker_id is None else {before.worker_id: STARTED_ANEW}


def _described(address: str, answer: object, now: float) -> HostState | None:
    """None: no worker of ours describes itself like that. One that was taken over may answer anything."""
    if not isinstance(answer, Mapping):
        return None
    instance, build = answer.get("instance"), answer.get("build")
    attempts, claimed_by = answer.get("attempts", ()), answer.get("claimed_by", "")
    draining, uptime = answer.get("draining", False), answer.get("uptime_seconds", 0.0)
    if not (isinstance(instance, str) and _INSTANCE.fullmatch(instance) and isinstance(build, str)):
        return None
    if not (isinstance(attempts, list | tuple) and len(attempts) <= _MOST_ATTEMPTS):
        return None
    if not all(isinstance(t, str) and len(t) <= _MOST_CHARACTERS for t in (build, claimed_by, *attempts)):
        return None
    if not (isinstance(draining, bool) and isinstance(uptime, int | float)):
        return None
    if not 0 <= uptime <= _LONGEST_UPTIME_SECONDS:
        return None
    return HostState(
        address,
        worker_name(address, instance),
        reachable=True,
        asked=True,
        build=build,
        attempts=tuple(attempts),
        claimed_by=claimed_by,
        draining=draining,
        started_at=now - uptime,
    )
