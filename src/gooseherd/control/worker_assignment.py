"""The worker of a job: acquired or found again, written down, and given back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from gooseherd.control.attempt_outcome import Ended, Outcome, Published, Stopped
from gooseherd.control.lease_holder import LeaseHolder
from gooseherd.control.session_permits import SessionPermits
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import (
    LaunchFailed,
    LeaseLost,
    Misconfigured,
    NoCapacity,
    StoreUnavailable,
    Unavailable,
)
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import Job, WorkerId
from gooseherd.domain.ports.fleet import Fleet, Shortage, WorkerHandle, WorkerNeed
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.queueing import Priority
from gooseherd.domain.states import Status

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
"""Ends that are not the worker's fault: it stays warm for the next job."""

SHORTAGES = frozenset({Reason.OUT_OF_MEMORY, Reason.OUT_OF_DISK})
"""Ends that a larger worker may be spared."""

_DIAGNOSIS_SECONDS = 5.0

_SESSION_SECONDS = 30.0
"""How long a session's worker is waited for; the fleet would as long as it is not known to be gone."""

_SESSION_PAUSES_SECONDS = (0.1, 0.2, 0.4, 0.8)
"""Between questions for a session's worker, which may be busy with the end of the job before."""

_RETURN_SECONDS = 5.0
"""How long giving workers back may delay the end of the process: one call to the fleet each."""


