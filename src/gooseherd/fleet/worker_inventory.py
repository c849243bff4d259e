"""Which workers this process uses, which are idle, and which of those did not respond lately."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from gooseherd.domain.job import WorkerId
from gooseherd.domain.worker_size import WorkerSize
from gooseherd.fleet.worker_state import WorkerState

_RETRY_SECONDS: Final = 5.0
"""After which a warm worker that did not answer is asked again."""


class WorkerInventory:
    """Workers in use and idle ones, by what this process did with them; a dead process leaves none.

    `states` tells what is known of them now: those that ended are forgotten. Times are
    those of `clock`, in seconds.
    """

    def __init__(
        self,
        states: Callable[[], Mapping[WorkerId, WorkerState]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._states = states
        self._clock = clock
        self._held: dict[WorkerId, str] = {}
        """Workers this process uses, and for which attempt."""
        self._warm: dict[WorkerId, float] = {}
        """Workers this process may hand out, and since when they are idle."""
        self._unresponsive: dict[WorkerId, tuple[float, float]] = {}
        """Warm ones that did not answer: since when they are idle, and when that was."""
        self._dismissed: set[WorkerId] = set()
        """Those that were asked to end, which ECS may show as healthy for a while."""
        self._found: set[WorkerId] = set()
        """Those that another process launched, maybe of another build."""

    # -- in use ----------------------------------------------------------------------------

    def hold(self, worker_id: WorkerId, attempt: str) -> None:
        """It works for `attempt`, and is not idle."""
        self.let_go(worker_id)
        self._held[worker_id] = attempt

    def hold_found(self, worker_id: WorkerId) -> None:
        """It works for an attempt that another process began; which one is not known."""
        # A guess would keep the one that has it from releasing it.
        if worker_id not in self._held:
            self._found.add(worker_id)
        self.hold(worker_id, self._held.get(worker_id) or "")

    def was_found(self, worker_id: WorkerId) -> bool:
        """Whether another process launched it, so that it must be asked for its build."""
        return worker_id in self._found

    def held_for(self, worker_id: WorkerId) -> str | None:
        """The attempt it works for, as far as this process knows."""
        return self._held.get(worker_id)

    def let_go(self, worker_id: WorkerId) -> None:
        """It is neither in use nor idle: about to end, or somebody else's."""
        self._held.pop(worker_id, None)
        self._warm.pop(worker_id, None)
        self._unresponsive.pop(worker_id, None)

    def dismiss(self, worker_id: WorkerId) -> None:
        """It was asked to end: whoever uses it may go on until it does, nobody gets it next."""
        self._warm.pop(worker_id, None)
        self._unresponsive.pop(worker_id, None)
        self._dismissed.add(worker_id)

    # -- idle ------------------------------------------------------------------------------

    def mark_idle(self, worker_id: WorkerId, since: float | None = None) -> None:
        """It is idle, from now on or since then, and may be handed out, unless it was dismissed."""
        self.let_go(worker_id)
        if worker_id in self._dismissed:
            return
        self._warm[worker_id] = self._clock() if since is None else since

    def is_warm(self, worker_id: WorkerId) -> bool:
        """Whether it is idle and may be handed out."""
        return worker_id in self._warm

    def mark_unresponsive(self, worker_id: WorkerId, since: float) -> None:
        """It is idle since then but did not answer: not handed out for a while."""
        self.let_go(worker_id)
        if worker_id not in self._dismissed:
            self._unresponsive[worker_id] = since, self._clock()

    def idle(self) -> dict[WorkerId, float]:
        """Warm workers that live, and since when they are idle."""
        self._refresh()
        return dict(self._warm)

    def all_idle(self) -> list[WorkerId]:
        """Those and the unresponsive ones."""
        self._refresh()
        return [*self._warm, *self._unresponsive]

    def take(self, attempt: str, size: WorkerSize, longest: float) -> tuple[WorkerId, float] | None:
        """The smallest idle one that will do, of those the last used, and since when it was idle.

        Held for `attempt` from now on. One that is idle for `longest` seconds is about to end.
        """
        states = self._states()
        found = [
            (state.task.size, -since, worker_id)
            for worker_id, since in self.idle().items()
            if self._clock() - since < longest
            and (state := states[worker_id]).task is not None
            and state.healthy
            and state.task.size.covers(size)
        ]
        if not found:
            return None
        _, since, worker_id = min(found)
        self.hold(worker_id, attempt)
        return worker_id, -since

    def _refresh(self) -> None:
        states = self._states()
        for ours in (self._warm, self._unresponsive, self._held):
            for worker_id in [w for w in ours if w not in states or states[w].gone]:
                del ours[worker_id]
        for names in (self._dismissed, self._found):
            names -= {w for w in names if w not in states or states[w].gone}
        for worker_id, (since, marked) in list(self._unresponsive.items()):
            if self._clock() - marked > _RETRY_SECONDS:
                del self._unresponsive[worker_id]
                self._warm[worker_id] = since
