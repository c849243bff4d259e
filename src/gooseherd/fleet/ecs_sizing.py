"""Sizes of FleetTasks, by what is known of workers that were too small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from gooseherd.domain.failures import Reason
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerNeed
from gooseherd.domain.worker_size import WorkerSize
from gooseherd.fleet.sizes import SizeBounds, limit_reached, size_for, smallest
from gooseherd.fleet.worker_state import WorkerState


class EcsSizing:
    """What is launched for a need; `states` tells what is known of all workers now."""

    def __init__(self, bounds: SizeBounds, states: Callable[[], Mapping[WorkerId, WorkerState]]) -> None:
        self._bounds = bounds
        self._states = states
        self.smallest = smallest(bounds)

    def size_for(self, need: WorkerNeed) -> WorkerSize:
        """The smallest that suits, after what happened to earlier attempts."""
        if not need.shortages:
            return size_for(need, self._bounds)
        return size_for(self._judged(need), self._bounds, self._sizes())

    def limit_reached(self, need: WorkerNeed) -> str | None:
        """As Fleet.limit_reached."""
        return limit_reached(self._judged(need), self._bounds, self._sizes())

    def known_end(self, worker_id: WorkerId | None) -> Reason:
        """How an attempt ended on it, as far as its task tells: out_of_memory or worker_lost."""
        state = None if worker_id is None else self._states().get(worker_id)
        return Reason.WORKER_LOST if state is None else state.reason

    def _judged(self, need: WorkerNeed) -> WorkerNeed:
        """Without workers that were merely lost; with those that are now known to have run out of memory."""
        judged = (
            replace(shortage, reason=self.known_end(shortage.worker_id))
            if shortage.reason is Reason.WORKER_LOST
            else shortage
            for shortage in need.shortages
        )
        return replace(need, shortages=tuple(s for s in judged if s.reason is not Reason.WORKER_LOST))

    def _sizes(self) -> dict[WorkerId, WorkerSize]:
        return {
            worker_id: state.task.size
            for worker_id, state in self._states().items()
            if state.task is not None
        }
