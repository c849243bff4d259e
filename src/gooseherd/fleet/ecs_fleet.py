"""Workers as FleetTasks of ECS, one attempt at a time each; implements the Fleet port.

    acquire:  the worker that has this attempt already
              → a warm one of ours that is large enough and, asked itself, is idle and of our build
              → one of the warm floor, if it is large enough, asked in the same way; not for a batch
              → a launch, when fewer than `max_workers` live (a warm one too small or too old makes room)

Warm workers belong to the process that released them: no two processes hand out one worker,
and what a dead process leaves behind ends by its own idle timeout. The worker itself has the
last word: it refuses a second attempt.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Final

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import (
    LaunchFailed,
    Misconfigured,
    NoCapacity,
    NotFound,
    WorkerLost,
)
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import (
    Capacity,
    WarmWorkers,
    WorkerHandle,
    WorkerHealth,
    WorkerNeed,
    WorkerView,
)
from gooseherd.domain.ports.store import STORE_AWAY
from gooseherd.domain.worker_size import WorkerSize
from gooseherd.fleet.acquisitions import AcquiringFleet
from gooseherd.fleet.discovery import EcsDiscovery
from gooseherd.fleet.ecs_api import CloudUnavailable, EcsApi
from gooseherd.fleet.ecs_capacity import is_of, launches_under_way, live_workers, user_of, views
from gooseherd.fleet.ecs_launches import DESCRIBE_SECONDS, Describe, EcsLaunches
from gooseherd.fleet.ecs_sizing import EcsSizing
from gooseherd.fleet.ecs_tasks import is_task_id
from gooseherd.fleet.no_floor import NoFloor
from gooseherd.fleet.provisioner import EcsProvisioner
from gooseherd.fleet.sizes import SizeBounds
from gooseherd.fleet.worker_inventory import WorkerInventory
from gooseherd.fleet.worker_state import WorkerState, as_view

log = logging.getLogger(__name__)

_VERDICT_SECONDS: Final = 5.0
"""How long a silent worker's end is waited for: ECS shows a container's some seconds after it."""
_FRESH_SHARE: Final = 0.9
"""Of the idle timeout: a warm worker closer to its own end is not handed out."""


class EcsFleet(AcquiringFleet):
    """At most `max_workers` FleetTasks, those of other processes of this fleet included.

    Two processes that launch in the same moment may exceed it by what both have under way.
    All times are in seconds. `idle_timeout` is that of the workers, `start_timeout` is from RunTask to
    healthy, `survey_timeout` bounds how long a survey waits for ECS; a warm worker is not asked whether
    it is idle within `sure_for` of its release. Idle workers of the `floor` count as free; one that is taken
    from there is asked by `unreserve`, which also makes it an ordinary one.
    Closing it closes the discovery, the provisioner and the api as well.
    """

    def __init__(
        self,
        *,
        api: EcsApi,
        provisioner: EcsProvisioner,
        discovery: EcsDiscovery,
        describe: Describe,
        build: str,
        max_workers: int,
        bounds: SizeBounds | None = None,
        start_timeout: float = 300.0,
        idle_timeout: float = 60.0,
        survey_timeout: float = 20.0,
        sure_for: float = 1.0,
        floor: WarmWorkers | None = None,
        unreserve: Describe | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(max_workers, kind="workers")
        self._api = api
        self._discovery = discovery
        self._describe = describe
        self._build = build
        self._sizing = EcsSizing(bounds or SizeBounds(), discovery.states)
        self._floor_size = self._sizing.smallest
        self._start_timeout = start_timeout
        self._idle_timeout = idle_timeout
        self._survey_timeout = survey_timeout
        self._sure_for = sure_for
        self._floor = floor or NoFloor()
        self._unreserve = unreserve or describe
        self._clock = clock
        self._inventory = WorkerInventory(discovery.states, clock)
        self._launching: set[str] = set()
        """Attempts for which a launch is decided and no worker is known yet: each is a slot."""
        self._launches = EcsLaunches(
            api=api,
            provisioner=provisioner,
            discovery=discovery,
            inventory=self._inventory,
            describe=describe,
            start_timeout=start_timeout,
            clock=clock,
        )

    async def find(self, worker_id: WorkerId) -> WorkerHandle | None:
        """Waits for ECS as long as it takes, for not seeing a worker is not its end."""
        if not is_task_id(worker_id):
            return None
        state = await self._discovery.look_up(worker_id)
        address = self._discovery.address(worker_id)
        if state.gone or address is None:
            return None
        self._inventory.hold_found(worker_id)
        return WorkerHandle(worker_id, address)

    async def take(
        self, worker_id: WorkerId, attempt: AttemptId, *, reserved: bool = False
    ) -> WorkerHandle | None:
        """Waits for ECS to show one that it has not shown yet; the worker itself is asked in any case."""
        if not is_task_id(worker_id):
            return None
        state = self._discovery.states().get(worker_id)
        if state is None or state.task is None:
            state = await self._discovery.look_up(worker_id)
        if state.gone or self._discovery.address(worker_id) is None:
            return None
        self._inventory.hold(worker_id, str(attempt))
        handle = None
        try:
            ask = self._describe if reserved else self._unreserve
            handle = await self._still_idle(worker_id, self._clock() - self._sure_for, ask)
        finally:
            if handle is None:
                self._inventory.let_go(worker_id)
        return handle

    async def gone(self, worker_id: WorkerId) -> str:
        """STOPPED, or missing twice after it had been seen."""
        if not is_task_id(worker_id):
            return "it was a worker of another kind of fleet"
        if worker_id not in self._discovery.states():
            await self._discovery.look_up(worker_id)
        return (await self._discovery.until(worker_id, lambda state: state.gone)).diagnosis()

    async def verdict(self, worker_id: WorkerId) -> Reason:
        """Known from the container's stop reason, OutOfMemoryError."""
        self._discovery.poll_soon(worker_id)
        if worker_id in self._discovery.states():
            with suppress(TimeoutError):
                async with asyncio.timeout(_VERDICT_SECONDS):
                    await self._discovery.until(
                        worker_id, lambda state: state.gone or state.reason is Reason.OUT_OF_MEMORY
                    )
        return self._sizing.known_end(worker_id)

    def known(self, worker_id: WorkerId) -> WorkerView | None:
        state = self._discovery.states().get(worker_id)
        return None if state is None else as_view(state)

    def limit_reached(self, need: WorkerNeed) -> str | None:
        return self._sizing.limit_reached(need)

    async def release(self, worker_id: WorkerId, *, reusable: bool, attempt: AttemptId | None = None) -> None:
        """Does not wait for the end of one that is stopped."""
        held = self._inventory.held_for(worker_id)
        if attempt is not None and held and held != str(attempt):
            return
        if reusable and held is not None:
            # It has worked for us: ECS may be later to say that it is healthy.
            self._discovery.mark_healthy(worker_id)
        self._inventory.let_go(worker_id)
        state = self._discovery.states().get(worker_id)
        if state is not None and state.gone:
            return
        if reusable and state is not None and state.healthy:
            self._inventory.mark_idle(worker_id)
            return
        await self._launches.stop(worker_id, "released, not to be used again")

    async def disown(self, worker_id: WorkerId) -> None:
        self._inventory.let_go(worker_id)

    def slots(self) -> int:
        self._discovery.start()
        idle = {*self._inventory.idle(), *self._floor.ready()}
        return self._free_slots(
            user_of(worker_id, self._discovery.states(), self._inventory)
            for worker_id, state in self._discovery.states().items()
            if not state.gone and worker_id not in idle
        )

    def capacity(self) -> Capacity:
        launching = self._launching | launches_under_way(self._discovery.states(), self._inventory)
        live = live_workers(self._discovery, self._inventory, self._floor.ready(), self._clock())
        return Capacity(self._launches.seconds, live, launching, self._floor.wants(), self._floor_size)

    def size_for(self, need: WorkerNeed) -> WorkerSize:
        return self._sizing.size_for(need)

    async def spare(self, worker_id: WorkerId, *, end: bool) -> None:
        state = self._discovery.states().get(worker_id)
        if state is None or state.task is None or not self._inventory.is_warm(worker_id):
            return
        if state.task.size == self._floor_size and self._floor.offer(worker_id):
            return
        if end:
            self._inventory.let_go(worker_id)
            await self._launches.stop(worker_id, "no job needs it")

    async def reserve(self, worker_id: WorkerId, launch: AttemptId) -> WorkerHandle | None:
        """Only of the floor's size: a larger one would cost more for as long as it is kept."""
        idle, state = self._inventory.idle(), self._discovery.states().get(worker_id)
        if worker_id not in idle or state is None or state.task is None:
            return None
        if state.task.size != self._floor_size or not state.healthy:
            return None
        self._inventory.hold(worker_id, str(launch))
        return await self._still_idle(worker_id, idle[worker_id])

    async def view(self) -> Sequence[WorkerView]:
        """Those that ended are shown for a while, with their diagnosis."""
        self._discovery.start()
        return views(self._discovery, self._inventory)

    async def survey(self, also: Collection[WorkerId] = ()) -> Sequence[WorkerView]:
        """Of `also`, one that ECS does not know (any more) is not in the answer."""
        try:
            async with asyncio.timeout(self._survey_timeout):
                await self._discovery.swept()
                unseen = sorted(filter(is_task_id, set(also) - self._discovery.states().keys()))
                described = await self._api.describe_tasks(unseen)
        except TimeoutError:
            raise CloudUnavailable("survey", "the fleet could not be seen in time") from None
        found = [
            WorkerState(task.worker_id, 0.0, task, gone=task.stopped) for task in described.tasks.values()
        ]
        shown = [
            *views(self._discovery, self._inventory),
            *(as_view(state) for state in found if is_of(self._discovery.fleet, state)),
        ]
        # One that ECS never showed may be a worker of another cluster that a job named.
        return [view for view in shown if view.health is not WorkerHealth.GONE or view.started_at]

    async def stop(self, worker_id: WorkerId, reason: str) -> None:
        """Does not wait for its end."""
        state = self._discovery.states().get(worker_id)
        if not is_task_id(worker_id):
            raise NotFound("worker", worker_id)
        if state is None or state.task is None:
            task = (await self._api.describe_tasks([worker_id])).tasks.get(worker_id)
            state = WorkerState(worker_id, 0.0, task, gone=task is None or task.stopped)
        if state.gone or not is_of(self._discovery.fleet, state):
            raise NotFound("worker", worker_id)
        if self._inventory.held_for(worker_id) is None:
            self._inventory.let_go(worker_id)
        await self._api.stop_task(worker_id, f"gooseherd: {reason}")
        self._inventory.dismiss(worker_id)
        self._discovery.poll_soon(worker_id)

    async def close(self) -> None:
        """Idempotent."""
        if self._acquisitions.closed:
            return
        await self._acquisitions.close()
        await self._launches.close()
        idle = self._inventory.all_idle()
        await asyncio.gather(*(self._launches.stop(worker_id, "the API is leaving") for worker_id in idle))
        await self._discovery.close()
        await self._api.close()

    # -- getting one -----------------------------------------------------------------------

    async def _acquire(self, need: WorkerNeed) -> WorkerHandle:
        await self._seen_once()
        attempt, size = str(need.attempt), self.size_for(need)
        mine = self._launched_for(attempt)
        if mine is not None:
            self._inventory.hold(mine, attempt)
            return await self._launches.healthy(mine)
        longest = self._idle_timeout * _FRESH_SHARE
        if not need.reserved:
            while (warm := self._inventory.take(attempt, size, longest)) is not None:
                if (handle := await self._still_idle(*warm)) is not None:
                    log.info("warm worker reused", extra={"worker": handle.worker_id, "attempt": attempt})
                    return handle
            if not need.leaves_floor and (handle := await self._from_floor(need.attempt, size)) is not None:
                return handle
        await self._make_room(attempt, reserved=need.reserved)
        try:
            worker_id = await self._launches.launch(need.attempt, size, reserved=need.reserved)
        finally:
            self._launching.discard(attempt)
        return await self._launches.healthy(worker_id)

    async def _from_floor(self, attempt: AttemptId, size: WorkerSize) -> WorkerHandle | None:
        """One of the warm floor, if its size will do; None: none is to be had."""
        if not self._floor_size.covers(size):
            return None
        while (worker_id := await self._floor_worker()) is not None:
            if (handle := await self.take(worker_id, attempt)) is not None:
                log.info("worker of the floor used", extra={"worker": worker_id, "attempt": str(attempt)})
                return handle
            await self._launches.stop(worker_id, "it was warm and cannot be used")
        return None

    async def _floor_worker(self) -> WorkerId | None:
        try:
            return await self._floor.take()
        except STORE_AWAY as error:
            log.warning("the warm floor cannot be used", extra={"error": str(error)})
            return None

    async def _seen_once(self) -> None:
        """What runs already counts, so nothing is launched before it was seen."""
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._discovery.swept()
        except TimeoutError:
            raise LaunchFailed("ECS does not answer") from None

    def _launched_for(self, attempt: str) -> WorkerId | None:
        for worker_id, state in self._discovery.states().items():
            if state.gone or self._inventory.is_warm(worker_id):
                continue
            held = self._inventory.held_for(worker_id)
            if held == attempt or (
                not held and state.task and state.task.wanted and state.task.launched_for == attempt
            ):
                return worker_id
        return None

    async def _still_idle(
        self, worker_id: WorkerId, since: float, ask: Describe | None = None
    ) -> WorkerHandle | None:
        """Ask a warm worker whether it may be used; None: another process has it, or it does not answer."""
        address = self._discovery.address(worker_id)
        assert address is not None
        handle = WorkerHandle(worker_id, address)
        if self._clock() - since < self._sure_for and not self._inventory.was_found(worker_id):
            return handle  # It answered this process a moment ago.
        try:
            async with asyncio.timeout(DESCRIBE_SECONDS):
                answer = await (ask or self._describe)(handle)
        except (WorkerLost, Misconfigured, TimeoutError) as error:
            log.info("warm worker silent", extra={"worker": worker_id, "error": type(error).__name__})
            self._inventory.mark_unresponsive(worker_id, since)
            self._discovery.poll_soon(worker_id)
            return None
        except BaseException:
            self._inventory.mark_idle(worker_id, since)
            raise
        if answer.get("build") == self._build and not answer.get("attempts") and not answer.get("draining"):
            return handle
        log.info("warm worker not reused", extra={"worker": worker_id, "described": dict(answer)})
        self._inventory.let_go(worker_id)
        self._discovery.poll_soon(worker_id)
        return None

    async def _make_room(self, attempt: str, *, reserved: bool = False) -> None:
        """Take a slot for a launch. Raises NoCapacity when all workers are in use.

        For a reservation nobody makes room: what is idle is as good as what it would get.
        """
        while self._used() >= self._max_workers:
            idle = {} if reserved else self._inventory.idle()
            if idle:
                victim = min(idle, key=lambda worker_id: idle[worker_id])
            elif reserved or (taken := await self._floor_worker()) is None:
                raise self._no_capacity(self._max_workers)
            else:
                victim = taken
            self._inventory.let_go(victim)
            await self._launches.stop(victim, "makes room for another size")
            try:
                async with asyncio.timeout(self._start_timeout):
                    await self.gone(victim)
            except TimeoutError:
                raise NoCapacity("(a worker that makes room does not end)") from None
        self._launching.add(attempt)

    def _used(self) -> int:
        """Live workers and decided launches; a worker already seen stands for its launch."""
        live = [state for state in self._discovery.states().values() if not state.gone]
        seen = {state.task.launched_for for state in live if state.task is not None}
        return len(live) + len(self._launching - seen)
