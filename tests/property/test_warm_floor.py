"""The warm floor, held by several API processes that see and act in any order, with workers taken and killed.

The store gives a slot to one, as its unique index does; everything else the processes decide by `plan` from
what they saw, possibly some steps ago. At no moment live more reservations than the floor, and when trouble
stops there are as many. A seeded bug, each process holding the floor for itself, is found.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gooseherd.domain.job import Requester, WorkerId
from gooseherd.domain.ports.fleet import WorkerHealth, WorkerView
from gooseherd.domain.reservation import Purpose, Reservation, ReservationId, ReservationState
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

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FLOOR = 2


@dataclass
class Process:
    """An API process: its build, and what it decided and has not done yet."""

    build: str
    deployed_at: datetime
    decided: list[Action] = field(default_factory=list)


@dataclass
class World:
    """The store, the workers, and a clock; `shared` False seeds the bug."""

    shared: bool = True
    now: datetime = START
    reservations: dict[str, Reservation] = field(default_factory=dict)
    workers: dict[WorkerId, WorkerHealth] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    def start(self, build: str) -> None:
        self.now += SECOND
        self.processes.append(Process(build, self.now))

    def live(self) -> list[Reservation]:
        return [one for one in self.reservations.values() if one.live]

    def observe(self, process: Process) -> None:
        views = [WorkerView(name, health, 1.0) for name, health in self.workers.items()]
        theirs = [one for one in self.live() if self.shared or one.owner.startswith(self._mark(process))]
        process.decided = plan(
            FloorSnapshot(self.now, FLOOR, process.build, process.deployed_at, theirs, views)
        )

    def _mark(self, process: Process) -> str:
        return "" if self.shared else f"process {self.processes.index(process)} "

    def act(self, process: Process) -> None:
        if not process.decided:
            return
        match process.decided.pop(0):
            case ReserveSlot(slot):
                owner = Requester(f"{self._mark(process)}floor/{slot}")
                if all(one.owner != owner for one in self.live()):
                    self._reserve(process, owner, slot)
            case EndReservation(seen, reason):
                self._change(seen, seen.to(ReservationState.ENDING, reason=reason))
            case ReplaceWorker(seen):
                worker = WorkerId(f"w{len(self.workers)}")
                replaced = seen.to(
                    ReservationState.STARTING, build=process.build, deployed_at=process.deployed_at
                )
                if self._change(seen, replaced.to(ReservationState.READY, worker_id=worker)):
                    self.workers[worker] = WorkerHealth.HEALTHY
                    if seen.worker_id is not None:
                        self.workers[seen.worker_id] = WorkerHealth.GONE
            case FinishEnding(seen):
                if seen.worker_id is not None:
                    self.workers[seen.worker_id] = WorkerHealth.GONE
                self._change(seen, seen.to(ReservationState.ENDED))
            case SpeakTo(seen):
                self._change(seen, replace(seen, kept_at=self.now))

    def _reserve(self, process: Process, owner: Requester, slot: int) -> None:
        name = f"r{len(self.reservations)}"
        worker = WorkerId(f"w{len(self.workers)}")
        self.workers[worker] = WorkerHealth.HEALTHY
        self.reservations[name] = Reservation(
            ReservationId(name), Purpose.FLOOR, owner, slot, ReservationState.READY, process.build,
            process.deployed_at, self.now, self.now, worker_id=worker, kept_at=self.now,
        )  # fmt: skip

    def _change(self, seen: Reservation, wanted: Reservation) -> bool:
        if self.reservations[seen.reservation_id].version != seen.version:
            return False
        self.reservations[seen.reservation_id] = replace(wanted, version=seen.version + 1)
        return True

    def take(self, which: int) -> None:
        ready = [one for one in self.live() if one.state is ReservationState.READY]
        if ready:
            one = ready[which % len(ready)]
            self._change(one, one.to(ReservationState.ENDED))

    def kill(self, which: int) -> None:
        names = [name for name, health in self.workers.items() if health is WorkerHealth.HEALTHY]
        if names:
            self.workers[names[which % len(names)]] = WorkerHealth.GONE

    def settle(self) -> None:
        """No more trouble: every process sees and acts, in turn, a few times."""
        for _ in range(2 * len(self.processes) + 6):
            self.now += SECOND
            for process in self.processes:
                self.observe(process)
                while process.decided:
                    self.act(process)


STEPS = st.lists(
    st.tuples(st.sampled_from(["see", "act", "act", "take", "kill", "wait"]), st.integers(0, 5)), max_size=60
)


def played(world: World, steps: list[tuple[str, int]]) -> int:
    """The most that lived at any moment."""
    most = 0
    for what, which in steps:
        process = world.processes[which % len(world.processes)]
        match what:
            case "see":
                world.observe(process)
            case "act":
                world.act(process)
            case "take":
                world.take(which)
            case "kill":
                world.kill(which)
            case _:
                world.now += SECOND
        most = max(most, len(world.live()))
    return most


@given(steps=STEPS)
def test_three_processes_hold_one_floor_whatever_the_order(steps: list[tuple[str, int]]) -> None:
    world = World()
    for _ in range(3):
        world.start("b1")
    assert played(world, steps) <= FLOOR
    world.settle()
    assert sorted(one.slot for one in world.live()) == [0, 1]
    assert all(one.state is ReservationState.READY for one in world.live())
    lives = {one.worker_id for one in world.live()}
    assert all(world.workers[worker] is WorkerHealth.HEALTHY for worker in lives if worker)


@given(steps=STEPS)
def test_a_later_deployment_drains_the_earlier_one_and_holds_the_floor_itself(
    steps: list[tuple[str, int]],
) -> None:
    world = World()
    for build in ("b1", "b1", "b2"):
        world.start(build)
    assert played(world, steps) <= FLOOR
    world.settle()
    newest = [one for one in world.live() if one.build == "b2"]
    assert len(newest) == FLOOR
    assert len(world.live()) == FLOOR


def test_a_floor_that_each_process_holds_for_itself_is_found() -> None:
    """The seeded bug: slots by process, and a process that sees its own only."""
    steps = [("see", 0), ("see", 1)] + [("act", which) for which in (0, 1) for _ in range(FLOOR)]
    for shared, most in ((True, FLOOR), (False, 2 * FLOOR)):
        world = World(shared=shared)
        for _ in range(2):
            world.start("b1")
        assert played(world, steps) == most


@pytest.mark.parametrize("health", [WorkerHealth.UNHEALTHY, WorkerHealth.DRAINING, WorkerHealth.GONE])
def test_a_worker_that_is_no_use_frees_its_slot(health: WorkerHealth) -> None:
    world = World()
    world.start("b1")
    world.settle()
    worker = world.live()[0].worker_id
    assert worker is not None
    world.workers[worker] = health
    world.settle()
    assert worker not in {one.worker_id for one in world.live()}
    assert len(world.live()) == FLOOR


def test_a_worker_that_is_not_seen_is_not_given_up_before_it_must_have_ended() -> None:
    world = World()
    world.start("b1")
    world.settle()
    snapshot = FloorSnapshot(START, FLOOR, "b1", START, world.live(), ())
    soon, late = (replace(snapshot, now=world.now + timedelta(minutes=minutes)) for minutes in (10, 12))
    assert all(isinstance(action, SpeakTo) for action in plan(soon))
    assert all(isinstance(action, EndReservation) for action in plan(late))


def test_nothing_is_launched_while_launches_fail_or_the_fleet_is_full() -> None:
    seen = FloorSnapshot(START, FLOOR, "b1", START, ())
    assert len(plan(seen)) == FLOOR
    assert plan(replace(seen, launches_pause_until=START + SECOND)) == []
    assert plan(replace(seen, free=1)) == [ReserveSlot(0)]
    assert plan(replace(seen, floor=0)) == []
