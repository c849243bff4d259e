"""What changes in the whole service, for all who follow it: one reader of the store per process feeds them.

It runs while somebody listens. A look reads the newest jobs, those at work, open batches and the depth of the
queue, and whatever was live at the look before and is in none of these any more: its cost is bounded, however
long the queue is. Of more than MOST_JOBS pending jobs, the older ones are followed only once they run.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gooseherd.control.batches import Batches
from gooseherd.control.queue_statistics import QueueSnapshot, QueueStatistics
from gooseherd.control.task_groups import all_or_first_error
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.batch import Batch, BatchId
from gooseherd.domain.errors import GooseherdError, NotFound
from gooseherd.domain.job import Job, JobId
from gooseherd.domain.ports.store import FileStore, JobQuery, JobStore

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""Other processes change jobs, too."""
_LEAST_SECONDS: Final = 0.2
"""Between looks, however much changes here."""
MOST_JOBS: Final = 60
_MOST_BATCHES: Final = 50
_LOST_AT_ONCE: Final = 50
_COUNT_SECONDS: Final = 10.0
"""How often the catalog's size is looked at: it tells what other processes register and remove."""
_KEPT: Final = 1000
"""Changes that whoever was away for a moment can have again."""
_FIRST_LOOK_SECONDS: Final = 5.0
_LINGER_SECONDS: Final = 30.0
"""The reader goes on without listeners: a browser that lost its connection comes back within seconds."""


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """Entries were registered, replaced or removed; which is not told."""


@dataclass(frozen=True, slots=True)
class FeedChange:
    """One change; `subject` is how it stood at `now`, by the store's clock."""

    number: int
    subject: Job | Batch | QueueSnapshot | CatalogChange
    now: datetime
    bookmark: str
    """What goes into `after` to have what follows it."""


@dataclass(frozen=True, slots=True)
class Resync:
    """What was known before is no longer enough: changes were missed, or none were asked for yet."""

    bookmark: str


