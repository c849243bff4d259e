"""Where workers come from: acquired for an attempt, released, listed, stopped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import Format
from gooseherd.domain.job import WorkerId
from gooseherd.domain.worker_size import WorkerResources, WorkerSize


@dataclass(frozen=True, slots=True)
class Shortage:
    """An attempt ended out_of_memory, out_of_disk or worker_lost, on that worker if one is known.

    The last is one only if the fleet has learnt since that the worker ran out of memory.
    """

    reason: Reason
    worker_id: WorkerId | None = None


@dataclass(frozen=True, slots=True)
class WorkerNeed:
    """What an attempt asks of a worker; the fleet maps it to a size."""

    attempt: AttemptId
    source_format: Format
    source_bytes: int | None
    shortages: tuple[Shortage, ...] = ()
    """How earlier attempts of the job ended, oldest first: each asks for a larger worker."""
    leaves_floor: bool = False
    """It takes no worker of the warm floor, which is for those who wait."""
    reserved: bool = False
    """For a reservation, under whose name in place of an attempt's: a new worker, which does not end for
    being idle as long as somebody speaks to it (reservation.KEEP_SECONDS)."""


@dataclass(frozen=True, slots=True)
class WorkerHandle:
    """A worker that answers. `address` is host:port of its Wool port."""

    worker_id: WorkerId
    address: str


class WorkerHealth(StrEnum):
    """How a worker is. Closed: metrics rely on the list."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    """It runs and its health checks fail."""
    DRAINING = "draining"
    """It takes nothing new and is about to end."""
    GONE = "gone"
    """It has certainly ended."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as operators see it."""

    worker_id: WorkerId
    health: WorkerHealth
    started_at: float
    """Unix seconds; 0: not known."""
    attempt: str | None = None
    """Who uses it, as far as this process knows."""
    detail: str = ""
    """For people; of one that is gone: the diagnosis."""
    launched_for: str | None = None
    """The attempt it was launched for, whoever uses it now; None: not known."""
    warm: bool = False
    """Idle, and this process may hand it out."""
    stoppable: bool = True
    """It lives and nobody has asked it to end."""
    size: str = ""
    resources: WorkerResources | None = None
    """What is paid for, as far as is known."""
    paid_from: float = 0.0
    """Unix seconds; 0: nothing is paid for it yet, or it is not known."""
    ended_at: float | None = None
    """Unix seconds; None: it has not ended, or it is not known when."""


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker as far as it matters for whether another one is launched."""

    worker_id: WorkerId
    size: WorkerSize
    ready: bool
    ready_seconds: float = 0.0
    """For how long it has been ready."""
    idle_seconds: float | None = None
    """For how long it has been idle, if this process may hand it out; None: it may not."""
    of_floor: bool = False
    """Idle, of the warm floor."""
    launched_for: str | None = None
    """The attempt or the reservation it was launched for."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a fleet has, and what more of it costs. By default launches cost nothing worth a thought."""

    launch_seconds: float = 0.0
    """From the decision to launch a worker to its first attempt, as it was lately."""
    workers: Sequence[LiveWorker] = ()
    launching: Collection[str] = ()
    """Attempts for which this process has decided to launch a worker, and reservations by their launch."""
    floor_wants: int = 0
    """How many workers the warm floor lacks, and has not begun to launch."""
    floor_size: WorkerSize | None = None


class WarmWorkers(Protocol):
    """The warm floor's workers, of which each is handed out once, by whichever process is first."""

    def ready(self) -> Collection[WorkerId]:
        """Those that could be taken, as far as this process knows; does not wait."""
        ...

    async def take(self) -> WorkerId | None:
        """One of them, which is no longer the floor's; None: there is none. Raises StoreUnavailable."""
        ...

    def wants(self) -> int:
        """How many it lacks, as far as this process knows."""
        ...

    def offer(self, worker_id: WorkerId) -> bool:
        """An idle worker of the floor's size that no job needs; whether the floor wants it. Does not wait."""
        ...


