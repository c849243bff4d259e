"""What lives of a fleet on ECS and what is being launched, for operators and for whoever decides on more."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import LiveWorker, WorkerView
from gooseherd.fleet.discovery import EcsDiscovery
from gooseherd.fleet.worker_inventory import WorkerInventory
from gooseherd.fleet.worker_state import WorkerState, as_view


def is_of(fleet: str, state: WorkerState) -> bool:
    """A job may name a worker of another fleet; what was just launched was not seen yet."""
    return state.task is None or state.task.started_by == fleet


def user_of(
    worker_id: WorkerId, states: Mapping[WorkerId, WorkerState], inventory: WorkerInventory
) -> str | None:
    """The attempt that has it, or, as long as nobody has, the one it was launched for."""
    task = states[worker_id].task
    return inventory.held_for(worker_id) or (task.launched_for if task is not None else None)


def views(discovery: EcsDiscovery, inventory: WorkerInventory) -> list[WorkerView]:
    """Workers of the fleet as operators see them."""
    states = discovery.states()
    return [
        as_view(
            state,
            None if inventory.held_for(worker_id) is None else user_of(worker_id, states, inventory),
            warm=inventory.is_warm(worker_id),
        )
        for worker_id, state in states.items()
        if is_of(discovery.fleet, state)
    ]


def live_workers(
    discovery: EcsDiscovery, inventory: WorkerInventory, floor: Collection[WorkerId], now: float
) -> list[LiveWorker]:
    """Workers of the fleet that nobody has asked to end, with the idle ones of this process."""
    idle_since = inventory.idle()
    return [
        LiveWorker(
            worker_id,
            state.task.size,
            ready=state.healthy,
            ready_seconds=0.0 if state.healthy_at is None else now - state.healthy_at,
            idle_seconds=now - idle_since[worker_id] if worker_id in idle_since else None,
            of_floor=worker_id in floor,
            launched_for=state.task.launched_for,
        )
        for worker_id, state in discovery.states().items()
        if state.task is not None and state.task.wanted and not state.gone and is_of(discovery.fleet, state)
    ]


def launches_under_way(states: Mapping[WorkerId, WorkerState], inventory: WorkerInventory) -> set[str]:
    """For which attempts this process awaits a worker that it has launched."""
    starting = (worker_id for worker_id, state in states.items() if not state.gone and not state.healthy)
    return {attempt for attempt in map(inventory.held_for, starting) if attempt is not None}