class ChangeFeed:
    """The reader, and the last changes it saw."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        files: FileStore,
        queue: QueueStatistics,
        batches: Batches | None,
        catalog_writes: Callable[[], int],
        listening: Callable[[], AbstractContextManager[Wakeup]],
        clock: Callable[[], float],
    ) -> None:
        """`listening` wakes at each change that this process makes; `catalog_writes` counts its own."""
        self._jobs = jobs
        self._files = files
        self._queue = queue
        self._batches = batches
        self._catalog_writes = catalog_writes
        self._listening = listening
        self._clock = clock
        self._kept: deque[FeedChange] = deque(maxlen=_KEPT)
        self._run = ""
        """Looks without a gap, since the first one or the last that failed: bookmarks before mean nothing."""
        self._unbroken = False
        """Whether what is known is what the last look found: all that changed since is found by the next."""
        self._number = 0
        self._changed = asyncio.Event()
        self._begun = asyncio.Event()
        """Set once the reader has looked."""
        self._listeners = 0
        self._reader: asyncio.Task[None] | None = None
        self._known_jobs: dict[JobId, tuple[Hashable, bool]] = {}
        self._known_batches: dict[BatchId, Hashable] = {}
        self._known_queue: Hashable = None
        self._known_catalog: tuple[int, int] | None = None
        self._counted: tuple[float, int] | None = None

    async def follow(self, after: str | None, seconds: float) -> AsyncIterator[FeedChange | Resync]:
        """Each change from now on, or after that bookmark, for so long; Resync where some were missed.

        Who reads slowly costs nothing: it misses changes when they are no longer kept.
        """
        until = self._clock() + seconds
        self._listeners += 1
        try:
            self._start()
            # Before the first look nothing is known that later ones could be compared with.
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds + _FIRST_LOOK_SECONDS):
                    await self._begun.wait()
            run, known = self._run, self._read_bookmark(after)
            number = self._number if known is None else known
            if known is None:
                yield Resync(_bookmark(run, number))
            while True:
                changed = self._changed
                if run != self._run:
                    run, number = self._run, self._number
                    yield Resync(_bookmark(run, number))
                    continue
                missed = [change for change in self._kept if change.number > number]
                if number < self._number and (not missed or missed[0].number > number + 1):
                    number = self._number
                    yield Resync(_bookmark(run, number))
                    continue
                for change in missed:
                    number = change.number
                    yield change
                left = until - self._clock()
                if left <= 0:
                    return
                if number == self._number:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(left):
                            await changed.wait()
        finally:
            self._listeners -= 1

    def _read_bookmark(self, after: str | None) -> int | None:
        run, _, number = (after or "").rpartition("-")
        if not run or run != self._run or not number.isascii() or not number.isdigit() or len(number) > 15:
            return None
        return int(number) if int(number) <= self._number else None

    # -- the reader --------------------------------------------------------------------------

    def _start(self) -> None:
        if self._reader is not None and not self._reader.done():
            return
        self._forget()
        self._begun = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name="change feed")

    async def _read(self) -> None:
        alone_since, failing = self._clock(), False
        with self._listening() as wakeup:
            while self._listeners or self._clock() - alone_since < _LINGER_SECONDS:
                if self._listeners:
                    alone_since = self._clock()
                try:
                    found, now = await self._look()
                except Exception as error:
                    if not failing:
                        defect = not isinstance(error, GooseherdError)
                        level = logging.ERROR if defect else logging.INFO
                        extra = {"error": str(error)}
                        _log.log(level, "changes cannot be read", exc_info=defect, extra=extra)
                    failing = True
                    # Some of what it found may be known by now, and was sent to nobody.
                    self._forget()
                else:
                    failing = False
                    if self._unbroken:
                        self._add(found, now)
                    else:
                        self._begin_run()
                    self._begun.set()
                await asyncio.sleep(_LEAST_SECONDS)
                await wakeup.wait(LOOK_SECONDS - _LEAST_SECONDS)

    def _add(self, found: Sequence[Job | Batch | QueueSnapshot | CatalogChange], now: datetime) -> None:
        for subject in found:
            self._number += 1
            self._kept.append(FeedChange(self._number, subject, now, _bookmark(self._run, self._number)))
        if found:
            self._notify()

    def _forget(self) -> None:
        self._unbroken = False
        self._known_jobs, self._known_batches, self._known_queue = {}, {}, None
        self._known_catalog = self._counted = None

    def _begin_run(self) -> None:
        """Everybody who follows reads again what is shown."""
        self._run, self._number = secrets.token_hex(6), 0
        self._kept.clear()
        self._unbroken = True
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _look(self) -> tuple[Sequence[Job | Batch | QueueSnapshot | CatalogChange], datetime]:
        """What changed, and the store's time, which is asked here for all changes and all who follow."""
        async with all_or_first_error() as reads:
            newest = reads.create_task(self._jobs.find(JobQuery(limit=MOST_JOBS)))
            at_work = reads.create_task(self._jobs.at_work())
            queue = reads.create_task(self._queue.snapshot())
            batches = reads.create_task(self._open_batches())
            now = reads.create_task(self._jobs.now())
        found: list[Job | Batch | QueueSnapshot | CatalogChange] = []
        jobs = (*newest.result().jobs, *at_work.result())
        found += await self._changed_jobs({job.job_id: job for job in jobs})
        found += await self._changed_batches({batch.batch_id: batch for batch in batches.result()})
        depth = _depth(queue.result())
        if depth != self._known_queue:
            self._known_queue = depth
            found.append(queue.result())
        catalog = self._catalog_writes(), await self._count()
        if catalog != self._known_catalog:
            self._known_catalog = catalog
            found.append(CatalogChange())
        return found, now.result()

    async def _changed_jobs(self, seen: Mapping[JobId, Job]) -> list[Job]:
        live = [job_id for job_id, (_, is_live) in self._known_jobs.items() if is_live and job_id not in seen]
        async with all_or_first_error() as reads:
            lost = [reads.create_task(self._jobs.get(job_id)) for job_id in live[:_LOST_AT_ONCE]]
        found = [read.result() for read in lost]
        seen = dict(seen) | {job.job_id: job for job in found if job is not None}
        # The oldest first, as they happened.
        changed = [
            job
            for job in sorted(seen.values(), key=lambda job: job.created_at)
            if (known := self._known_jobs.get(job.job_id)) is None or known[0] != _standing(job)
        ]
        later = {job_id: self._known_jobs[job_id] for job_id in live[_LOST_AT_ONCE:]}
        self._known_jobs = later | {
            job.job_id: (_standing(job), not job.status.terminal) for job in seen.values()
        }
        return changed

    async def _open_batches(self) -> Sequence[Batch]:
        return () if self._batches is None else await self._batches.unfinished(_MOST_BATCHES)

    async def _changed_batches(self, seen: Mapping[BatchId, Batch]) -> list[Batch]:
        ended = [batch_id for batch_id in self._known_batches if batch_id not in seen]
        seen = dict(seen)
        for batch_id in ended if self._batches is not None else ():
            assert self._batches is not None
            with suppress(NotFound):
                seen[batch_id] = await self._batches.batch(batch_id)
        changed = [
            batch
            for batch in seen.values()
            if self._known_batches.get(batch.batch_id) != _standing_of_batch(batch)
        ]
        self._known_batches = {
            batch.batch_id: _standing_of_batch(batch) for batch in seen.values() if batch.ended_at is None
        }
        return changed

    async def _count(self) -> int:
        if self._counted is None or self._clock() - self._counted[0] > _COUNT_SECONDS:
            self._counted = self._clock(), await self._files.count()
        return self._counted[1]


def _bookmark(run: str, number: int) -> str:
    return f"{run}-{number}"


def _standing(job: Job) -> Hashable:
    """What whoever follows a job sees of it; renewing its lease changes nothing of that."""
    return (
        job.status,
        job.progress,
        job.attempt,
        job.worker_id,
        job.not_before,
        job.cancel_requested,
        job.reason,
        job.session_id,
    )


def _standing_of_batch(batch: Batch) -> Hashable:
    return tuple(sorted(batch.counts.items())), batch.cancel_requested, batch.ended_at


def _depth(queue: QueueSnapshot) -> Hashable:
    return tuple(sorted(queue.counts.items())), tuple(sorted(queue.by_priority.items()))
