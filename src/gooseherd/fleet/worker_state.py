"""What is known of each FleetTask, and how an observation changes it; pure.

observation                                   becomes
---------------------------------------------------------------------------------
shown, STOPPED                                gone, with its diagnosis
shown, older than what is known               nothing (reads may be stale)
shown, otherwise                              known like that; absences forgotten
listed, not shown                             nothing (ECS contradicts itself)
missing, never seen, within the birth grace   nothing (eventual consistency)
missing, otherwise                            one absence, if the last one is long enough ago
missing for the second time                   gone, without a diagnosis
not asked for                                 nothing
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHealth, WorkerView
from gooseherd.fleet.diagnosis import diagnose
from gooseherd.fleet.ecs_tasks import FleetTask
from gooseherd.fleet.sizes import CPU_UNITS

_ABSENCES: Final = 2


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What this process knows of one FleetTask. Times are of its monotonic clock, seconds."""

    worker_id: WorkerId
    since: float
    """When it was launched, or first heard of."""
    task: FleetTask | None = None
    """The newest that ECS showed; None: not yet seen."""
    known_to_exist: bool = False
    """Somebody saw it before: missing means missing."""
    absences: int = 0
    absent_at: float = 0.0
    probed: bool = False
    """It answered our own health request, which is sooner than ECS says so."""
    been_healthy: bool = False
    healthy_at: float | None = None
    """When it was first seen to be."""
    gone: bool = False
    changed_at: float = 0.0

    @property
    def healthy(self) -> bool:
        """Runs, has an address, and is healthy by ECS or by its own answer; UNHEALTHY overrules both."""
        task = self.task
        if self.gone or task is None or not task.wanted or task.address is None:
            return False
        return (task.running and task.health == "HEALTHY") or (self.probed and task.starting)

    @property
    def pressing(self) -> bool:
        """Whether its next change matters soon: it is not yet healthy, it is on its way out, or absent."""
        return not self.gone and (
            self.task is None or self.absences > 0 or not self.task.wanted or not self.been_healthy
        )

    def diagnosis(self) -> str:
        """Why it is gone, for people."""
        if self.task is not None and self.task.stopped:
            return str(diagnose(self.task.payload))
        return "the task is no longer known to ECS"

    @property
    def reason(self) -> Reason:
        """What an attempt ended with that was under way when it went, or fell silent."""
        # Containers tell how they ended well before the task counts as stopped.
        return Reason.WORKER_LOST if self.task is None else diagnose(self.task.payload).reason


def observe(
    known: Mapping[WorkerId, WorkerState],
    tasks: Mapping[WorkerId, FleetTask],
    missing: Collection[WorkerId],
    listed: Collection[WorkerId],
    *,
    now: float,
    birth_grace: float,
    absence_gap: float,
) -> dict[WorkerId, WorkerState]:
    """What is known after a complete observation: the states that changed, and only those."""
    changed: dict[WorkerId, WorkerState] = {}
    for worker_id, task in tasks.items():
        before = known.get(worker_id) or WorkerState(worker_id, now)
        if before.gone or (before.task is not None and task.version < before.task.version):
            continue
        after = replace(before, task=task, gone=task.stopped, absences=0)
        if after.healthy and not before.been_healthy:
            after = replace(after, been_healthy=True, healthy_at=now)
        if after != known.get(worker_id):
            changed[worker_id] = replace(after, changed_at=now)
    for worker_id in missing:
        state = known.get(worker_id)
        if state is None or state.gone or worker_id in listed:
            continue
        if state.task is None and not state.known_to_exist and now - state.since < birth_grace:
            continue
        if state.absences and now - state.absent_at < absence_gap:
            continue
        absences = state.absences + 1
        changed[worker_id] = replace(
            state, absences=absences, absent_at=now, gone=absences >= _ABSENCES, changed_at=now
        )
    return changed


def as_view(state: WorkerState, held_for: str | None = None, *, warm: bool = False) -> WorkerView:
    """As operators see it; `held_for` is the attempt that has it, as far as this process knows."""
    task, attempt = state.task, held_for or None
    if task is None:
        health = WorkerHealth.GONE if state.gone else WorkerHealth.STARTING
        detail = state.diagnosis() if state.gone else "requested, not seen"
        return WorkerView(state.worker_id, health, 0.0, attempt, detail, stoppable=not state.gone)
    if attempt is None and task.starting and not state.healthy:
        attempt = task.launched_for
    text = f"{task.status.lower()}, {task.health.lower()}"
    return WorkerView(
        worker_id=state.worker_id,
        health=_health(state, task),
        started_at=task.created_at,
        attempt=None if state.gone else attempt,
        detail=state.diagnosis() if state.gone else text,
        launched_for=task.launched_for,
        warm=warm and not state.gone,
        stoppable=task.wanted and not state.gone,
        size=f"{task.size.cpu / CPU_UNITS:g} vCPU, {task.size.memory_mib} MiB, {task.size.disk_gib} GiB disk",
        resources=task.resources,
        paid_from=task.paid_from,
        ended_at=task.ended_at,
    )


def _health(state: WorkerState, task: FleetTask) -> WorkerHealth:
    if state.gone:
        return WorkerHealth.GONE
    if not task.wanted:
        return WorkerHealth.DRAINING
    if task.health == "UNHEALTHY":
        return WorkerHealth.UNHEALTHY
    return WorkerHealth.HEALTHY if state.healthy else WorkerHealth.STARTING
