"""Knows which workers live: one poller per process, for the fleet and for any number of Wool pools.

A sweep lists the fleet and describes all of it; between sweeps a round describes only what
starts or ends, often while it is young. What a round cannot read completely it does not
read at all. A worker that answers its own /health counts as healthy before ECS says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from gooseherd.domain.errors import GooseherdError
from gooseherd.domain.job import WorkerId
from gooseherd.fleet.ecs_api import BATCH, EcsApi
from gooseherd.fleet.ecs_health import HealthProbe
from gooseherd.fleet.ecs_rate import TokenBucket
from gooseherd.fleet.ecs_wool import DiscoveryStream
from gooseherd.fleet.worker_state import WorkerState, observe

log = logging.getLogger(__name__)

_REMEMBERED: Final = 1000
"""Gone workers whose diagnosis is kept."""
_PROBE_SECONDS: Final = 0.01
_LONGEST_PROBE_SECONDS: Final = 0.05
"""Between two probes of one worker; the more start, the longer, so that all together cost the same."""
_LEAST_GAP_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPace:
    """Seconds between rounds, and the most ListTasks and DescribeTasks calls a minute.

    ECS gives an account 20 reads a second in a region, for everybody in it (burst 100).
    """

    young: float = 0.2
    """After a launch; grows with the age of the youngest."""
    starting: float = 1.0
    """What it grows to."""
    busy: float = 10.0
    """Between sweeps while there are workers."""
    idle: float = 60.0
    """Between sweeps while there are none."""
    birth_grace: float = 60.0
    """A worker just launched may be MISSING for that long (RunTask's documentation)."""
    absence_gap: float = 2.0
    """Between two absences that count."""
    calls_per_minute: int = 120


class EcsDiscovery:
    """The workers that `fleet` (ECS `startedBy`) launched, by whichever process.

    Is a Wool DiscoveryLike as well: `subscribe()` gives streams of WorkerMetadata, with
    `worker_port` as the port and healthy workers only. Nothing here raises because of ECS;
    polling begins with the first use in an event loop.
    """

    def __init__(
        self,
        api: EcsApi,
        fleet: str,
        *,
        worker_port: int,
        pace: PollPace | None = None,
        probe: HealthProbe | None = None,
        secure: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self.fleet = fleet
        self._worker_port = worker_port
        self._pace = pace or PollPace()
        self._probe = probe
        self._clock = clock
        # Bounds any minute: a burst of a third, and two thirds at an even rate.
        calls = self._pace.calls_per_minute
        self._budget = TokenBucket(calls * 2 / 3 / 60, calls / 3, clock=clock)
        self._known: dict[WorkerId, WorkerState] = {}
        self._asked: set[WorkerId] = set()
        self._fresh: set[WorkerId] = set()
        self.sweeps = 0
        """Complete sweeps so far."""
        self._swept_at: float | None = None
        self._sweep_at = 0.0
        self._failures = 0
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None
        self._probing: dict[WorkerId, asyncio.Task[None]] = {}
        self._stream = DiscoveryStream(self, secure=secure)

    # -- what is known ---------------------------------------------------------------------

    def states(self) -> Mapping[WorkerId, WorkerState]:
        """All that is known, gone ones included for a while. A snapshot of this moment, not to be kept."""
        return self._known

    def healthy(self) -> dict[WorkerId, str]:
        """Healthy workers and their host:port."""
        return {
            worker_id: f"{state.task.address}:{self._worker_port}"
            for worker_id, state in self._known.items()
            if state.healthy and state.task is not None
        }

    def address(self, worker_id: WorkerId) -> str | None:
        """host:port of a worker, healthy or not, as soon as it has one."""
        state = self._known.get(worker_id)
        if state is None or state.task is None or state.task.address is None:
            return None
        return f"{state.task.address}:{self._worker_port}"

    async def swept(self) -> None:
        """Return when the whole fleet has been seen, not longer ago than the busy pace has it seen."""
        self.start()
        oldest = self._clock() - self._pace.busy
        if self._swept_at is None or self._swept_at < oldest:
            self.poll_soon()
        await self._until(lambda: self._swept_at is not None and self._swept_at >= oldest)

    async def look_up(self, worker_id: WorkerId) -> WorkerState:
        """The worker as ECS shows it now; waits for ECS as long as it takes.

        For a worker that somebody has seen before: missing twice it is gone.
        """
        self.start()
        before = self._known.get(worker_id) or WorkerState(worker_id, self._clock())
        if before.gone:
            return before
        self._known[worker_id] = replace(before, known_to_exist=True)
        self._fresh.discard(worker_id)
        self._asked.add(worker_id)
        self._sweep_at = min(self._sweep_at, self._clock() + self._pace.busy)
        self._wake.set()
        return await self._settled(worker_id, lambda state: worker_id in self._fresh or state.gone)

    async def until(self, worker_id: WorkerId, settled: Callable[[WorkerState], bool]) -> WorkerState:
        """Return when what is known of an expected or looked-up worker is as wanted."""
        self.start()
        return await self._settled(worker_id, settled)

    async def changed(self) -> None:
        """Return at the next change of anything."""
        await self._changed.wait()

    # -- hints from outside ----------------------------------------------------------------

    def expect(self, worker_id: WorkerId) -> None:
        """It was just launched: describe it soon and often."""
        self.start()
        self._known.setdefault(worker_id, WorkerState(worker_id, self._clock()))
        self._sweep_at = min(self._sweep_at, self._clock() + self._pace.busy)  # No longer idle.
        self._wake.set()

    def poll_soon(self, worker_id: WorkerId | None = None) -> None:
        """Something changed: describe that worker now, or sweep. Many calls make one request."""
        if worker_id is None:
            self._sweep_at = 0.0
        elif worker_id in self._known and not self._known[worker_id].gone:
            self._asked.add(worker_id)
        self._wake.set()

    def mark_healthy(self, worker_id: WorkerId) -> None:
        """It answered a health request: healthy from now on, unless ECS knows better."""
        state = self._known.get(worker_id)
        if state is not None and not state.probed and not state.gone:
            now = self._clock()
            at = now if state.healthy_at is None else state.healthy_at
            self._take_in(
                {worker_id: replace(state, probed=True, been_healthy=True, healthy_at=at, changed_at=now)}
            )

    # -- Wool ------------------------------------------------------------------------------

    @property
    def publisher(self) -> object:
        """Publishes nowhere: workers are found, they do not announce themselves."""
        return self._stream.publisher

    @property
    def subscriber(self) -> object:
        """A stream of all healthy workers."""
        return self._stream.subscribe(None)

    def subscribe(self, filter: Callable[[object], bool] | None = None) -> object:  # noqa: A002
        """A stream of those healthy workers whose metadata passes `filter`; starts with those of now."""
        return self._stream.subscribe(filter)

    # -- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin polling; again changes nothing."""
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll(), name="fleet discovery")

    async def close(self) -> None:
        """Stop polling. Streams stay silent from now on."""
        tasks = [task for task in (self._polling, *self._probing.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self) -> None:
        while True:
            try:
                await self._round()
                self._failures = 0
            except GooseherdError as error:
                self._failures += 1
                level = logging.WARNING if self._failures in {1, 10} else logging.DEBUG
                log.log(level, "fleet not seen, nothing changes", extra={"error": str(error)})
            except Exception:
                self._failures += 1
                log.exception("fleet discovery failed")
            await asyncio.sleep(_LEAST_GAP_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            self._wake.clear()

    async def _round(self) -> None:
        now = self._clock()
        if now >= self._sweep_at:
            await self._sweep()
        elif names := [
            worker_id
            for worker_id, state in self._known.items()
            if not state.gone and (state.pressing or worker_id in self._asked)
        ]:
            await self._describe(names, frozenset())

    async def _sweep(self) -> None:
        began = self._clock()
        live = {worker_id for worker_id, state in self._known.items() if not state.gone}
        await self._budget.take(_pages(len(live)))
        listed = await self._api.list_tasks(self.fleet, tries=1)
        await self._describe(sorted(live | (listed - self._known.keys())), listed)
        self.sweeps += 1
        self._swept_at = began
        alive = any(not state.gone for state in self._known.values())
        self._sweep_at = self._clock() + (self._pace.busy if alive else self._pace.idle)
        self._notify()

    async def _describe(self, names: list[WorkerId], listed: frozenset[WorkerId]) -> None:
        if not names:
            return
        await self._budget.take(_pages(len(names)))
        # Forgotten before the question: who asks while it is under way wants a newer answer.
        asked = self._asked.intersection(names)
        self._asked -= asked
        try:
            described = await self._api.describe_tasks(names, tries=1)
        except BaseException:
            self._asked |= asked
            raise
        self._fresh.update(described.tasks.keys() - self._asked)
        ours = {
            worker_id: task
            for worker_id, task in described.tasks.items()
            if task.started_by == self.fleet or worker_id in self._known
        }
        changed = observe(
            self._known,
            ours,
            described.missing,
            listed,
            now=self._clock(),
            birth_grace=self._pace.birth_grace,
            absence_gap=self._pace.absence_gap,
        )
        self._take_in(changed)
        self._notify()

    def _take_in(self, changed: Mapping[WorkerId, WorkerState]) -> None:
        # Only of those that went before: who waits for the end of one is to see it.
        gone = [worker_id for worker_id, state in self._known.items() if state.gone]
        for worker_id in gone[:-_REMEMBERED]:
            del self._known[worker_id]
        for worker_id, state in changed.items():
            before = self._known.get(worker_id)
            if state.gone:
                # To the end: gone ones stand in the order in which they went.
                self._known.pop(worker_id, None)
            self._known[worker_id] = state
            if state.gone:
                self._fresh.discard(worker_id)
                self._asked.discard(worker_id)
                log.info("worker ended", extra={"worker": worker_id, "how": state.diagnosis()})
            elif state.healthy and not (before and before.healthy):
                log.info("worker healthy", extra={"worker": worker_id, "probed": state.probed})
            self._probe_while_starting(worker_id)
        if changed:
            self._notify()

    def _notify(self) -> None:
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    async def _settled(self, worker_id: WorkerId, settled: Callable[[WorkerState], bool]) -> WorkerState:
        while not settled(state := self._known[worker_id]):
            await self._changed.wait()
        return state

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    # -- pace ------------------------------------------------------------------------------

    def _pause(self) -> float:
        """Seconds to the next round. A failed one is repeated ever more slowly."""
        now = self._clock()
        if self._failures:
            return min(self._pace.starting * 2.0 ** min(self._failures - 1, 5), _LONGEST_PAUSE_SECONDS)
        wait = self._sweep_at - now
        ages = [
            now - s.changed_at if s.changed_at else now - s.since for s in self._known.values() if s.pressing
        ]
        if ages or self._asked:
            age = min(ages, default=0.0)
            # One that does not change for minutes is not described every second any more.
            slowest = max(self._pace.starting, age / 60)
            wait = min(wait, max(age / 5, self._pace.young), slowest)
        return max(0.0, wait)

    # -- first-hand health -----------------------------------------------------------------

    def _probe_while_starting(self, worker_id: WorkerId) -> None:
        state = self._known[worker_id]
        if self._probe is None or worker_id in self._probing or not _to_probe(state):
            return
        task = asyncio.create_task(self._probe_one(worker_id, self._probe), name=f"probe {worker_id}")
        self._probing[worker_id] = task
        task.add_done_callback(lambda _: self._probing.pop(worker_id, None))

    async def _probe_one(self, worker_id: WorkerId, probe: HealthProbe) -> None:
        while _to_probe(state := self._known[worker_id]):
            assert state.task is not None
            assert state.task.address is not None
            if await probe(state.task.address):
                self.mark_healthy(worker_id)
                return
            await asyncio.sleep(min(_PROBE_SECONDS * len(self._probing), _LONGEST_PROBE_SECONDS))


def _to_probe(state: WorkerState) -> bool:
    task = state.task
    return (
        not state.gone
        and task is not None
        and task.starting
        and task.address is not None
        and not state.probed
    )


def _pages(count: int) -> int:
    return max(1, -(-count // BATCH))
