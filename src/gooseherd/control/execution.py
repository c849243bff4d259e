"""Follows attempts: one task per job this process holds the lease of, from lease to terminal state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gooseherd.control.attempt_watcher import AttemptWatcher, Ended, Outcome, Published, Stopped
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.lease_holder import LeaseHolder
from gooseherd.control.published import verify
from gooseherd.control.unconfirmed_leases import UnconfirmedLeases
from gooseherd.control.wakeups import Wakeups
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import (
    LaunchFailed,
    LeaseLost,
    Misconfigured,
    NoCapacity,
    StoreUnavailable,
    Unavailable,
)
from gooseherd.domain.failures import Failure, Reason, next_try
from gooseherd.domain.job import Fence, Job, JobId, Owner, WorkerId
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.ports.fleet import Fleet, Shortage, WorkerHandle, WorkerNeed
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.ports.worker import Workers
from gooseherd.domain.states import Status
from gooseherd.telemetry import ATTEMPTS_ENDED, JOB_RUN, JOB_WAIT, JOBS_ENDED

_log = logging.getLogger(__name__)

_KEEPS_WORKER = frozenset(
    {
        Reason.SOURCE_MISSING,
        Reason.SOURCE_FORBIDDEN,
        Reason.SOURCE_CHANGED,
        Reason.SOURCE_INVALID,
        Reason.SOURCE_TOO_LARGE,
        Reason.SOURCE_UNAVAILABLE,
        Reason.UNSUPPORTED_FORMAT,
        Reason.CANCELLED,
    }
)
"""Ends that say nothing against the worker: it stays warm for the next job."""


_SHORTAGES = frozenset({Reason.OUT_OF_MEMORY, Reason.OUT_OF_DISK})
"""Ends that a larger worker may be spared."""

_MAY_HAVE_PUBLISHED = frozenset({Reason.WORKER_LOST, Reason.LEASE_EXPIRED, Reason.OUT_OF_MEMORY})
"""Ends that somebody else tells of: the attempt may have come to its own end before."""

_GOODBYE_SECONDS = 5.0
"""How long giving workers back may hold up the end of the process: one call to the fleet each."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take. `lease` is also the time after which a silent holder is replaced."""

    lease: timedelta
    heartbeat: timedelta
    attempt_cap: timedelta
    silence: timedelta
    """A worker that sends nothing for this long is lost."""
    backoff_scale: float = 1.0
    """Shortens the waits between attempts in tests."""


@dataclass(frozen=True, slots=True)
class AttemptBounds:
    """What an attempt may use, in bytes, and the build it must come from."""

    source_bytes: int
    scratch_bytes: int
    build: str


