"""One acquisition for each attempt, however many ask for it and whoever of them gives up.

Every fleet acquires in this frame: the worker that has the attempt already, else a warm one, else
a launch when fewer than the most workers live.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import NoCapacity
from gooseherd.domain.ports.fleet import Fleet, WorkerHandle, WorkerNeed


class Acquisitions:
    """Those that a fleet has under way.

    `acquire` gets a worker, or raises and leaves none behind; `release` is Fleet.release. A
    worker whose callers have all left is released, once.
    """

    def __init__(
        self,
        acquire: Callable[[WorkerNeed], Coroutine[Any, Any, WorkerHandle]],
        release: Callable[..., Coroutine[Any, Any, None]],
    ) -> None:
        self._acquire = acquire
        self._release = release
        self._acquiring: dict[AttemptId, asyncio.Task[WorkerHandle]] = {}
        self._waiting: dict[AttemptId, int] = {}
        self._releasing: set[asyncio.Task[None]] = set()
        self.closed = False

    async def get(self, need: WorkerNeed) -> WorkerHandle:
        """Fleet.acquire; concurrent calls for one attempt get one worker."""
        if self.closed:
            raise NoCapacity("(this process is leaving)")
        attempt = need.attempt
        task = self._acquiring.get(attempt)
        if task is None:
            task = asyncio.create_task(self._acquire(need), name=f"acquire {attempt}")
            self._acquiring[attempt] = task
            task.add_done_callback(lambda done: self._acquired(attempt, done))
        self._waiting[attempt] = self._waiting.get(attempt, 0) + 1
        try:
            # A caller that gives up must not leave a half-started worker that nobody knows.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # It came in the moment in which its last caller left. Whoever is last releases it, once:
            # a second release would free it under the hands of whom it was given to after the first.
            if self._acquiring.get(attempt) is not task and self._waiting[attempt] == 1:
                self._unclaimed(attempt, task)
            raise
        finally:
            self._waiting[attempt] -= 1
            if not self._waiting[attempt]:
                del self._waiting[attempt]

    def attempts(self) -> set[str]:
        """For which a worker is just being acquired."""
        return {str(attempt) for attempt in self._acquiring}

    def busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._acquiring or self._releasing)

    async def released(self) -> None:
        """Return when the releases that are under way have ended, however."""
        if self._releasing:
            await asyncio.wait(self._releasing)

    async def close(self) -> None:
        """Give up what is being acquired; nothing is from now on."""
        self.closed = True
        while tasks := [*self._acquiring.values(), *self._releasing]:
            # A release is waited for: who is idle is known only after it.
            for task in self._acquiring.values():
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _acquired(self, attempt: AttemptId, task: asyncio.Task[WorkerHandle]) -> None:
        self._acquiring.pop(attempt, None)
        if not self._waiting.get(attempt):
            self._unclaimed(attempt, task)

    def _unclaimed(self, attempt: AttemptId, task: asyncio.Task[WorkerHandle]) -> None:
        """Every caller has left: the worker, if there is one, is there for somebody else."""
        if task.cancelled() or task.exception() is not None:
            return
        worker_id = task.result().worker_id
        releasing = asyncio.create_task(self._release(worker_id, reusable=True, attempt=attempt))
        self._releasing.add(releasing)
        releasing.add_done_callback(self._releasing.discard)


class AcquiringFleet(Fleet):
    """What all fleets have in common; `kind` names the workers in NoCapacity."""

    def __init__(self, max_workers: int, kind: str) -> None:
        self._max_workers = max_workers
        self._kind = kind
        self._acquisitions = Acquisitions(self._acquire, self.release)

    async def acquire(self, need: WorkerNeed) -> WorkerHandle:
        """A healthy worker for this caller alone; concurrent calls for one attempt get one worker."""
        return await self._acquisitions.get(need)

    @abstractmethod
    async def _acquire(self, need: WorkerNeed) -> WorkerHandle:
        """One acquisition: a worker, or an exception and none left behind."""

    def _free_slots(self, in_use_for: Iterable[str | None]) -> int:
        """Slots beside live workers that are not idle, given by the attempts that have them.

        Those that this process is just acquiring are left out: whoever acquires counts them.
        """
        acquiring = self._acquisitions.attempts()
        return self._max_workers - sum(attempt not in acquiring for attempt in in_use_for)

    def _no_capacity(self, used: int) -> NoCapacity:
        return NoCapacity(f"({used} of {self._max_workers} {self._kind} in use)")
