"""Workers as FleetTasks of ECS, one attempt at a time each; implements the Fleet port.

    acquire:  the worker that has this attempt already
              → a warm one of ours that is large enough and, asked itself, is idle and of our build
              → a launch, when fewer than `max_workers` live (a warm one too small or too old makes room)

Warm workers belong to the process that released them: no two processes hand out one worker,
and what a dead process leaves behind ends by its own idle timeout. The worker itself has the
last word: it refuses a second attempt.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import (
    GooseherdError,
    LaunchFailed,
    Misconfigured,
    NoCapacity,
    NotFound,
    WorkerLost,
)
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle, WorkerHealth, WorkerNeed, WorkerView
from gooseherd.fleet.acquisitions import Acquisitions
from gooseherd.fleet.diagnosis import as_error, diagnose, starting_late
from gooseherd.fleet.discovery import EcsDiscovery
from gooseherd.fleet.ecs_api import CloudUnavailable, EcsApi
from gooseherd.fleet.ecs_view import Sighting, shown
from gooseherd.fleet.provisioner import EcsProvisioner
from gooseherd.fleet.sizes import SizeBounds, WorkerSize, limit_reached, size_for
from gooseherd.fleet.wool_workers import WoolWorkers
from gooseherd.fleet.worker_pool import WorkerPool

log = logging.getLogger(__name__)

Describe = Callable[[WorkerHandle], Awaitable[Mapping[str, Any]]]
"""Asks a worker for `build`, `attempts` and `draining`; raises WorkerLost when it does not answer."""

_DESCRIBE_SECONDS: Final = 5.0
_SURVEY_SECONDS: Final = 20.0
"""How long a survey waits for ECS; whoever asked looks again later."""
_VERDICT_SECONDS: Final = 5.0
"""How long a silent worker's end is waited for: ECS shows a container's some seconds after it."""
_FRESH_SHARE: Final = 0.9
"""Of the idle timeout: a warm worker closer to its own end is not handed out."""


_TASK_ID: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _is_task_id(worker_id: WorkerId) -> bool:
    """Whether ECS can be asked for it: one other name makes it refuse the whole question.

    A job may name a local worker, from before its deployment moved to ECS.
    """
    return _TASK_ID.fullmatch(worker_id) is not None


def asking(workers: WoolWorkers) -> Describe:
    """Asks over Wool."""

    async def describe(worker: WorkerHandle) -> Mapping[str, Any]:
        async with workers.connect(worker) as link:
            return await link.describe()

    return describe


class EcsFleet:
    """At most `max_workers` FleetTasks, those of other processes of this fleet included.

    Two processes that launch in the same moment may exceed it by what both have under way.
    `idle_timeout` is what workers are told (seconds), `start_timeout` from RunTask to healthy; a warm
    worker is not asked whether it is idle within `sure_for` of its release.
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
        sure_for: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._provisioner = provisioner
        self._discovery = discovery
        self._describe = describe
        self._build = build
        self._max = max_workers
        self._bounds = bounds or SizeBounds()
        self._start_timeout = start_timeout
        self._idle_timeout = idle_timeout
        self._sure_for = sure_for
        self._clock = clock
        self._worker_pool = WorkerPool(discovery.sightings, clock)
        self._launching: set[str] = set()
        """Attempts for which a launch is decided and no worker is known yet: each is a slot."""
        self._acquisitions = Acquisitions(self._acquire, self.release)
        self._greeting: set[asyncio.Task[None]] = set()

    # -- the port --------------------------------------------------------------------------

    async def acquire(self, need: WorkerNeed) -> WorkerHandle:
        """As the port says; concurrent calls for one attempt get one worker."""
        return await self._acquisitions.get(need)

    async def find(self, worker_id: WorkerId) -> WorkerHandle | None:
        """As the port says; waits for ECS as long as it takes, for not seeing a worker is not its end."""
        if not _is_task_id(worker_id):
            return None
        sighting = await self._discovery.look_up(worker_id)
        address = self._discovery.address(worker_id)
        if sighting.gone or address is None:
            return None
        # For which attempt is not said; a guess would keep the one that has it from releasing it.
        self._worker_pool.hold(worker_id, self._worker_pool.held_for(worker_id) or "")
        return WorkerHandle(worker_id, address)

    async def gone(self, worker_id: WorkerId) -> str:
        """As the port says: STOPPED, or missing twice after it had been seen."""
        if not _is_task_id(worker_id):
            return "it was a worker of another kind of fleet"
        if worker_id not in self._discovery.sightings():
            await self._discovery.look_up(worker_id)
        return (await self._discovery.until(worker_id, lambda seen: seen.gone)).diagnosis()

    async def verdict(self, worker_id: WorkerId) -> Reason:
        """As the port says; known from the container's stop reason, OutOfMemoryError."""
        self._discovery.hurry(worker_id)
        if worker_id in self._discovery.sightings():
            with suppress(TimeoutError):
                async with asyncio.timeout(_VERDICT_SECONDS):
                    await self._discovery.until(
                        worker_id, lambda seen: seen.gone or seen.reason is Reason.OUT_OF_MEMORY
                    )
        return self._known_end(worker_id)

    def limit_reached(self, need: WorkerNeed) -> str | None:
        """As the port says."""
        return limit_reached(self._judged(need), self._bounds, self._sizes())

    async def release(self, worker_id: WorkerId, *, reusable: bool, attempt: AttemptId | None = None) -> None:
        """As the port says; does not wait for the end of one that is stopped."""
        held = self._worker_pool.held_for(worker_id)
        if attempt is not None and held and held != str(attempt):
            return
        if reusable and held is not None:
            # It has worked for us: ECS may be later to say that it is healthy.
            self._discovery.confirm(worker_id)
        self._worker_pool.let_go(worker_id)
        sighting = self._discovery.sightings().get(worker_id)
        if sighting is not None and sighting.gone:
            return
        if reusable and sighting is not None and sighting.healthy:
            self._worker_pool.rest(worker_id)
            return
        await self._stop(worker_id, "released, not to be used again")

    async def disown(self, worker_id: WorkerId) -> None:
        """As the port says."""
        self._worker_pool.let_go(worker_id)

    def slots(self) -> int:
        """As the port says; those that this process is just acquiring are not counted as taken yet."""
        self._discovery.start()
        acquiring = self._acquisitions.attempts()
        idle = self._worker_pool.idle()
        return self._max - sum(
            not sighting.gone and worker_id not in idle and self._user_of(worker_id) not in acquiring
            for worker_id, sighting in self._discovery.sightings().items()
        )

    async def view(self) -> Sequence[WorkerView]:
        """As the port says; those that ended are shown for a while, with their diagnosis."""
        self._discovery.start()
        return self._shown()

    async def survey(self, also: Collection[WorkerId] = ()) -> Sequence[WorkerView]:
        """As the port says. Of `also`, one that ECS does not know (any more) is not in the answer."""
        try:
            async with asyncio.timeout(_SURVEY_SECONDS):
                await self._discovery.swept()
                unseen = sorted(filter(_is_task_id, set(also) - self._discovery.sightings().keys()))
                described = await self._api.describe_tasks(unseen)
        except TimeoutError:
            raise CloudUnavailable("survey", "the fleet could not be seen in time") from None
        found = [Sighting(task.worker_id, 0.0, task, gone=task.stopped) for task in described.tasks.values()]
        views = [*self._shown(), *(shown(sighting) for sighting in found if self._is_ours(sighting))]
        # One that ECS never showed may be a worker of another cluster that a job named.
        return [view for view in views if view.health is not WorkerHealth.GONE or view.started_at]

    async def stop(self, worker_id: WorkerId, reason: str) -> None:
        """As the port says; does not wait for its end."""
        sighting = self._discovery.sightings().get(worker_id)
        if not _is_task_id(worker_id):
            raise NotFound("worker", worker_id)
        if sighting is None or sighting.task is None:
            task = (await self._api.describe_tasks([worker_id])).tasks.get(worker_id)
            sighting = Sighting(worker_id, 0.0, task, gone=task is None or task.stopped)
        if sighting.gone or not self._is_ours(sighting):
            raise NotFound("worker", worker_id)
        if self._worker_pool.held_for(worker_id) is None:
            self._worker_pool.let_go(worker_id)
        await self._api.stop_task(worker_id, f"gooseherd: {reason}")
        self._worker_pool.dismiss(worker_id)
        self._discovery.hurry(worker_id)

    async def close(self) -> None:
        """As the port says; idempotent."""
        if self._acquisitions.closed:
            return
        await self._acquisitions.close()
        for greeting in self._greeting:
            greeting.cancel()
        await asyncio.gather(*self._greeting, return_exceptions=True)
        await self._provisioner.close()
        idle = self._worker_pool.all_idle()
        await asyncio.gather(*(self._stop(worker_id, "the API is leaving") for worker_id in idle))
        await self._discovery.close()
        await self._api.close()

    # -- getting one -----------------------------------------------------------------------

    async def _acquire(self, need: WorkerNeed) -> WorkerHandle:
        await self._seen_once()
        attempt, size = str(need.attempt), size_for(self._judged(need), self._bounds, self._sizes())
        mine = self._launched_for(attempt)
        if mine is not None:
            self._worker_pool.hold(mine, attempt)
            return await self._healthy(mine)
        longest = self._idle_timeout * _FRESH_SHARE
        while (warm := self._worker_pool.take(attempt, size, longest)) is not None:
            handle = await self._still_idle(*warm)
            if handle is not None:
                log.info("warm worker reused", extra={"worker": handle.worker_id, "attempt": attempt})
                return handle
        await self._make_room(attempt)
        try:
            worker_id = await self._launch(need.attempt, size)
        finally:
            self._launching.discard(attempt)
        return await self._healthy(worker_id)

    def _known_end(self, worker_id: WorkerId | None) -> Reason:
        sighting = None if worker_id is None else self._discovery.sightings().get(worker_id)
        return Reason.WORKER_LOST if sighting is None else sighting.reason

    def _judged(self, need: WorkerNeed) -> WorkerNeed:
        """Without workers that were merely lost; with those that are now known to have run out of memory."""
        judged = (
            replace(shortage, reason=self._known_end(shortage.worker_id))
            if shortage.reason is Reason.WORKER_LOST
            else shortage
            for shortage in need.shortages
        )
        return replace(need, shortages=tuple(s for s in judged if s.reason is not Reason.WORKER_LOST))

    def _sizes(self) -> dict[WorkerId, WorkerSize]:
        return {
            worker_id: sighting.task.size
            for worker_id, sighting in self._discovery.sightings().items()
            if sighting.task is not None
        }

    async def _launch(self, attempt: AttemptId, size: WorkerSize) -> WorkerId:
        launching = asyncio.create_task(self._provisioner.launch(attempt, size))
        try:
            worker_id = await asyncio.shield(launching)
        except asyncio.CancelledError:
            # RunTask cannot be called back: see who comes, and send it away.
            with suppress(GooseherdError):
                await self._stop(await launching, "nobody waits for it any more")
            raise
        self._worker_pool.hold(worker_id, str(attempt))
        self._discovery.expect(worker_id)
        return worker_id

    async def _seen_once(self) -> None:
        """What runs already counts, so nothing is launched before it was seen."""
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._discovery.swept()
        except TimeoutError:
            raise LaunchFailed("ECS does not answer") from None

    def _launched_for(self, attempt: str) -> WorkerId | None:
        for worker_id, sighting in self._discovery.sightings().items():
            if sighting.gone or self._worker_pool.is_warm(worker_id):
                continue
            held = self._worker_pool.held_for(worker_id)
            if held == attempt or (
                not held and sighting.task and sighting.task.wanted and sighting.task.launched_for == attempt
            ):
                return worker_id
        return None

    async def _still_idle(self, worker_id: WorkerId, since: float) -> WorkerHandle | None:
        """Ask a warm worker itself: ours to use, or somebody else's by now, or doubted for a while."""
        address = self._discovery.address(worker_id)
        assert address is not None
        handle = WorkerHandle(worker_id, address)
        if self._clock() - since < self._sure_for:
            return handle  # It has only just said its last word to us.
        try:
            async with asyncio.timeout(_DESCRIBE_SECONDS):
                state = await self._describe(handle)
        except (WorkerLost, Misconfigured, TimeoutError) as error:
            log.info("warm worker silent", extra={"worker": worker_id, "error": type(error).__name__})
            self._worker_pool.doubt(worker_id, since)
            self._discovery.hurry(worker_id)
            return None
        except BaseException:
            self._worker_pool.rest(worker_id, since)
            raise
        if state.get("build") == self._build and not state.get("attempts") and not state.get("draining"):
            return handle
        log.info("warm worker not reused", extra={"worker": worker_id, "said": dict(state)})
        self._worker_pool.let_go(worker_id)
        self._discovery.hurry(worker_id)
        return None

    async def _make_room(self, attempt: str) -> None:
        """Take a slot for a launch. Raises NoCapacity when all workers are in use."""
        while self._used() >= self._max:
            idle = self._worker_pool.idle()
            if not idle:
                raise NoCapacity(f"({self._max} of {self._max} workers in use)")
            victim = min(idle, key=lambda worker_id: idle[worker_id])
            self._worker_pool.let_go(victim)
            await self._stop(victim, "makes room for another size")
            try:
                async with asyncio.timeout(self._start_timeout):
                    await self.gone(victim)
            except TimeoutError:
                raise NoCapacity("(a worker that makes room does not end)") from None
        self._launching.add(attempt)

    def _used(self) -> int:
        """Live workers and decided launches; a worker already seen stands for its launch."""
        live = [sighting for sighting in self._discovery.sightings().values() if not sighting.gone]
        seen = {sighting.task.launched_for for sighting in live if sighting.task is not None}
        return len(live) + len(self._launching - seen)

    async def _healthy(self, worker_id: WorkerId) -> WorkerHandle:
        """Wait for it; with the launch this is one unit: it ends with a healthy worker or with none."""
        try:
            async with asyncio.timeout(self._start_timeout):
                sighting = await self._discovery.until(worker_id, lambda seen: seen.healthy or seen.gone)
        except TimeoutError:
            sighting = self._discovery.sightings()[worker_id]
            await self._give_up(worker_id)
            payload = sighting.task.payload if sighting.task else {}
            raise as_error(starting_late(payload, self._start_timeout)) from None
        except asyncio.CancelledError:
            await asyncio.shield(self._give_up(worker_id))
            raise
        if sighting.healthy:
            address = self._discovery.address(worker_id)
            assert address is not None
            handle = WorkerHandle(worker_id, address)
            greeting = asyncio.create_task(self._greet(handle))
            self._greeting.add(greeting)
            greeting.add_done_callback(self._greeting.discard)
            return handle
        await self._give_up(worker_id)
        if sighting.task is None:
            raise LaunchFailed("the task was never seen by ECS")
        raise as_error(diagnose(sighting.task.payload))

    async def _greet(self, worker: WorkerHandle) -> None:
        """Open the connection to one that has just come, while its caller writes down that it has it."""
        with suppress(WorkerLost, Misconfigured, TimeoutError):
            async with asyncio.timeout(_DESCRIBE_SECONDS):
                await self._describe(worker)

    async def _give_up(self, worker_id: WorkerId) -> None:
        self._worker_pool.let_go(worker_id)
        sighting = self._discovery.sightings().get(worker_id)
        if sighting is None or not sighting.gone:
            await self._stop(worker_id, "did not become healthy")

    # -- small things ----------------------------------------------------------------------

    def _shown(self) -> list[WorkerView]:
        return [
            shown(sighting, self._shown_user(worker_id), warm=self._worker_pool.is_warm(worker_id))
            for worker_id, sighting in self._discovery.sightings().items()
            if self._is_ours(sighting)
        ]

    def _shown_user(self, worker_id: WorkerId) -> str | None:
        return None if self._worker_pool.held_for(worker_id) is None else self._user_of(worker_id)

    def _user_of(self, worker_id: WorkerId) -> str | None:
        """The attempt that has it, or, as long as nobody has, the one it was launched for."""
        task = self._discovery.sightings()[worker_id].task
        return self._worker_pool.held_for(worker_id) or (task.launched_for if task is not None else None)

    def _is_ours(self, sighting: Sighting) -> bool:
        """A job may name a worker of another fleet; what was just launched was not seen yet."""
        return sighting.task is None or sighting.task.started_by == self._discovery.fleet

    async def _stop(self, worker_id: WorkerId, reason: str) -> None:
        """Never raises: what could not be stopped ends by its idle timeout, or by the reconciler."""
        self._worker_pool.dismiss(worker_id)
        try:
            await self._api.stop_task(worker_id, f"gooseherd: {reason}")
        except NotFound:
            pass
        except GooseherdError as error:
            log.error("worker not stopped", extra={"worker": worker_id, "error": str(error)})
        self._discovery.hurry(worker_id)