class _NoWorker(Exception):
    """The attempt could not begin; carries the failure it ends with."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class Executions:
    """All jobs this process follows. A job is in here exactly as long as its lease is ours."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        fleet: Fleet,
        workers: Workers,
        cache: CacheBackend,
        finalizers: Finalizers,
        wakeups: Wakeups,
        owner: Owner,
        timing: Timing,
        bounds: AttemptBounds,
    ) -> None:
        self.owner = owner
        self.timing = timing
        self._jobs = jobs
        self._fleet = fleet
        self._cache = cache
        self._finalizers = finalizers
        self._wakeups = wakeups
        self._follower = AttemptWatcher(
            fleet=fleet, workers=workers, wakeups=wakeups, timing=timing, bounds=bounds
        )
        self.unconfirmed = UnconfirmedLeases(timing.lease)
        self._tasks: dict[JobId, asyncio.Task[None]] = {}
        self._superseded: set[asyncio.Task[None]] = set()
        """Still ending, while their job is followed again."""
        self._lease_holders: dict[JobId, LeaseHolder] = {}
        self._without_worker: set[JobId] = set()
        self._goodbyes: set[asyncio.Task[None]] = set()

    @property
    def following(self) -> int:
        """Jobs followed now."""
        return len(self._tasks)

    def follows(self, job_id: JobId) -> bool:
        """Whether this process follows the job, and so hears itself of what happens to its worker."""
        return job_id in self._tasks

    @property
    def launching(self) -> int:
        """Of those, the ones whose worker is not there yet and so not counted by the fleet."""
        return len(self._without_worker)

    async def lease(self, seen: Job) -> None:
        """Lease a pending job and follow it, unless somebody else was faster."""
        try:
            job = await self._jobs.lease(seen, self.owner, self.timing.lease)
        except StoreUnavailable:
            self.unconfirmed.note(seen.job_id, adopted=False)
            raise
        if job is not None:
            self._start(job, adopted=False)

    async def adopt(self, job_id: JobId, seen: Fence) -> None:
        """Adopt a job whose lease ran out and follow it, unless somebody else was faster."""
        self.unconfirmed.settle(job_id)
        try:
            job = await self._jobs.adopt(job_id, seen, self.owner, self.timing.lease)
        except StoreUnavailable:
            self.unconfirmed.note(job_id, adopted=True)
            raise
        if job is not None:
            self._start(job, adopted=True)

    def is_unconfirmed(self, job: Job) -> bool:
        """Whether a job under a lease of ours was granted without our hearing of it."""
        lease_holder = self._lease_holders.get(job.job_id)
        followed = lease_holder is not None and lease_holder.job.fence == job.fence
        return not followed and self.unconfirmed.adopted(job.job_id) is not None

    def start_unconfirmed(self, job: Job) -> None:
        """Follow such a job after all."""
        if self.is_unconfirmed(job):
            self._start(job, adopted=bool(self.unconfirmed.adopted(job.job_id)))

    def _start(self, job: Job, *, adopted: bool) -> None:
        self.unconfirmed.settle(job.job_id)
        if (superseded := self._lease_holders.get(job.job_id)) is not None:
            superseded.lost.set()
        lease_holder = LeaseHolder(self._jobs, job, self.timing)
        self._lease_holders[job.job_id] = lease_holder
        if not adopted:
            self._without_worker.add(job.job_id)
        task = asyncio.create_task(self._run(lease_holder, adopted=adopted), name=f"job {job.job_id}")
        if (before := self._tasks.get(job.job_id)) is not None:
            self._superseded.add(before)
        self._tasks[job.job_id] = task
        task.add_done_callback(lambda done: self._gone(job.job_id, done))

    def _gone(self, job_id: JobId, task: asyncio.Task[None]) -> None:
        if self._tasks.get(job_id) is task:
            del self._tasks[job_id]
            self._lease_holders.pop(job_id, None)
            self._without_worker.discard(job_id)
        self._superseded.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("following a job crashed", extra={"job_id": job_id}, exc_info=error)
        self._wakeups.publish(job_id)
        self._wakeups.work.notify()

    def cancel(self, job_id: JobId) -> None:
        """Nobody wants the job any more: end its attempt, then the job."""
        if job_id in self._lease_holders:
            self._lease_holders[job_id].unwanted.set()

    async def end(self, job: Job, failure: Failure) -> None:
        """Fail a job whose lease this process has just taken over, and stop its worker.

        If this process follows it as well, under the older fence, that ends with the lease.
        """
        if job.job_id in self._lease_holders:
            self._lease_holders[job.job_id].lost.set()
        ended = await self._jobs.release_workflow(job.job_id, job.fence, Status.FAILED, failure)
        self._count_end(ended)
        if job.worker_id is not None:
            attempt = AttemptId(job.job_id, job.attempt)
            await self._fleet.release(job.worker_id, reusable=False, attempt=attempt)
        self._wakeups.publish(job.job_id)

    async def drain(self, grace: float) -> None:
        """Stop following: finalizers may finish inside `grace` seconds, attempts go on without us.

        Their leases are handed over by the caller, so that whoever comes next adopts them.
        """
        busy = [self._tasks[job_id] for job_id in self._finalizers.snapshot() if job_id in self._tasks]
        if busy:
            await asyncio.wait(busy, timeout=grace)
        tasks = [*self._tasks.values(), *self._superseded]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._goodbyes:
            await asyncio.wait(self._goodbyes, timeout=max(grace, _GOODBYE_SECONDS))

    # -- one job ---------------------------------------------------------------------------

    async def _run(self, lease_holder: LeaseHolder, *, adopted: bool) -> None:
        job = lease_holder.job
        extra = {"job_id": job.job_id, "attempt": job.attempt, "adopted": adopted}
        _log.info("following job", extra=extra)
        if not adopted and job.attempt == 1:
            JOB_WAIT.observe((job.updated_at - job.enqueued_at).total_seconds())
        worker_id: WorkerId | None = job.worker_id if adopted else None
        outcome: Outcome | None = None
        held = False
        try:
            async with lease_holder:
                try:
                    worker = await self._worker(lease_holder, adopted=adopted)
                    # From here on the fleet counts it; counted twice it would keep a slot empty.
                    self._without_worker.discard(job.job_id)
                    worker_id = worker.worker_id if worker else worker_id
                    held = worker is not None
                    if worker is None:
                        outcome = Published()
                    else:
                        outcome = await self._follower.follow(lease_holder, worker, resume=adopted)
                except _NoWorker as none:
                    outcome = Ended(none.failure)
                await self._settle(lease_holder, outcome, worker_id)
        except LeaseLost:
            _log.warning("lease lost, leaving the job to its new owner", extra=extra)
        except StoreUnavailable as error:
            _log.error(
                "store away for longer than the lease, letting go", extra={**extra, "error": str(error)}
            )
        finally:
            # As long as the job's next state is not written, the worker goes with the job: whoever
            # has the lease, or will have it, works with that worker and gives it back.
            if worker_id is not None and outcome is not None and lease_holder.settled:
                await self._let_go(self._give_back(job, worker_id, outcome, held=held))

    async def _let_go(self, giving_back: Coroutine[Any, Any, None]) -> None:
        """Also when we are told to leave meanwhile: held by nobody a worker would idle on."""
        goodbye = asyncio.create_task(giving_back)
        self._goodbyes.add(goodbye)
        goodbye.add_done_callback(self._goodbyes.discard)
        await asyncio.shield(goodbye)

    async def _give_back(self, job: Job, worker_id: WorkerId, outcome: Outcome, *, held: bool) -> None:
        if isinstance(outcome, Ended) and outcome.in_use:
            await self._fleet.disown(worker_id)
            return
        reusable = _keeps_worker(outcome)
        # What this process has never seen it cannot keep, only stop.
        if not held and reusable and await self._fleet.find(worker_id) is None:
            return
        await self._fleet.release(worker_id, reusable=reusable, attempt=AttemptId(job.job_id, job.attempt))

    async def _worker(self, lease_holder: LeaseHolder, *, adopted: bool) -> WorkerHandle | None:
        """The worker to follow; None when there is nothing to follow and the artifact decides."""
        job = lease_holder.job
        if adopted:
            if job.status is Status.FINALIZING:
                return None
            # What the reconciler noted when it saw the worker's end; the fleet may have forgotten it.
            noted = job.current_attempt.detail if job.current_attempt else ""
            if job.worker_id is None:
                why = noted or "the API process ended before a worker was assigned"
                raise _NoWorker(Failure(Reason.LEASE_EXPIRED, why))
            found = await self._fleet.find(job.worker_id)
            if found is None:
                diagnosis = noted or await self._diagnose(job.worker_id)
                raise _NoWorker(Failure(await self._fleet.verdict(job.worker_id), diagnosis))
            return found
        try:
            worker = await lease_holder.unless_unwanted(
                self._fleet.acquire(_need(job)), undo=lambda come: self._let_go(self._unused(job, come))
            )
        except NoCapacity as error:
            raise _NoWorker(Failure(Reason.NO_CAPACITY, str(error))) from error
        except LaunchFailed as error:
            raise _NoWorker(Failure(Reason.LAUNCH_FAILED, str(error))) from error
        except Misconfigured as error:
            raise _NoWorker(Failure(Reason.MISCONFIGURED, str(error))) from error
        except Unavailable as error:
            raise _NoWorker(Failure(Reason.LAUNCH_FAILED, str(error))) from error
        except LeaseLost:
            raise
        except Exception as error:
            # A defect of ours, or a full disk. Without an outcome the job would wait out its lease.
            _log.exception("getting a worker failed unexpectedly", extra={"job_id": job.job_id})
            why = f"internal error ({type(error).__name__})"
            raise _NoWorker(Failure(Reason.LAUNCH_FAILED, why)) from error
        if worker is None:
            raise _NoWorker(Failure(Reason.CANCELLED, "cancelled before a worker was there"))
        try:
            await lease_holder.insist(
                lambda: self._jobs.assign_worker(job.job_id, job.fence, worker.worker_id)
            )
        except BaseException:
            await self._let_go(self._unused(job, worker))
            raise
        return worker

    async def _unused(self, job: Job, worker: WorkerHandle) -> None:
        """It has not been told of the attempt."""
        attempt = AttemptId(job.job_id, job.attempt)
        await self._fleet.release(worker.worker_id, reusable=True, attempt=attempt)

    async def _diagnose(self, worker_id: WorkerId) -> str:
        try:
            async with asyncio.timeout(5):
                return await self._fleet.gone(worker_id)
        except TimeoutError:
            return "the worker is not to be found"

    # -- how it ends -----------------------------------------------------------------------

    async def _settle(self, lease_holder: LeaseHolder, outcome: Outcome, worker_id: WorkerId | None) -> None:
        """Turn the outcome into the job's next state. What is published counts, whoever died after it."""
        job = lease_holder.job
        if isinstance(outcome, Stopped) or (
            isinstance(outcome, Ended) and outcome.failure.reason is Reason.CANCELLED
        ):
            failure = Failure(Reason.CANCELLED, "cancelled by its requester")
            if lease_holder.unwanted.is_set() and await lease_holder.insist(lambda: self._wanted_again(job)):
                ATTEMPTS_ENDED.labels(failure.reason).inc()
                _log.info("cancelled attempt, wanted again meanwhile", extra={"job_id": job.job_id})
                await self._requeue(lease_holder, failure, timedelta(0))
                return
            await self._release(lease_holder, Status.CANCELLED, failure)
            return
        if isinstance(outcome, Ended) and outcome.failure.reason not in _MAY_HAVE_PUBLISHED:
            await self._end_attempt(lease_holder, outcome.failure, worker_id)
            return
        with self._finalizers.finalizing(job.job_id):
            checked = await lease_holder.insist(lambda: verify(self._cache, job.source, job.recipe))
            if checked.manifest is None:
                failure = outcome.failure if isinstance(outcome, Ended) else checked.failure
                await self._end_attempt(lease_holder, failure, worker_id)
                return
            manifest = checked.manifest
            if job.status is not Status.FINALIZING:
                steps = outcome.steps if isinstance(outcome, Published) else ()
                await lease_holder.edge(
                    Status.FINALIZING, lambda: self._jobs.begin_finalize(job.job_id, job.fence, steps)
                )
            await lease_holder.edge(
                Status.COMPLETED,
                lambda: self._jobs.finalize(job.job_id, job.fence, manifest.digest, manifest.parts),
            )
        self._wakeups.publish(job.job_id)  # Whoever waits need not wait until the worker is given back.
        ATTEMPTS_ENDED.labels(Reason.PUBLISHED).inc()
        JOBS_ENDED.labels(Status.COMPLETED, Reason.PUBLISHED).inc()
        extra = {"job_id": job.job_id, "attempt": job.attempt}
        with suppress(StoreUnavailable):  # The job is over; how long it took is for statistics.
            seconds = (await self._jobs.now() - job.created_at).total_seconds()
            JOB_RUN.labels(job.source.file_format.name).observe(seconds)
            extra["seconds"] = seconds
        _log.info("job completed", extra=extra)

    async def _end_attempt(
        self, lease_holder: LeaseHolder, failure: Failure, worker_id: WorkerId | None
    ) -> None:
        job = lease_holder.job
        ATTEMPTS_ENDED.labels(failure.reason).inc()
        ended_so = 1 + sum(earlier.reason is failure.reason for earlier in job.attempts)
        again = next_try(failure.reason, ended_so, self.timing.backoff_scale)
        if again is not None and failure.reason in _SHORTAGES:
            limit = self._fleet.limit_reached(_need(job, Shortage(failure.reason, worker_id)))
            if limit is not None:  # The same again would end the same way.
                again, failure = None, Failure(failure.reason, f"{failure.detail}; {limit}")
        extra = {
            "job_id": job.job_id,
            "attempt": job.attempt,
            "reason": failure.reason,
            "detail": failure.detail,
        }
        if again is None:
            _log.warning("job failed", extra=extra)
            await self._release(lease_holder, Status.FAILED, failure)
            return
        _log.warning(
            "attempt failed, job requeued", extra={**extra, "delay_seconds": again.delay.total_seconds()}
        )
        await self._requeue(lease_holder, failure, again.delay)

    async def _wanted_again(self, job: Job) -> bool:
        """Whether somebody has come to a job since it was to be cancelled; it takes seconds to stop one."""
        now = await self._jobs.get(job.job_id)
        return (
            now is not None
            and (now.fence, now.status) == (job.fence, Status.RUNNING)
            and not now.cancel_requested
        )

    async def _requeue(self, lease_holder: LeaseHolder, failure: Failure, delay: timedelta) -> None:
        job = lease_holder.job
        await lease_holder.edge(
            Status.PENDING, lambda: self._jobs.requeue(job.job_id, job.fence, failure, delay)
        )
        loop = asyncio.get_running_loop()
        loop.call_later(delay.total_seconds() + 0.01, self._wakeups.work.notify)

    async def _release(self, lease_holder: LeaseHolder, status: Status, failure: Failure) -> None:
        job = lease_holder.job
        await lease_holder.edge(
            status, lambda: self._jobs.release_workflow(job.job_id, job.fence, status, failure)
        )
        JOBS_ENDED.labels(status, failure.reason).inc()

    def _count_end(self, job: Job) -> None:
        if job.reason is not None:
            JOBS_ENDED.labels(job.status, job.reason).inc()


def _need(job: Job, *newest: Shortage) -> WorkerNeed:
    """What the attempt asks of a worker, after what happened to those before it and `newest` to itself."""
    earlier = (
        Shortage(attempt.reason, attempt.worker_id)
        for attempt in job.attempts
        if attempt.reason is Reason.WORKER_LOST or attempt.reason in _SHORTAGES
    )
    return WorkerNeed(
        AttemptId(job.job_id, job.attempt),
        job.source.file_format,
        job.source.size_in_bytes,
        (*earlier, *newest),
    )


def _keeps_worker(outcome: Outcome) -> bool:
    match outcome:
        case Published() | Stopped():
            return True
        case Ended(failure):
            return failure.reason in _KEEPS_WORKER
