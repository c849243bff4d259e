"""Watches one attempt on one worker: starts it or joins it, and follows its events to the last one."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace

from gooseherd import tracing
from gooseherd.control.attempt_credentials import AttemptCredentials
from gooseherd.control.attempt_outcome import Ended, Outcome, Published, Stopped
from gooseherd.control.launch_breaker import LaunchBreaker
from gooseherd.control.lease_holder import LeaseHolder
from gooseherd.control.limits import AttemptBounds, Timing, attempt_spec, attempt_traceparent
from gooseherd.control.wakeups import Wakeup, Wakeups
from gooseherd.domain.artifact import Kind, Part
from gooseherd.domain.attempt import AttemptId, AttemptSpec, Event, EventKind
from gooseherd.domain.errors import (
    AttemptLost,
    CacheUnavailable,
    LeaseLost,
    Misconfigured,
    NotFound,
    UpstreamUnavailable,
    WorkerBusy,
    WorkerLost,
)
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import Job, JobId, Progress
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import StorageRefused
from gooseherd.domain.ports.fleet import Fleet, WorkerHandle
from gooseherd.domain.ports.store import STORE_AWAY
from gooseherd.domain.ports.worker import WorkerLink, Workers

_log = logging.getLogger(__name__)

_PROGRESS_SECONDS = 1.0
"""At most one progress write a job a second: nobody reads faster, and the store has other work."""

_GATHER_SECONDS = 0.2
"""A write waits for what comes right after it: small files are through all steps by then, which are
written down with the job's next state."""

_CANCEL_SECONDS = 10.0
"""How long a cancelled attempt may take to empty its process group before its worker is given up."""


_WRITTEN_AT_ONCE = frozenset({EventKind.STEP, EventKind.STEP_COMPLETE, EventKind.ACCEPTED})

_LAST_EVENTS_SECONDS = 5.0
"""How long the last events of a worker that died may take to arrive: its connection breaks with it."""

_RETRY_SECONDS = 5.0


