"""Workers of reservations: launched, spoken to, stopped. For the warm floor and for sessions alike."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from gooseherd.domain.errors import (
    GooseherdError,
    LaunchFailed,
    Misconfigured,
    NoCapacity,
    NotFound,
    Unavailable,
    WorkerLost,
)
from gooseherd.domain.formats import BAM
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import Fleet, WorkerHandle, WorkerHealth, WorkerNeed, WorkerView
from gooseherd.domain.ports.reservations import ReservationStore
from gooseherd.domain.ports.store import STORE_AWAY
from gooseherd.domain.ports.worker import Workers
from gooseherd.domain.reservation import (
    KEEP_SECONDS,
    EndReason,
    Reservation,
    ReservationId,
    ReservationState,
    ReservedSize,
)
from gooseherd.telemetry import RESERVATIONS_ENDED

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 5.0
"""How often the process that launches looks after its reservation, and learns that it is unwanted."""

_SPEAK_TIMEOUT_SECONDS: Final = 10.0
_LAST_WRITE_SECONDS: Final = 5.0
_TRIES: Final = 8
"""Writes that somebody else came before, or whose outcome is unknown."""
_PAUSE_SECONDS: Final = 0.5

_ROOM_SECONDS: Final = 300.0
_ROOM_PAUSE_SECONDS: Final = 1.0
_ROOM_LONGEST_PAUSE_SECONDS: Final = 10.0
"""How long, and how often, a replacement looks for the room that the worker before it leaves.

