"""What is known of the worker of one host, and how an observation changes it; pure.

observation                                   becomes
---------------------------------------------------------------------------------
it answers, for the first time                known by this instance
it answers, the same instance                 known like that
it answers, another instance                  the one before has ended; the new one is known
nothing listens, once                         not reachable
nothing listens, twice in a row               the one before has ended
it does not answer, or TLS fails              not reachable; not seeing it is not its end
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHealth

_REFUSALS: Final = 2
STARTED_ANEW: Final = "the worker was started anew"
NOTHING_LISTENS: Final = "the worker ended: nothing listens on its port"


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


def observe(
    before: HostState, answer: Mapping[str, Any] | Unreachable, now: float
) -> tuple[HostState, dict[WorkerId, str]]:
    """What is known now, and which workers have certainly ended, with the diagnosis."""
    if isinstance(answer, Unreachable):
        refusals = before.refusals + 1 if answer.refused else 0
        after = replace(before, reachable=False, asked=True, detail=answer.detail, refusals=refusals)
        if before.worker_id is None or refusals < _REFUSALS:
            return after, {}
        return (
            replace(after, worker_id=None, attempts=(), claimed_by="", started_at=0.0),
            {before.worker_id: NOTHING_LISTENS},
        )
    worker_id = worker_name(before.address, str(answer.get("instance", "")))
    after = HostState(
        before.address,
        worker_id,
        reachable=True,
        asked=True,
        build=str(answer.get("build", "")),
        attempts=tuple(map(str, answer.get("attempts", ()))),
        claimed_by=str(answer.get("claimed_by", "")),
        draining=bool(answer.get("draining", False)),
        started_at=before.started_at
        if before.worker_id == worker_id
        else now - float(answer.get("uptime_seconds", 0.0)),
    )
    if before.worker_id is not None and before.worker_id != worker_id:
        return after, {before.worker_id: STARTED_ANEW}
    return after, {}