class Fleet(Protocol):
    """Workers: launched for work, reused while warm, found again after a restart."""

    async def acquire(self, need: WorkerNeed) -> WorkerHandle:
        """A healthy worker for this caller alone, warm or launched. Idempotent by the attempt.

        Raises:
            NoCapacity: none to be had now.
            LaunchFailed: one was started and did not become healthy.
            Misconfigured: no retry heals it.
        """
        ...

    async def take(
        self, worker_id: WorkerId, attempt: AttemptId, *, reserved: bool = False
    ) -> WorkerHandle | None:
        """A worker that was launched for a reservation, for this attempt.

        None: it does not live, does not answer, is of another build or works for somebody else. Not
        `reserved`: it is an ordinary worker from now on. Else its reservation goes on, and `disown` ends
        the use of it.
        """
        ...

    async def find(self, worker_id: WorkerId) -> WorkerHandle | None:
        """The worker by that name if it lives, also one that another process launched."""
        ...

    async def gone(self, worker_id: WorkerId) -> str:
        """Return when the worker has certainly ended, with the diagnosis; not seeing it is not enough."""
        ...

    async def verdict(self, worker_id: WorkerId) -> Reason:
        """How an attempt ended whose worker is silent: out_of_memory where that is known, else worker_lost.

        Waits a few seconds at most for what can be known.
        """
        ...

    def known(self, worker_id: WorkerId) -> WorkerView | None:
        """The worker as it is known now; None: nothing is known of it. Does not wait."""
        return None

    def limit_reached(self, need: WorkerNeed) -> str | None:
        """The limit, and its setting, that leaves no larger worker after the newest shortage of `need`.

        None: there is a larger one, or workers here have no sizes.
        """
        ...

    async def release(self, worker_id: WorkerId, *, reusable: bool, attempt: AttemptId | None = None) -> None:
        """The caller, who had it for `attempt`, is done with it. Not reusable: stop it.

        Nothing happens to a worker that this fleet has given to another attempt since. Never
        raises for one that is gone.
        """
        ...

    async def disown(self, worker_id: WorkerId) -> None:
        """It works for somebody else: it is neither stopped nor, as far as that is known, handed out."""
        ...

    def slots(self) -> int:
        """How many more workers could be acquired now."""
        ...

    def capacity(self) -> Capacity:
        """What lives and what a launch costs, as known now; does not wait."""
        return Capacity()

    def size_for(self, need: WorkerNeed) -> WorkerSize:
        """What would be launched for it."""
        return WorkerSize(0, 0, 0)

    async def spare(self, worker_id: WorkerId, *, end: bool) -> None:
        """No job needs a worker that this process may hand out: the warm floor has it, or it may `end`.

        Nothing happens to one that is not idle any more.
        """
        return

    async def reserve(self, worker_id: WorkerId, launch: AttemptId) -> WorkerHandle | None:
        """Such a worker of the smallest size for a reservation, by a launch's name; None: not to be had."""
        return None

    async def view(self) -> Sequence[WorkerView]:
        """All workers of this fleet as they are known now; does not wait."""
        ...

    async def survey(self, also: Collection[WorkerId] = ()) -> Sequence[WorkerView]:
        """All workers of this fleet, seen completely and just now, and those that ended a while ago.

        Of `also` those too that were not seen by this process yet, if they are of this fleet
        and can be seen: a worker that is not in the answer is not known to have ended.
        Raises Unavailable when not all of that could be seen.
        """
        ...

    async def stop(self, worker_id: WorkerId, reason: str) -> None:
        """Ask a worker to end, whoever uses it; idempotent.

        Raises:
            NotFound: none by that name lives in this fleet.
            Unavailable: it could not be asked.
        """
        ...

    async def close(self) -> None:
        """Stop idle workers; leave busy ones to be found again."""
        ...
