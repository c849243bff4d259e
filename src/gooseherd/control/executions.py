"""Which jobs this process follows: one task for each job whose lease it holds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from gooseherd.control.attempt_credentials import AttemptCredentials
from gooseherd.control.attempt_watcher import AttemptWatcher
from gooseherd.control.execution import Execution
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.job_ends import JobEnds
from gooseherd.control.launch_breaker import LaunchBreaker
from gooseherd.control.lease_holder import LeaseHolder
from gooseherd.control.limits import AttemptBounds, Timing, archived
from gooseherd.control.manifest_verification import Digests
from gooseherd.control.session_permits import SessionPermits
from gooseherd.control.unconfirmed_leases import UnconfirmedLeases
from gooseherd.control.wakeups import Wakeups
from gooseherd.control.worker_assignment import WorkerAssignment
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import StoreUnavailable
from gooseherd.domain.failures import Failure
from gooseherd.domain.job import Fence, Job, JobId, Owner
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.ports.credentials import CredentialIssuer, SourceAccessIssuer
from gooseherd.domain.ports.fleet import Fleet
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.ports.worker import Workers
from gooseherd.domain.states import Status

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Followed:
    execution: Execution
    task: asyncio.Task[None]


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
        permits: SessionPermits | None = None,
        issuer: CredentialIssuer | None = None,
        source_access: SourceAccessIssuer | None = None,
        digests: Digests | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` counts seconds since whenever."""
        self.owner = owner
        self.timing = timing
        self._jobs = jobs
        self._fleet = fleet
        self._finalizers = finalizers
        self._wakeups = wakeups
        self.breaker = LaunchBreaker(timing.backoff_scale, clock)
        self._watcher = AttemptWatcher(
            fleet=fleet,
            workers=workers,
            wakeups=wakeups,
            timing=timing,
            bounds=bounds,
            breaker=self.breaker,
            credentials=AttemptCredentials(workers, issuer, source_access),
        )
        self._assignment = WorkerAssignment(
            jobs=jobs, fleet=fleet, dispatched=lambda job: archived(job, timing, bounds), permits=permits
        )
        self._job_ends = JobEnds(
            jobs=jobs,
            fleet=fleet,
            cache=cache,
            finalizers=finalizers,
            wakeups=wakeups,
            timing=timing,
            breaker=self.breaker,
            digests=digests or Digests(),
        )
        self.unconfirmed = UnconfirmedLeases(timing.lease, clock)
        self._followed: dict[JobId, _Followed] = {}
        self._superseded: set[asyncio.Task[None]] = set()
        """Still ending, while their job is followed again."""

    @property
    def following(self) -> int:
        """Jobs followed now."""
        return len(self._followed)

    def follows(self, job_id: JobId) -> bool:
        """Whether this process follows the job, and so learns itself what happens to its worker."""
        return job_id in self._followed

    @property
    def launching(self) -> int:
        """Of those, the ones whose worker is not there yet and so not counted by the fleet."""
        return sum(not followed.execution.counted_by_fleet for followed in self._followed.values())

    async def lease(self, seen: Job, running_limit: int, session_id: str | None = None) -> None:
        """Lease a pending job and follow it, unless somebody else was faster or its requester has enough.

        With a session: under its permit, unless another job has that.
        """
        try:
            job = await self._jobs.lease(seen, self.owner, self.timing.lease, running_limit, session_id)
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
        """Whether a lease of ours was granted for this job and the answer got lost."""
        followed = self._followed.get(job.job_id)
        known = followed is not None and followed.execution.lease_holder.job.fence == job.fence
        return not known and self.unconfirmed.adopted(job.job_id) is not None

    def start_unconfirmed(self, job: Job) -> None:
        """Follow such a job after all."""
        if self.is_unconfirmed(job):
            self._start(job, adopted=bool(self.unconfirmed.adopted(job.job_id)))

    def _start(self, job: Job, *, adopted: bool) -> None:
        self.unconfirmed.settle(job.job_id)
        execution = Execution(
            LeaseHolder(self._jobs, job, self.timing),
            adopted=adopted,
            watcher=self._watcher,
            assignment=self._assignment,
            job_ends=self._job_ends,
        )
        task = asyncio.create_task(execution.run(), name=f"job {job.job_id}")
        if (before := self._followed.get(job.job_id)) is not None:
            before.execution.lease_holder.lost.set()
            self._superseded.add(before.task)
        self._followed[job.job_id] = _Followed(execution, task)
        task.add_done_callback(lambda ended: self._ended(job.job_id, ended))

    def _ended(self, job_id: JobId, task: asyncio.Task[None]) -> None:
        followed = self._followed.get(job_id)
        if followed is not None and followed.task is task:
            del self._followed[job_id]
        self._superseded.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("following a job crashed", extra={"job_id": job_id}, exc_info=error)
        self._wakeups.publish(job_id)
        self._wakeups.work.notify()

    def cancel(self, job_id: JobId) -> None:
        """Nobody wants the job any more: end its attempt, then the job."""
        if (followed := self._followed.get(job_id)) is not None:
            followed.execution.lease_holder.unwanted.set()

    async def end(self, job: Job, failure: Failure) -> None:
        """Fail a job whose lease this process has just taken over, and stop its worker.

        If this process follows it as well, under the older fence, that ends with the lease.
        """
        if (followed := self._followed.get(job.job_id)) is not None:
            followed.execution.lease_holder.lost.set()
        ended = await self._jobs.release_workflow(job.job_id, job.fence, Status.FAILED, failure)
        self._job_ends.count(ended)
        if job.worker_id is not None:
            attempt = AttemptId(job.job_id, job.attempt)
            await self._fleet.release(job.worker_id, reusable=False, attempt=attempt)
        self._wakeups.publish(job.job_id)

    async def wait(self, seconds: float) -> None:
        """Until the jobs that are followed now have come to their next state, or `seconds` have passed."""
        tasks = [followed.task for followed in self._followed.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def drain(self, grace: float) -> None:
        """Stop following: finalizers may finish inside `grace` seconds, attempts go on without us.

        Their leases are handed over by the caller, so that whoever comes next adopts them.
        """
        finalizing = [
            self._followed[job_id].task for job_id in self._finalizers.snapshot() if job_id in self._followed
        ]
        if finalizing:
            await asyncio.wait(finalizing, timeout=grace)
        tasks = [*(followed.task for followed in self._followed.values()), *self._superseded]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._assignment.returned(grace)
