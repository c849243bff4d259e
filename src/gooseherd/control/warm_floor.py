"""Keeps idle workers ready: a small file waits for no cold start. Decided in domain/warm_floor.py."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from gooseherd.control.loop import Loop
from gooseherd.control.reserved_workers import ReservedWorkers
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.job import Requester, WorkerId
from gooseherd.domain.ports.fleet import Fleet, WarmWorkers, WorkerView
from gooseherd.domain.ports.reservations import ReservationStore
from gooseherd.domain.ports.worker import Workers
from gooseherd.domain.reservation import EndReason, Purpose, Reservation, ReservationId, ReservationState
from gooseherd.domain.warm_floor import (
    Action,
    EndReservation,
    FinishEnding,
    FloorSnapshot,
    ReplaceWorker,
    ReserveSlot,
    SpeakTo,
    plan,
)
from gooseherd.telemetry import RESERVATIONS, RESERVATIONS_ENDED, WARM_FLOOR_WANTED

_log = logging.getLogger(__name__)

_PAUSE: Final = timedelta(seconds=5)
"""After a launch that failed; doubled with each in a row."""
_LONGEST_PAUSE: Final = timedelta(minutes=5)
_RETURN: Final = timedelta(seconds=10)
"""How long a worker that a job has taken is waited for, before another one is launched in its place: most
files are small, and a launch takes longer."""
_MOST_DOUBLINGS: Final = 10
_REMEMBERED: Final = timedelta(days=1)
"""How long an ended reservation can still be looked at."""


class FloorWorkers(WarmWorkers):
    """Hands the floor's workers out: whoever ends the reservation first has the worker."""

    def __init__(self, reservations: ReservationStore, build: str, taken: Wakeup) -> None:
        self._reservations = reservations
        self._build = build
        self._taken = taken
        self._ready: frozenset[WorkerId] = frozenset()
        self.offered: set[WorkerId] = set()
        """Idle workers that no job needs, since that was looked at."""
        self.lacking = 0
        """Slots that are empty."""
        self.taken = False
        """One was handed out by this process, since that was looked at."""

    def ready(self) -> Collection[WorkerId]:
        return self._ready

    def offer(self, worker_id: WorkerId) -> bool:
        if self.lacking:
            self.offered.add(worker_id)
            self._taken.notify()
        return self.lacking > 0

    def wants(self) -> int:
        return self.lacking

    def seen(self, reservations: Sequence[Reservation]) -> None:
        """What the floor is now."""
        usable = filter(self._usable, reservations)
        self._ready = frozenset(one.worker_id for one in usable if one.worker_id is not None)

    async def take(self) -> WorkerId | None:
        """The one that has been ready for longest. Whatever others do meanwhile: each is taken once."""
        while True:
            usable = [one for one in await self._reservations.live() if self._usable(one)]
            for one in sorted(usable, key=lambda one: (one.ready_at or one.created_at, one.slot)):
                ended = one.to(ReservationState.ENDED, reason=EndReason.TAKEN)
                if await self._reservations.change(one, ended) is not None:
                    RESERVATIONS_ENDED.labels(Purpose.FLOOR, EndReason.TAKEN).inc()
                    self._ready -= {one.worker_id} if one.worker_id is not None else set()
                    self.taken = True
                    self.lacking += 1
                    self._taken.notify()
                    return one.worker_id
            if not usable:
                return None

    def _usable(self, one: Reservation) -> bool:
        return (
            one.purpose is Purpose.FLOOR
            and one.state is ReservationState.READY
            and one.worker_id is not None
            and one.build == self._build
        )


