"""Wake-ups inside one process: something changed, read the store.

A wake-up is a hint, never the truth: whoever waits for one also reads the store now and then,
because other processes change jobs too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gooseherd.domain.job import JobId


class Wakeup:
    """Level-triggered wake-up for one loop: a notification while nobody waits is not lost."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake the waiter now, or the next one at once."""
        self._event.set()

    async def wait(self, timeout: float) -> bool:
        """Wait for a notification, at most `timeout` seconds; answers whether there was one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._event.wait()
        notified = self._event.is_set()
        self._event.clear()
        return notified


class Wakeups:
    """Who waits for changes of which job, and the wake-ups of the control loops."""

    def __init__(self) -> None:
        self.work = Wakeup()
        """Notified when there may be something to dispatch: submitted, ended, capacity, cancelled."""
        self.unowned = Wakeup()
        """Notified when there may be jobs without an owner: start-up, a lease handed over."""
        self._listeners: dict[JobId, set[Wakeup]] = {}
        self._of_all: set[Wakeup] = set()

    def publish(self, job_id: JobId) -> None:
        """Wake everyone who listens to this job: it changed."""
        for wakeup in (*self._listeners.get(job_id, ()), *self._of_all):
            wakeup.notify()

    @contextmanager
    def listen_to_all(self) -> Iterator[Wakeup]:
        """A wake-up at each change of any job, for as long as the block lasts."""
        wakeup = Wakeup()
        self._of_all.add(wakeup)
        try:
            yield wakeup
        finally:
            self._of_all.discard(wakeup)

    @property
    def listening(self) -> int:
        """Of how many jobs somebody awaits a change."""
        return len(self._listeners)

    @contextmanager
    def listen(self, job_id: JobId) -> Iterator[Wakeup]:
        """A wake-up at each change of the job, for as long as the block lasts."""
        wakeup = Wakeup()
        self._listeners.setdefault(job_id, set()).add(wakeup)
        try:
            yield wakeup
        finally:
            wakeups = self._listeners[job_id]
            wakeups.discard(wakeup)
            if not wakeups:
                del self._listeners[job_id]
