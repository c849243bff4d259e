"""Waiting for what becomes of jobs: the store is asked once for each job, however many wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gooseherd.domain.job import Job, JobId
from gooseherd.domain.keys import WorkflowKey


@dataclass(slots=True, eq=False)
class JobWatch:
    """One job as those who wait for it share it."""

    ended: asyncio.Task[Job]
    """The job in its terminal state, or the error (NotFound, StoreUnavailable) of the last look. Not to be
    cancelled by those who wait."""
    latest: Job | None = None
    """The job when the store was last asked; None: it was not yet."""
    waiting: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced by another, whenever `latest` is another."""

    def see(self, job: Job) -> None:
        """It is so now."""
        self.latest = job
        self.changed.set()
        self.changed = asyncio.Event()


class JobWatches:
    """The jobs that somebody waits for."""

    def __init__(self, changes: Callable[[JobId], AsyncIterator[Job]]) -> None:
        self._changes = changes
        self._watches: dict[JobId, JobWatch] = {}
        self._of_content: dict[WorkflowKey, JobWatch] = {}

    @contextmanager
    def watching(self, job_id: JobId) -> Iterator[JobWatch]:
        """The job's watch, which ends with the last block that has it."""
        watch = self._watches.get(job_id)
        if watch is None or watch.ended.done():
            watch = self._watches[job_id] = JobWatch(asyncio.create_task(self._follow(job_id)))
        watch.waiting += 1
        try:
            yield watch
        finally:
            watch.waiting -= 1
            if not watch.waiting:
                self._end(job_id, watch)

    async def changes(self, job_id: JobId) -> AsyncIterator[Job]:
        """The job now, then each change that is seen and not outrun by the next, to the terminal state.

        Raises:
            NotFound: before the first one.
        """
        with self.watching(job_id) as watch:
            shown: Job | None = None
            while shown is None or not shown.status.terminal:
                changed = asyncio.ensure_future(watch.changed.wait())
                try:
                    if watch.latest is shown:
                        await asyncio.wait({watch.ended, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
                latest = watch.ended.result() if watch.ended.done() else watch.latest
                if latest is not None and latest is not shown:
                    shown = latest
                    yield latest

    def live(self, key: WorkflowKey) -> Job | None:
        """The job on this content that somebody waits for, as it was a moment ago; None once it ended."""
        watch = self._of_content.get(key)
        if watch is None or watch.ended.done() or watch.latest is None or watch.latest.status.terminal:
            return None
        return watch.latest

    async def _follow(self, job_id: JobId) -> Job:
        watch = self._watches[job_id]
        async for job in self._changes(job_id):
            watch.see(job)
            self._of_content[job.workflow_key] = watch
        assert watch.latest is not None
        return watch.latest

    def _end(self, job_id: JobId, watch: JobWatch) -> None:
        if self._watches.get(job_id) is watch:
            del self._watches[job_id]
        key = watch.latest.workflow_key if watch.latest is not None else None
        if key is not None and self._of_content.get(key) is watch:
            del self._of_content[key]
        if not watch.ended.cancel() and not watch.ended.cancelled():
            watch.ended.exception()  # looked at here: whoever waited may have left before it
