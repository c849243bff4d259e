"""Wake-ups inside one process: something changed, look at the store.

News is a hint, never the truth: whoever waits for it also looks by himself now and then,
because other processes change jobs too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gooseherd.domain.job import JobId


class Wakeup:
    """Level-triggered wake-up for one loop: a ring while nobody waits is not lost."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake the waiter now, or the next one at once."""
        self._event.set()

    async def wait(self, timeout: float) -> bool:
        """Wait for a ring, at most `timeout` seconds; says whether it rang."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._event.wait()
        rang = self._event.is_set()
        self._event.clear()
        return rang


class Wakeups:
    """Who wants to hear of which job, and the bells of the control loops."""

    def __init__(self) -> None:
        self.work = Wakeup()
        """Rung when there may be something to dispatch: submitted, ended, capacity, cancelled."""
        self.unowned = Wakeup()
        """Rung when there may be jobs without an owner: start-up, a lease handed over."""
        self._listeners: dict[JobId, set[Wakeup]] = {}

    def publish(self, job_id: JobId) -> None:
        """Tell everyone who listens to this job that it changed."""
        for wakeup in self._listeners.get(job_id, ()):
            wakeup.notify()

    @contextmanager
    def listen(self, job_id: JobId) -> Iterator[Wakeup]:
        """A bell that rings at each change of the job for as long as the block lasts."""
        wakeup = Wakeup()
        self._listeners.setdefault(job_id, set()).add(wakeup)
        try:
            yield wakeup
        finally:
            wakeups = self._listeners[job_id]
            wakeups.discard(wakeup)
            if not wakeups:
                del self._listeners[job_id]