class AttemptWatcher:
    """Knows how to follow; keeps nothing between attempts but writes that are under way."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        workers: Workers,
        wakeups: Wakeups,
        timing: Timing,
        bounds: AttemptBounds,
        breaker: LaunchBreaker,
        credentials: AttemptCredentials,
    ) -> None:
        self._credentials = credentials
        self._breaker = breaker
        self._fleet = fleet
        self._workers = workers
        self._wakeups = wakeups
        self._timing = timing
        self._bounds = bounds
        self._writing: dict[JobId, asyncio.Task[None]] = {}

    async def follow(self, lease_holder: LeaseHolder, worker: WorkerHandle, *, resume: bool) -> Outcome:
        """As `_follow`, and whether the attempt ever began."""
        reader = _EventReader(lease_holder, self._wakeups, self._writing, self._breaker, began=resume)
        outcome = await self._follow(lease_holder, worker, reader, resume=resume)
        reader.spans.close()
        if isinstance(outcome, Ended):
            outcome = replace(outcome, began=reader.began)
        return replace(outcome, progress=reader.progress)

    async def _follow(
        self, lease_holder: LeaseHolder, worker: WorkerHandle, reader: _EventReader, *, resume: bool
    ) -> Outcome:
        """Start the attempt on `worker` (with `resume`: join the running one) and follow it to its end.

        Ends early when the worker dies, falls silent, the duration cap is reached or the
        job is cancelled. Being cancelled itself leaves the attempt running, to be adopted.

        Raises:
            LeaseLost: another process holds the job; the attempt is left to it.
        """
        job = lease_holder.job
        attempt = AttemptId(job.job_id, job.attempt)
        reading = asyncio.create_task(self._read(lease_holder, worker, attempt, reader, resume=resume))
        ending = asyncio.create_task(self._end_of(worker))
        unwanted = asyncio.create_task(lease_holder.unwanted.wait())
        lost = asyncio.create_task(lease_holder.lost.wait())
        watched: set[asyncio.Task[object]] = {reading, ending, unwanted, lost}
        beside = {asyncio.create_task(self._credentials.keep_renewed(job, worker, at_once=resume))}
        try:
            await asyncio.wait(
                watched, timeout=self._time_left(lease_holder), return_when=asyncio.FIRST_COMPLETED
            )
            if reading.done():
                if (error := _connection_error(reading)) is None:
                    return self._outcome_of(reading)
                # Why the worker went decides what is done about it, and only the fleet knows.
                return await self._ended_with_worker(worker, ending.result() if ending.done() else str(error))
            if lost.done():
                raise LeaseLost(job.job_id, job.fence)
            if ending.done():
                # The stream usually breaks first and may hold the last events; give it a moment.
                await asyncio.wait({reading}, timeout=_LAST_EVENTS_SECONDS)
                if reading.done() and not reading.cancelled() and reading.exception() is None:
                    return reading.result()
                return await self._ended_with_worker(worker, ending.result())
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await self._stop(worker, attempt)
            if unwanted.done():
                return Stopped()
            cap = self._timing.attempt_cap.total_seconds()
            return Ended(Failure(Reason.DEADLINE_EXCEEDED, f"the attempt ran longer than {cap:g} seconds"))
        finally:
            for task in watched | beside:
                task.cancel()
            await asyncio.gather(*watched, *beside, return_exceptions=True)

    async def _end_of(self, worker: WorkerHandle) -> str:
        while True:
            try:
                return await self._fleet.gone(worker.worker_id)
            except Exception:
                # Not to learn of its end is not its end, and the events of the worker itself still arrive.
                _log.exception("a worker cannot be watched", extra={"worker": worker.worker_id})
            await asyncio.sleep(_RETRY_SECONDS)

    async def _ended_with_worker(self, worker: WorkerHandle, how: str) -> Outcome:
        return Ended(Failure(await self._fleet.verdict(worker.worker_id), how))

    def _time_left(self, lease_holder: LeaseHolder) -> float:
        """Seconds to the duration cap; an adopted attempt keeps the start it had."""
        job = lease_holder.job
        current = job.current_attempt
        ran = (
            (job.updated_at - current.started_at).total_seconds()
            if current is not None and current.started_at is not None
            else 0.0
        )
        return max(self._timing.attempt_cap.total_seconds() - ran, 0.0)

    @staticmethod
    def _outcome_of(reading: asyncio.Task[Outcome]) -> Outcome:
        try:
            return reading.result()
        except (WorkerLost, NotFound) as error:
            return Ended(Failure(Reason.WORKER_LOST, str(error)))
        except WorkerBusy as error:
            return Ended(Failure(Reason.LAUNCH_FAILED, str(error)), in_use=True)
        except (CacheUnavailable, StorageRefused) as error:  # No credentials could be made for it.
            return Ended(Failure(Reason.STORE_UNAVAILABLE, str(error)))
        except Misconfigured as error:
            return Ended(Failure(Reason.MISCONFIGURED, str(error)))
        except UpstreamUnavailable as error:  # Nor what opens its source.
            return Ended(Failure(Reason.SOURCE_UNAVAILABLE, str(error)))
        except LeaseLost:
            raise
        except Exception as error:
            # A defect of ours. Without an outcome the job would stay leased and silent until the ceiling.
            _log.exception("following an attempt failed unexpectedly")
            return Ended(Failure(Reason.TOOL_FAILED, f"internal error ({type(error).__name__})"))

    async def _read(
        self,
        lease_holder: LeaseHolder,
        worker: WorkerHandle,
        attempt: AttemptId,
        reader: _EventReader,
        *,
        resume: bool,
    ) -> Outcome:
        job = lease_holder.job
        async with self._workers.connect(worker) as link:
            if not resume:
                await link.start_attempt(await self._credentials.added_to(self._spec(job)))
            elif not job.progress.seq:
                # Whoever had the lease may have ended before the attempt was started; one that was goes on.
                # A worker of another build may have it, and starts nothing for us.
                with suppress(Misconfigured):
                    await link.start_attempt(await self._credentials.added_to(self._spec(job)))
            return await reader.read(link, attempt, job.progress.seq + 1 if resume else 1)

    def _spec(self, job: Job) -> AttemptSpec:
        return attempt_spec(job, self._timing, self._bounds)

    async def _stop(self, worker: WorkerHandle, attempt: AttemptId) -> None:
        try:
            async with asyncio.timeout(_CANCEL_SECONDS), self._workers.connect(worker) as link:
                await link.cancel_attempt(attempt)
        except (TimeoutError, WorkerLost) as error:
            _log.warning("attempt could not be stopped, stopping its worker", extra={"attempt": str(attempt)})
            _log.debug("cause", exc_info=error)
            await self._fleet.release(worker.worker_id, reusable=False, attempt=attempt)


def _connection_error(reading: asyncio.Task[Outcome]) -> WorkerLost | None:
    """Why the connection ended, if that ended the events; a worker that reports its attempt lost is there."""
    error = None if reading.cancelled() else reading.exception()
    return error if isinstance(error, WorkerLost) and not isinstance(error, AttemptLost) else None


class _EventReader:
    """Turns events into the job's record, written while more events are read: no event waits for a write."""

    def __init__(
        self,
        lease_holder: LeaseHolder,
        wakeups: Wakeups,
        writing: dict[JobId, asyncio.Task[None]],
        breaker: LaunchBreaker,
        *,
        began: bool,
    ) -> None:
        self._breaker = breaker
        self.began = began
        """Something of this attempt was seen; of an adopted one that is taken for granted."""
        self._lease_holder = lease_holder
        self._jobs = lease_holder.jobs
        self._wakeups = wakeups
        self._progress = lease_holder.job.progress
        self._steps: list[tuple[str, list[Part]]] = []
        """Complete, and not known to be recorded."""
        self._written_at = 0.0
        self._unwritten = False
        """There is something newer than what was written last, or is being written."""
        self._over = Wakeup()
        self._writing = writing
        self.spans = tracing.ReportedSpans(attempt_traceparent(lease_holder.job))

    @property
    def progress(self) -> Progress:
        """The last that was reported, written down or not."""
        return self._progress

    async def read(self, link: WorkerLink, attempt: AttemptId, from_seq: int) -> Outcome:
        """The outcome that the last event reports. Raises WorkerLost when there is none."""
        try:
            outcome = await self._read_events(link, attempt, from_seq)
        except WorkerLost:
            await self._write_rest()
            raise
        finally:
            self._over.notify()
        if isinstance(outcome, Published):
            await self._written()
            return Published(tuple(step for step, _ in self._steps))
        await self._write_rest()
        return outcome

    async def _read_events(self, link: WorkerLink, attempt: AttemptId, from_seq: int) -> Outcome:
        async for event in link.watch_attempt(attempt, from_seq):
            self._apply(event)
            if event.kind is EventKind.DONE:
                return Published()
            if event.failure is not None:
                return Ended(event.failure)
        raise WorkerLost("the attempt's events ended before its last one")

    def _apply(self, event: Event) -> None:
        if not self.began:
            self.began = True
            self._breaker.began()
        if event.kind is EventKind.SPAN and event.span is not None:
            self.spans.take(event.span)
        if event.kind is EventKind.STEP_COMPLETE:
            self._steps.append((event.step, [_part(data) for data in event.parts]))
        waited = self._progress.waiting
        self._progress = _advance(self._progress, event)
        if not event.last:
            self._request_write(now=event.kind in _WRITTEN_AT_ONCE or self._progress.waiting != waited)

    def _request_write(self, *, now: bool) -> None:
        clock = asyncio.get_running_loop().time
        if not now and clock() - self._written_at < _PROGRESS_SECONDS:
            return
        self._written_at = clock()
        self._unwritten = True
        job_id = self._lease_holder.job.job_id
        if job_id in self._writing:
            return
        task = self._writing[job_id] = asyncio.create_task(self._write(), name=f"progress {job_id}")
        task.add_done_callback(lambda _: self._writing.pop(job_id, None))

    async def _write(self) -> None:
        while self._unwritten:
            if await self._over.wait(_GATHER_SECONDS):
                return
            await self._write_now()

    async def _written(self) -> None:
        """Wait for a write that is under way, and let there be no other."""
        self._over.notify()
        if (writing := self._writing.get(self._lease_holder.job.job_id)) is not None:
            await asyncio.wait({writing})

    async def _write_rest(self) -> None:
        """What the attempt did last: whoever reads why it failed wants to know."""
        await self._written()
        if self._unwritten:
            await self._write_now()

    async def _write_now(self) -> None:
        job = self._lease_holder.job
        try:
            while self._steps:
                step, parts = self._steps[0]
                await self._jobs.record_step_complete(job.job_id, job.fence, step, parts)
                del self._steps[0]
            # Only now: whoever adopts the job goes on after the newest position that is written down.
            self._unwritten = False
            await self._jobs.record_progress(job.job_id, job.fence, self._progress)
        except STORE_AWAY:
            # Away for a moment, it must not stop the attempt. Some of it may have taken effect.
            self._unwritten = True
        except LeaseLost:
            self._unwritten = False
            self._lease_holder.lost.set()
            return
        self._wakeups.publish(job.job_id)