A task on ECS counts until it has stopped, which takes up to two minutes.
"""

_SOURCE_BYTES: Final = {ReservedSize.SMALL: 0, ReservedSize.MEDIUM: 1 << 30, ReservedSize.LARGE: 8 << 30}
"""As large as an alignment file of that size gets one (fleet/sizes.py)."""

_BEFORE_ITS_END: Final = frozenset(
    {ReservationState.RESERVING, ReservationState.STARTING, ReservationState.READY}
)


def need_of(reservation: Reservation) -> WorkerNeed:
    """What is asked of the fleet for it."""
    return WorkerNeed(reservation.launch, BAM, _SOURCE_BYTES[reservation.size], reserved=True)


class ReservedWorkers:
    """Those that this process launches, and all that it is told of. `changed` is called when one is other."""

    def __init__(
        self,
        *,
        reservations: ReservationStore,
        fleet: Fleet,
        workers: Workers,
        changed: Callable[[Reservation], None] = lambda _: None,
    ) -> None:
        self._reservations = reservations
        self._fleet = fleet
        self._workers = workers
        self._changed = changed
        self._launching: dict[ReservationId, asyncio.Task[None]] = {}

    async def launch(
        self, seen: Reservation, worker: WorkerHandle | None = None, *, replaces: str = "", **fields: object
    ) -> Reservation | None:
        """Begin to launch a worker for it, in place of one that it has; None: it is no longer as seen.

        Returns before the worker is there: the reservation then is ready, or ends with launch_failed. A
        `worker` that the fleet has reserved for it already is used instead of a launch. `replaces`: why the
        one that it has is stopped first; in a fleet that is full the launch waits for the room.
        """
        now = await self._reservations.now()
        wanted = seen.to(
            ReservationState.STARTING,
            launches=seen.launches + 1,
            worker_id=None,
            address="",
            kept_at=now,
            idle_since=None,
            **fields,
        )
        starting = await self._reservations.change(seen, wanted)
        if starting is not None:
            name = starting.reservation_id
            before = seen.worker_id if replaces else None
            unwanted = asyncio.Event()
            acquire = (
                partial(self._acquire, starting, worker)
                if before is None
                else partial(self._replace, starting, before, replaces, unwanted)
            )
            task = asyncio.create_task(
                self._start(starting, acquire, unwanted), name=f"launch {starting.launch}"
            )
            self._launching[name] = task
            task.add_done_callback(lambda done: self._launched(name, done))
            self._changed(starting)
        elif worker is not None:
            await self._fleet.release(worker.worker_id, reusable=True, attempt=wanted.launch)
        return starting

    async def speak_to(self, seen: Reservation) -> bool:
        """Tell its worker that it is still wanted; whether it answered."""
        if seen.worker_id is None:
            return False
        try:
            async with (
                asyncio.timeout(_SPEAK_TIMEOUT_SECONDS),
                self._workers.connect(WorkerHandle(seen.worker_id, seen.address)) as link,
            ):
                await link.keep(KEEP_SECONDS)
        except (WorkerLost, Misconfigured, TimeoutError) as error:
            # Whether it has ended is the fleet's to say.
            _log.info(
                "a reserved worker does not answer",
                extra={"worker": seen.worker_id, "error": str(error) or type(error).__name__},
            )
            return False
        now = await self._reservations.now()
        await self._change(seen, lambda current: replace(current, kept_at=now))
        return True

    async def end(
        self, seen: Reservation, reason: EndReason, detail: str = "", *, insist: bool = False
    ) -> Reservation | None:
        """Write that it ends, and why, unless it ends already; None: it does, or is no longer as seen.

        `insist`: whatever else has changed since it was seen.
        """
        ending = await self._change(
            seen,
            lambda now: now.to(ReservationState.ENDING, reason=reason, detail=detail),
            tries=_TRIES if insist else 1,
        )
        if ending is not None:
            RESERVATIONS_ENDED.labels(ending.purpose, reason).inc()
            _log.info(
                "reservation ends",
                extra={
                    "reservation": ending.reservation_id,
                    "purpose": str(ending.purpose),
                    "owner": ending.owner,
                    "worker": ending.worker_id,
                    "reason": str(reason),
                    "detail": detail,
                },
            )
            self._changed(ending)
        return ending

    async def finish(self, seen: Reservation, workers: Sequence[WorkerView]) -> None:
        """Stop the worker of one that is ending, and write that it has ended.

        Raises:
            Unavailable: the worker could not be asked to end; again later.
        """
        if seen.reservation_id in self._launching:
            return  # Whoever launches it stops it, too.
        for worker_id in self._workers_of(seen, workers):
            await self.stop(worker_id, f"its reservation ended: {seen.reason}")
        ended = await self._reservations.change(seen, seen.to(ReservationState.ENDED))
        if ended is not None:
            self._changed(ended)

    async def stop(self, worker_id: WorkerId, why: str) -> None:
        """Ask it to end, unless it has. Raises Unavailable."""
        with suppress(NotFound):
            await self._fleet.stop(worker_id, why)

    async def close(self) -> None:
        """Give up what is being launched: these reservations end. Before the fleet is closed."""
        tasks = list(self._launching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    def _workers_of(seen: Reservation, workers: Sequence[WorkerView]) -> Collection[WorkerId]:
        names = seen.names
        found = {
            worker.worker_id
            for worker in workers
            if worker.health is not WorkerHealth.GONE
            and (worker.worker_id in names or worker.launched_for in names or worker.attempt in names)
        }
        return found | ({seen.worker_id} if seen.worker_id is not None else set())

    # -- launching ---------------------------------------------------------------------------

    async def _acquire(self, starting: Reservation, reserved: WorkerHandle | None) -> WorkerHandle:
        if reserved is not None:
            try:
                async with asyncio.timeout(_SPEAK_TIMEOUT_SECONDS), self._workers.connect(reserved) as link:
                    await link.keep(KEEP_SECONDS)
                return reserved
            except (WorkerLost, Misconfigured, TimeoutError):
                await self._fleet.release(reserved.worker_id, reusable=False, attempt=starting.launch)
            except BaseException:
                await self._fleet.disown(reserved.worker_id)  # It ends by its idle timeout.
                raise
        return await self._fleet.acquire(need_of(starting))

    async def _replace(
        self, starting: Reservation, before: WorkerId, why: str, unwanted: asyncio.Event
    ) -> WorkerHandle:
        """Stop the worker it had, and acquire another as soon as there is room; `unwanted` ends the wait."""
        try:
            await self.stop(before, why)
        except GooseherdError as error:  # Nobody speaks to it any more: it ends by itself.
            _log.warning("a worker was not stopped", extra={"worker": before, "error": str(error)})
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + _ROOM_SECONDS, _ROOM_PAUSE_SECONDS
        while True:
            try:
                return await self._fleet.acquire(need_of(starting))
            except NoCapacity:
                if unwanted.is_set() or loop.time() > until:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _ROOM_LONGEST_PAUSE_SECONDS)

    async def _start(
        self,
        starting: Reservation,
        acquire: Callable[[], Coroutine[Any, Any, WorkerHandle]],
        unwanted: asyncio.Event,
    ) -> None:
        acquiring = asyncio.create_task(acquire())
        current: Reservation | None = starting
        try:
            while not (await asyncio.wait({acquiring}, timeout=_LOOK_SECONDS))[0]:
                if current is not None:
                    current = await self._look_after(current)
                    if current is None:
                        unwanted.set()
            await self._arrived(starting, acquiring.result())
        except (NoCapacity, LaunchFailed, Misconfigured, Unavailable) as error:
            await self._failed(starting, str(error))
        except asyncio.CancelledError:
            acquiring.cancel()
            await asyncio.gather(acquiring, return_exceptions=True)
            await _to_its_end(self._failed(starting, "the API process that launched it left"))
            raise
        except Exception as error:
            # A defect of ours, or a full disk: the owner's jobs must not wait for it.
            _log.exception("launching a reserved worker failed unexpectedly")
            await self._failed(starting, f"internal error ({type(error).__name__})")

    async def _look_after(self, current: Reservation) -> Reservation | None:
        """Write that its launch is under way; None: nobody wants it any more."""
        try:
            now = await self._reservations.now()
            return await self._change(current, lambda seen: replace(seen, kept_at=now))
        except STORE_AWAY:
            return current

    async def _arrived(self, starting: Reservation, worker: WorkerHandle) -> None:
        ready = await self._insist(
            lambda: self._write_ready(starting, worker), f"launch {starting.reservation_id}"
        )
        if ready is not None:
            _log.info(
                "reserved worker is ready",
                extra={
                    "reservation": starting.reservation_id,
                    "purpose": str(starting.purpose),
                    "owner": starting.owner,
                    "worker": worker.worker_id,
                },
            )
            self._changed(ready)
            return
        # Ended, or given to another launch, before it was there.
        with suppress(GooseherdError):
            await self.stop(worker.worker_id, "its reservation ended before it was ready")
        await self._finish_launch(starting)

    async def _write_ready(self, starting: Reservation, worker: WorkerHandle) -> Reservation | None:
        now = await self._reservations.now()
        seen = await self._reservations.get(starting.reservation_id)
        if seen is not None and seen.worker_id == worker.worker_id and seen.live:
            return seen  # Written by a call whose answer got lost.
        if seen is None or (seen.state, seen.launches) != (ReservationState.STARTING, starting.launches):
            return None
        return await self._change(
            seen,
            lambda current: current.to(
                ReservationState.READY,
                worker_id=worker.worker_id,
                address=worker.address,
                ready_at=now,
                kept_at=now,
            ),
        )

    async def _failed(self, starting: Reservation, detail: str) -> None:
        async def fail() -> Reservation | None:
            return await self.end(starting, EndReason.LAUNCH_FAILED, detail, insist=True)

        await self._insist(fail, f"end {starting.reservation_id}")
        await self._finish_launch(starting)

    async def _finish_launch(self, starting: Reservation) -> None:
        """There is no worker of this launch: an end that waited for it is over."""
        with suppress(*STORE_AWAY):  # Then a later pass of the loop does it.
            seen = await self._reservations.get(starting.reservation_id)
            if seen is not None and seen.state is ReservationState.ENDING and seen.worker_id is None:
                ended = await self._reservations.change(seen, seen.to(ReservationState.ENDED))
                if ended is not None:
                    self._changed(ended)

    async def _change(
        self, seen: Reservation, make: Callable[[Reservation], Reservation], tries: int = _TRIES
    ) -> Reservation | None:
        """Change it, whatever others write meanwhile, unless it ends or has another launch."""
        for _ in range(tries):
            if seen.state not in _BEFORE_ITS_END:
                return None
            changed = await self._reservations.change(seen, make(seen))
            if changed is not None:
                return changed
            current = await self._reservations.get(seen.reservation_id)
            if current is None or current.launches != seen.launches:
                return None
            seen = current
        return None

    @staticmethod
    async def _insist(
        write: Callable[[], Coroutine[Any, Any, Reservation | None]], what: str
    ) -> Reservation | None:
        """Repeat it for a while when the store is away; then others find a launch nobody looks after."""
        for _ in range(_TRIES):
            try:
                return await write()
            except STORE_AWAY:
                await asyncio.sleep(_PAUSE_SECONDS)
        _log.error("the store was away for too long", extra={"operation": what})
        return None

    def _launched(self, name: ReservationId, task: asyncio.Task[None]) -> None:
        if self._launching.get(name) is task:
            del self._launching[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a launch crashed", extra={"reservation": name}, exc_info=error)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Although the caller is cancelled, for a few seconds."""
    task = asyncio.create_task(work)
    with suppress(TimeoutError, *STORE_AWAY):
        async with asyncio.timeout(_LAST_WRITE_SECONDS):
            await asyncio.shield(task)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
