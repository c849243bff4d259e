"""Which warm workers are launched and which are let go: the floor that all API processes hold together; pure.

The floor has numbered slots, and the store gives a slot to one worker: what each process decides by itself
never makes more workers than there are slots.

| slot | what is seen | decision |
| --- | --- | --- |
| below the floor, empty | no newer deployment, and an idle worker of its size is here | reserve it for that |
| below the floor, empty | neither; launches do not fail just now, and none may come back soon | reserve it |
| at or above the floor | live | end it: surplus |
| any | of the build of an earlier deployment | replace its worker by one of this build, in place |
| any | of the build of a later deployment | left to its processes |
| reserving, starting | nobody has looked after its launch for too long | end it: reconcile_stale |
| ready | its worker has ended | end it: worker_missing |
| ready | its worker is unhealthy or about to end | end it: worker_unhealthy |
| ready | its worker is not seen, and silent for longer than it lives by itself | end it: reconcile_stale |
| ready | its worker has not been spoken to for a while | speak to it |
| ending | | stop its worker, then ended |

Not seeing a worker is not its end. Of two builds the later deployment is that whose processes started later.
It drains the earlier one's workers in place, for an empty slot would be filled by the earlier one again.
When the processes of a build are gone, nobody speaks to its workers, and they end themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHealth, WorkerView
from gooseherd.domain.reservation import KEEP_SECONDS, EndReason, Purpose, Reservation, ReservationState

SPEAK_SECONDS: Final = 60.0
"""How often a worker is spoken to: several times within KEEP_SECONDS, and by one process at a time."""

LAUNCH_SILENCE: Final = timedelta(seconds=60)
"""A launch that its process does not look after for so long has no process any more."""

_SURELY_ENDED: Final = timedelta(seconds=KEEP_SECONDS + 60)

_LAUNCHING: Final = frozenset({ReservationState.RESERVING, ReservationState.STARTING})
_ON_THE_WAY_OUT: Final = frozenset({WorkerHealth.UNHEALTHY, WorkerHealth.DRAINING})


@dataclass(frozen=True, slots=True)
class FloorSnapshot:
    """What one process sees. `workers` is empty when nothing of the floor has one."""

    now: datetime
    floor: int
    build: str
    deployed_at: datetime
    """When this process started, by the store's clock."""
    reservations: Sequence[Reservation]
    """Of the floor, not ended."""
    workers: Sequence[WorkerView] = ()
    launches_pause_until: datetime | None = None
    """Launches of this process failed: none before."""
    free: int = 1_000_000
    """How many more workers the fleet may have."""
    idle: Sequence[WorkerId] = ()
    """Idle workers of the floor's size that no job needs: they spare a launch."""
    may_return_until: datetime | None = None
    """A job has taken a worker of the floor: until then it may be through with it."""


@dataclass(frozen=True, slots=True)
class ReserveSlot:
    """Reserve it, for an idle worker or for one that is launched, unless another process does."""

    slot: int
    idle: WorkerId | None = None


@dataclass(frozen=True, slots=True)
class EndReservation:
    """It is of no use any more: no longer handed out, and its worker stopped."""

    seen: Reservation
    reason: EndReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReplaceWorker:
    """Its worker is stopped, and another one launched in its place."""

    seen: Reservation
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FinishEnding:
    """Its end is decided: make sure that its worker is stopped, then it has ended."""

    seen: Reservation


@dataclass(frozen=True, slots=True)
class SpeakTo:
    """Tell its worker that it is still wanted."""

    seen: Reservation


Action = ReserveSlot | EndReservation | ReplaceWorker | FinishEnding | SpeakTo


def plan(seen: FloorSnapshot) -> list[Action]:
    """The table above."""
    actions: list[Action] = []
    workers = {worker.worker_id: worker for worker in seen.workers}
    of_floor = [one for one in seen.reservations if one.purpose is Purpose.FLOOR and one.live]
    for reservation in of_floor:
        action = _for(reservation, workers, seen)
        if action is not None:
            actions.append(action)
    superseded = any(
        one.build != seen.build and one.deployed_at > seen.deployed_at
        for one in of_floor
        if one.state is not ReservationState.ENDING
    )
    if superseded:
        return actions
    taken = {one.slot for one in of_floor}
    empty = [slot for slot in range(seen.floor) if slot not in taken]
    actions += [ReserveSlot(slot, worker) for slot, worker in zip(empty, seen.idle, strict=False)]
    empty = empty[len(seen.idle) :]
    if any(
        until is not None and seen.now < until for until in (seen.launches_pause_until, seen.may_return_until)
    ):
        return actions
    launching = sum(one.state in _LAUNCHING and one.worker_id is None for one in of_floor)
    return actions + [ReserveSlot(slot) for slot in empty[: max(0, seen.free - launching)]]


def _for(
    reservation: Reservation, workers: Mapping[WorkerId, WorkerView], seen: FloorSnapshot
) -> Action | None:
    if reservation.state is ReservationState.ENDING:
        return FinishEnding(reservation)
    if reservation.build != seen.build and reservation.deployed_at > seen.deployed_at:
        return _if_dead(reservation, workers, seen)
    if reservation.slot >= seen.floor:
        return EndReservation(reservation, EndReason.SURPLUS, f"the floor is {seen.floor}")
    if reservation.build != seen.build:
        return ReplaceWorker(reservation, f"another build is deployed: {seen.build}")
    if (dead := _if_dead(reservation, workers, seen)) is not None:
        return dead
    if reservation.state is ReservationState.READY and _silent_for(reservation, seen.now) >= timedelta(
        seconds=SPEAK_SECONDS
    ):
        return SpeakTo(reservation)
    return None


def _if_dead(
    reservation: Reservation, workers: Mapping[WorkerId, WorkerView], seen: FloorSnapshot
) -> Action | None:
    return if_dead(
        reservation, workers.get(reservation.worker_id) if reservation.worker_id else None, seen.now
    )


def if_dead(reservation: Reservation, worker: WorkerView | None, now: datetime) -> EndReservation | None:
    """The end of one whose launch or worker is lost, sessions included; None: that is not known."""
    silent = _silent_for(reservation, now)
    if reservation.state in _LAUNCHING:
        if silent > LAUNCH_SILENCE:
            return EndReservation(reservation, EndReason.RECONCILE_STALE, "nobody looks after its launch")
        return None
    if worker is not None and worker.health is WorkerHealth.GONE:
        return EndReservation(reservation, EndReason.WORKER_MISSING, worker.detail)
    if worker is not None and worker.health in _ON_THE_WAY_OUT:
        return EndReservation(reservation, EndReason.WORKER_UNHEALTHY, f"its worker is {worker.health}")
    if worker is None and silent > _SURELY_ENDED:
        detail = "its worker has not been seen, and has not answered for longer than it lives by itself"
        return EndReservation(reservation, EndReason.RECONCILE_STALE, detail)
    return None


def _silent_for(reservation: Reservation, now: datetime) -> timedelta:
    """Since its launch was last looked after, or its worker last answered."""
    return now - (reservation.kept_at or reservation.created_at)