def _advance(progress: Progress, event: Event) -> Progress:
    """Progress never falls, whatever order events are seen in; the newest position counts."""
    moved = replace(progress, seq=max(progress.seq, event.seq))
    if event.kind in (EventKind.STEP, EventKind.STEP_COMPLETE):
        return replace(
            moved,
            step=event.step,
            percent=max(progress.percent, min(event.percent, 100.0)),
            waiting="",
            waiting_until=None,
        )
    if event.last:  # Its bytes are of the whole attempt, those before of its steps.
        bytes_in, bytes_out = event.bytes_in or moved.bytes_in, event.bytes_out or moved.bytes_out
        return replace(moved, bytes_in=bytes_in, bytes_out=bytes_out)
    if event.kind is EventKind.PROGRESS:
        return replace(
            moved,
            step=event.step or progress.step,
            percent=max(progress.percent, min(event.percent, 100.0)),
            bytes_in=max(progress.bytes_in, event.bytes_in),
            bytes_out=max(progress.bytes_out, event.bytes_out),
            eta_seconds=event.eta_seconds,
            waiting=event.detail,
            waiting_until=event.until,
        )
    return moved


def _part(data: object) -> Part:
    fields = dict(data) if isinstance(data, dict) else {}
    return Part(**{**fields, "kind": Kind(fields["kind"]), "key": CacheKey(fields["key"])})
