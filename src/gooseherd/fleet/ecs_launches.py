"""One FleetTask from RunTask to healthy: there is a healthy worker afterwards, or none at all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import GooseherdError, LaunchFailed, Misconfigured, NotFound, WorkerLost
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.domain.worker_size import WorkerSize
from gooseherd.fleet.diagnosis import as_error, diagnose, starting_late
from gooseherd.fleet.discovery import EcsDiscovery
from gooseherd.fleet.ecs_api import EcsApi
from gooseherd.fleet.provisioner import EcsProvisioner
from gooseherd.fleet.wool_workers import WoolWorkers
from gooseherd.fleet.worker_inventory import WorkerInventory

log = logging.getLogger(__name__)

Describe = Callable[[WorkerHandle], Awaitable[Mapping[str, Any]]]
"""Asks a worker for `build`, `attempts` and `draining`; raises WorkerLost when it does not answer."""

DESCRIBE_SECONDS: Final = 5.0


def describe_over_wool(workers: WoolWorkers) -> Describe:
    """Asks over Wool."""

    async def describe(worker: WorkerHandle) -> Mapping[str, Any]:
        async with workers.connect(worker) as link:
            return await link.describe()

    return describe


def keep_over_wool(workers: WoolWorkers, seconds: float) -> Describe:
    """The same, and it stays for so long although it is idle."""

    async def keep(worker: WorkerHandle) -> Mapping[str, Any]:
        async with workers.connect(worker) as link:
            return await link.keep(seconds)

    return keep


_FIRST_SECONDS: Final = 60.0
"""What a launch is taken to last before there was one: a cold start on Fargate."""
_NEWEST: Final = 0.3
"""The newest launch's share in how long they are taken to last."""


class EcsLaunches:
    """Starts and stops FleetTasks; `start_timeout` is from RunTask to healthy, in seconds."""

    def __init__(
        self,
        *,
        api: EcsApi,
        provisioner: EcsProvisioner,
        discovery: EcsDiscovery,
        inventory: WorkerInventory,
        describe: Describe,
        start_timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._provisioner = provisioner
        self._discovery = discovery
        self._inventory = inventory
        self._describe = describe
        self._start_timeout = start_timeout
        self._connecting: set[asyncio.Task[None]] = set()
        self._clock = clock
        self._requested_at: dict[WorkerId, float] = {}
        self._measured: float | None = None

    @property
    def seconds(self) -> float:
        """From RunTask to healthy, as launches of this process went lately."""
        return _FIRST_SECONDS if self._measured is None else self._measured

    async def launch(self, attempt: AttemptId, size: WorkerSize, *, reserved: bool = False) -> WorkerId:
        """Request a worker of that size, held for the attempt from now on.

        Raises:
            NoCapacity, LaunchFailed, Misconfigured: as EcsProvisioner.launch.
        """
        began = self._clock()
        launching = asyncio.create_task(self._provisioner.launch(attempt, size, reserved=reserved))
        try:
            worker_id = await asyncio.shield(launching)
        except asyncio.CancelledError:
            # RunTask cannot be called back: wait for the task it starts, and stop that.
            with suppress(GooseherdError):
                await self.stop(await launching, "nobody waits for it any more")
            raise
        self._inventory.hold(worker_id, str(attempt))
        self._requested_at[worker_id] = began
        self._discovery.expect(worker_id)
        return worker_id

    async def healthy(self, worker_id: WorkerId) -> WorkerHandle:
        """Wait for a requested worker; after an exception it was stopped.

        Raises:
            NoCapacity, LaunchFailed, Misconfigured: it ended, or was not healthy in time, and why.
        """
        try:
            async with asyncio.timeout(self._start_timeout):
                state = await self._discovery.until(worker_id, lambda state: state.healthy or state.gone)
        except TimeoutError:
            state = self._discovery.states()[worker_id]
            await self._give_up(worker_id)
            payload = state.task.payload if state.task else {}
            raise as_error(starting_late(payload, self._start_timeout)) from None
        except asyncio.CancelledError:
            await asyncio.shield(self._give_up(worker_id))
            raise
        finally:
            began = self._requested_at.pop(worker_id, None)
        if state.healthy:
            if began is not None:
                self._measure(self._clock() - began)
            address = self._discovery.address(worker_id)
            assert address is not None
            handle = WorkerHandle(worker_id, address)
            connecting = asyncio.create_task(self._connect(handle))
            self._connecting.add(connecting)
            connecting.add_done_callback(self._connecting.discard)
            return handle
        await self._give_up(worker_id)
        if state.task is None:
            raise LaunchFailed("the task was never seen by ECS")
        raise as_error(diagnose(state.task.payload))

    async def stop(self, worker_id: WorkerId, reason: str) -> None:
        """Never raises: what could not be stopped ends by its idle timeout, or by the reconciler."""
        self._inventory.dismiss(worker_id)
        try:
            await self._api.stop_task(worker_id, f"gooseherd: {reason}")
        except NotFound:
            pass
        except GooseherdError as error:
            log.error("worker not stopped", extra={"worker": worker_id, "error": str(error)})
        self._discovery.poll_soon(worker_id)

    async def close(self) -> None:
        """Give up launches under way, and stop what they started."""
        for connecting in self._connecting:
            connecting.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await self._provisioner.close()

    def _measure(self, seconds: float) -> None:
        before = seconds if self._measured is None else self._measured
        self._measured = before + _NEWEST * (seconds - before)

    async def _connect(self, worker: WorkerHandle) -> None:
        """Open the connection to a new worker while its caller writes down that it has it."""
        with suppress(WorkerLost, Misconfigured, TimeoutError):
            async with asyncio.timeout(DESCRIBE_SECONDS):
                await self._describe(worker)

    async def _give_up(self, worker_id: WorkerId) -> None:
        self._inventory.let_go(worker_id)
        state = self._discovery.states().get(worker_id)
        if state is None or not state.gone:
            await self.stop(worker_id, "did not become healthy")