class WarmFloor:
    """The loop that holds the floor, in any number of processes. `max_workers` is the fleet's own limit."""

    def __init__(
        self,
        *,
        reservations: ReservationStore,
        fleet: Fleet,
        workers: Workers,
        floor_workers: FloorWorkers,
        wakeup: Wakeup,
        work: Wakeup,
        floor: int,
        max_workers: int,
        build: str,
        tick_seconds: float,
        new_id: Callable[[], ReservationId] = lambda: ReservationId(uuid.uuid4().hex),
    ) -> None:
        self._new_id = new_id
        self._reservations = reservations
        self._fleet = fleet
        self._floor_workers = floor_workers
        self._wakeup = wakeup
        self._work = work
        self._floor = floor
        self._max_workers = max_workers
        self._build = build
        self._deployed_at: datetime | None = None
        self._failures = 0
        self._pause_until: datetime | None = None
        self._may_return_until: datetime | None = None
        self._reserved = ReservedWorkers(
            reservations=reservations, fleet=fleet, workers=workers, changed=self._changed
        )
        self.loop: Loop[FloorSnapshot, Action] = Loop(
            "warm_floor",
            observe=self._observe,
            plan=plan,
            act=self._act,
            wakeup=wakeup,
            tick_seconds=tick_seconds,
        )

    async def close(self) -> None:
        """Give up what is being launched. Workers that are ready stay, for the other processes."""
        await self._reserved.close()

    def _changed(self, reservation: Reservation) -> None:
        if reservation.reason is EndReason.LAUNCH_FAILED:
            self._failures += 1
            doublings = min(self._failures - 1, _MOST_DOUBLINGS)
            pause: timedelta = min(_PAUSE * 2**doublings, _LONGEST_PAUSE)
            self._pause_until = reservation.changed_at + pause
        elif reservation.state is ReservationState.READY:
            self._failures, self._pause_until = 0, None
            self._work.notify()  # There is one more to hand out.
        self._wakeup.notify()

    async def _observe(self) -> FloorSnapshot:
        now = await self._reservations.now()
        idle = sorted(self._floor_workers.offered)
        self._floor_workers.offered.clear()
        if self._floor_workers.taken:
            self._floor_workers.taken, self._may_return_until = False, now + _RETURN
        if self._deployed_at is None:
            self._deployed_at = now
            await self._reservations.forget(now - _REMEMBERED)
        every = await self._reservations.live()
        reservations = [one for one in every if one.purpose is Purpose.FLOOR]
        self._floor_workers.seen(reservations)
        WARM_FLOOR_WANTED.set(self._floor)
        self._floor_workers.lacking = max(self._floor - len(reservations), 0)
        for state in ReservationState:
            if state is not ReservationState.ENDED:
                RESERVATIONS.labels(Purpose.FLOOR, state).set(sum(one.state is state for one in reservations))
        named = [one.worker_id for one in reservations if one.worker_id is not None]
        # Nothing to hold and nothing held: ECS is not asked.
        workers: Sequence[WorkerView] = await self._fleet.survey(named) if named or self._floor else ()
        return FloorSnapshot(
            now=now,
            floor=self._floor,
            build=self._build,
            deployed_at=self._deployed_at,
            reservations=reservations,
            workers=workers,
            launches_pause_until=self._pause_until,
            free=self._max_workers - sum(worker.stoppable for worker in workers),
            idle=idle,
            may_return_until=self._may_return_until,
        )

    async def _act(self, action: Action) -> None:
        match action:
            case ReserveSlot(slot, idle):
                await self._reserve(slot, idle)
            case EndReservation(seen, reason, detail):
                await self._reserved.end(seen, reason, detail)
            case ReplaceWorker(seen, detail):
                await self._replace(seen, detail)
            case FinishEnding(seen):
                await self._reserved.finish(seen, await self._fleet.view())
            case SpeakTo(seen):
                await self._reserved.speak_to(seen)

    async def _reserve(self, slot: int, idle: WorkerId | None) -> None:
        now = await self._reservations.now()
        assert self._deployed_at is not None
        wanted = Reservation(
            self._new_id(),
            Purpose.FLOOR,
            Requester(f"floor/{slot}"),
            slot,
            ReservationState.RESERVING,
            self._build,
            self._deployed_at,
            created_at=now,
            changed_at=now,
        )
        launch = replace(wanted, launches=1).launch
        worker = None if idle is None else await self._fleet.reserve(idle, launch)
        if idle is not None and worker is None:
            return  # It has got a job meanwhile.
        made = await self._reservations.reserve(wanted, self._floor)
        if made is not None and made.reservation_id == wanted.reservation_id:
            await self._reserved.launch(made, worker)
        elif worker is not None:
            await self._fleet.release(worker.worker_id, reusable=True, attempt=launch)

    async def _replace(self, seen: Reservation, detail: str) -> None:
        replaced = await self._reserved.launch(
            seen, replaces=detail, build=self._build, deployed_at=self._deployed_at
        )
        if replaced is not None:
            _log.info("worker of the floor replaced", extra={"worker": seen.worker_id, "why": detail})