class NoWorker(Exception):
    """The attempt could not begin; carries the failure it ends with."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class WorkerAssignment:
    """Gets workers for jobs and gives them back; for all jobs of this process."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        fleet: Fleet,
        dispatched: Callable[[Job], Mapping[str, Any]],
        permits: SessionPermits | None = None,
    ) -> None:
        self._jobs = jobs
        self._dispatched = dispatched
        self._fleet = fleet
        self._permits = permits
        self._returns: set[asyncio.Task[None]] = set()

    async def worker(self, lease_holder: LeaseHolder, *, adopted: bool) -> WorkerHandle | None:
        """The worker to follow; None when there is nothing to follow and the artifact decides.

        Raises:
            NoWorker: the attempt ends with that failure.
            LeaseLost, StoreUnavailable: as LeaseHolder.insist; the worker was given back.
        """
        job = lease_holder.job
        if adopted:
            return None if job.status is Status.FINALIZING else await self._found_again(job)
        worker = await self._acquired(lease_holder)
        known = self._fleet.known(worker.worker_id)
        resources = None if known is None else known.resources
        try:
            await lease_holder.insist(
                lambda: self._jobs.assign_worker(
                    job.job_id, job.fence, worker.worker_id, self._dispatched(job), resources
                )
            )
        except BaseException:
            await self._to_its_end(self._return_unused(job, worker))
            raise
        return worker

    async def give_back(self, job: Job, worker_id: WorkerId, outcome: Outcome, *, held: bool) -> None:
        """Release the worker as the outcome demands; `held`: this process acquired or found it."""
        await self._to_its_end(self._give_back(job, worker_id, outcome, held=held))

    async def returned(self, grace: float) -> None:
        """Wait for the returns under way, `grace` seconds or a little longer."""
        if self._returns:
            await asyncio.wait(self._returns, timeout=max(grace, _RETURN_SECONDS))

    async def _found_again(self, job: Job) -> WorkerHandle:
        # What the reconciler noted when it saw the worker's end; the fleet may have forgotten it.
        noted = job.current_attempt.detail if job.current_attempt else ""
        if job.worker_id is None:
            if noted:  # The one that was being launched.
                raise NoWorker(Failure(Reason.WORKER_LOST, noted))
            why = "the API process left before a worker was assigned"
            raise NoWorker(Failure(Reason.LEASE_EXPIRED, why))
        found = await self._fleet.find(job.worker_id)
        if found is None:
            diagnosis = noted or await self._diagnosis(job.worker_id)
            raise NoWorker(Failure(await self._fleet.verdict(job.worker_id), diagnosis))
        return found

    async def _diagnosis(self, worker_id: WorkerId) -> str:
        try:
            async with asyncio.timeout(_DIAGNOSIS_SECONDS):
                return await self._fleet.gone(worker_id)
        except TimeoutError:
            return "the worker is not to be found"

    async def _acquired(self, lease_holder: LeaseHolder) -> WorkerHandle:
        job = lease_holder.job
        try:
            worker = await lease_holder.unless_unwanted(
                self._worker_for(lease_holder),
                undo=lambda acquired: self._to_its_end(self._return_unused(job, acquired)),
            )
        except NoCapacity as error:
            raise NoWorker(Failure(Reason.NO_CAPACITY, str(error))) from error
        except Misconfigured as error:
            # A setting that no worker can be had with is wrong for all jobs: they wait until it is put right.
            reason = Reason.MISCONFIGURED if error.of_request else Reason.LAUNCH_FAILED
            raise NoWorker(Failure(reason, str(error))) from error
        except (LeaseLost, StoreUnavailable):
            raise
        except (LaunchFailed, Unavailable) as error:
            raise NoWorker(Failure(Reason.LAUNCH_FAILED, str(error))) from error
        except Exception as error:
            # A defect of ours, or a full disk. Without an outcome the job would wait out its lease.
            _log.exception("getting a worker failed unexpectedly", extra={"job_id": job.job_id})
            why = f"internal error ({type(error).__name__})"
            raise NoWorker(Failure(Reason.LAUNCH_FAILED, why)) from error
        if worker is None:
            raise NoWorker(Failure(Reason.CANCELLED, "cancelled before a worker was there"))
        return worker

    async def _worker_for(self, lease_holder: LeaseHolder) -> WorkerHandle:
        """The one of the job's session, as long as that takes jobs; else any."""
        job, permits = lease_holder.job, self._permits
        if job.session_id is None or permits is None:
            return await self._fleet.acquire(worker_need(job))
        session_id = job.session_id
        # That the store is away for a moment is no launch that failed.
        session = await lease_holder.insist(lambda: permits.ready(session_id))
        if session is None or session.worker_id is None:
            return await self._fleet.acquire(worker_need(job))
        attempt = AttemptId(job.job_id, job.attempt)
        with suppress(TimeoutError):
            async with asyncio.timeout(_SESSION_SECONDS):
                for pause in _SESSION_PAUSES_SECONDS:
                    worker = await self._fleet.take(session.worker_id, attempt, reserved=True)
                    if worker is not None:
                        return worker
                    await asyncio.sleep(pause)
        # Whether it has ended is looked into; meanwhile the job keeps its place and loses no try.
        permits.wakeup.notify()
        raise NoCapacity("(the session's worker does not answer)")

    async def _is_sessions(self, job: Job, worker_id: WorkerId) -> bool:
        """Whether the worker is that of the job's session, which decides what becomes of it."""
        if job.session_id is None or self._permits is None:
            return False
        return await self._permits.has_worker(job.session_id, worker_id)

    async def _leave_to_session(self, worker_id: WorkerId) -> None:
        await self._fleet.disown(worker_id)
        if self._permits is not None:
            self._permits.wakeup.notify()

    async def _to_its_end(self, giving_back: Coroutine[Any, Any, None]) -> None:
        """Also when the caller is cancelled meanwhile: a worker that nobody gave back would stay taken."""
        task = asyncio.create_task(giving_back)
        self._returns.add(task)
        task.add_done_callback(self._returns.discard)
        await asyncio.shield(task)

    async def _give_back(self, job: Job, worker_id: WorkerId, outcome: Outcome, *, held: bool) -> None:
        if isinstance(outcome, Ended) and outcome.in_use:
            await self._fleet.disown(worker_id)
            return
        if await self._is_sessions(job, worker_id):
            await self._leave_to_session(worker_id)
            return
        reusable = _keeps_worker(outcome)
        # What this process has never seen it cannot keep, only stop.
        if not held and reusable and await self._fleet.find(worker_id) is None:
            return
        await self._fleet.release(worker_id, reusable=reusable, attempt=AttemptId(job.job_id, job.attempt))

    async def _return_unused(self, job: Job, worker: WorkerHandle) -> None:
        """For a worker on which the attempt was not started."""
        if await self._is_sessions(job, worker.worker_id):
            await self._leave_to_session(worker.worker_id)
            return
        attempt = AttemptId(job.job_id, job.attempt)
        await self._fleet.release(worker.worker_id, reusable=True, attempt=attempt)


def worker_need(job: Job, *newest: Shortage) -> WorkerNeed:
    """What the attempt asks of a worker, after what happened to those before it and `newest` to itself."""
    earlier = (
        Shortage(attempt.reason, attempt.worker_id)
        for attempt in job.attempts
        if attempt.reason is Reason.WORKER_LOST or attempt.reason in SHORTAGES
    )
    return WorkerNeed(
        AttemptId(job.job_id, job.attempt),
        job.source.file_format,
        job.source.size_in_bytes,
        (*earlier, *newest),
        leaves_floor=job.priority is Priority.BATCH,
    )


def _keeps_worker(outcome: Outcome) -> bool:
    match outcome:
        case Published() | Stopped():
            return True
        case Ended(failure):
            return failure.reason in _KEEPS_WORKER
