"""How a job ends: the outcome of an attempt becomes the job's next state."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from gooseherd.control.attempt_outcome import Ended, Outcome, Published, Stopped
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.launch_breaker import LaunchBreaker
from gooseherd.control.lease_holder import LeaseHolder
from gooseherd.control.limits import Timing
from gooseherd.control.manifest_verification import Digests, publish_verified
from gooseherd.control.source_hosts import SourceHosts
from gooseherd.control.wakeups import Wakeups
from gooseherd.control.worker_assignment import SHORTAGES, worker_need
from gooseherd.domain.artifact import Manifest
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import StillWanted
from gooseherd.domain.failures import Failure, Reason, next_try
from gooseherd.domain.job import AttemptEnd, Job, WorkerId
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.ports.fleet import Fleet, Shortage
from gooseherd.domain.ports.store import STORE_AWAY, JobStore
from gooseherd.domain.session import next_try as next_try_in_session
from gooseherd.domain.states import Status
from gooseherd.telemetry import ATTEMPTS_ENDED, JOB_RUN, JOBS_ENDED

_log = logging.getLogger(__name__)

for _reason in Reason:  # There from the start: an increase from nothing is none to Prometheus.
    ATTEMPTS_ENDED.labels(_reason)

_MAY_HAVE_PUBLISHED = frozenset({Reason.WORKER_LOST, Reason.LEASE_EXPIRED, Reason.OUT_OF_MEMORY})
"""Ends that the attempt did not report itself: it may have published before."""


_FLEETS_OWN = frozenset({Reason.WORKER_LOST})
"""Ends that count against the fleet, and not as tries of the job, when the attempt had not begun.

Not LEASE_EXPIRED: the API process left while a worker was being launched, of which nothing bad is known.
"""


class JobEnds:
    """Completes, fails, cancels or requeues jobs whose lease is held; for all jobs of this process."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        fleet: Fleet,
        cache: CacheBackend,
        finalizers: Finalizers,
        wakeups: Wakeups,
        timing: Timing,
        breaker: LaunchBreaker,
        digests: Digests,
    ) -> None:
        self._digests = digests
        self._breaker = breaker
        self._source_hosts = SourceHosts()
        self._jobs = jobs
        self._fleet = fleet
        self._cache = cache
        self._finalizers = finalizers
        self._wakeups = wakeups
        self._timing = timing

    async def settle(self, lease_holder: LeaseHolder, outcome: Outcome, worker_id: WorkerId | None) -> None:
        """Write the job's next state. What is published counts, whoever died after it.

        Raises:
            LeaseLost: another process holds the job.
            StoreUnavailable: for longer than the lease.
        """
        job = lease_holder.job
        attempt = self._attempt_end(job, outcome, worker_id)
        began = not isinstance(outcome, Ended) or outcome.began
        if (
            isinstance(outcome, Ended)
            and outcome.failure.reason is Reason.LAUNCH_FAILED
            and not outcome.in_use
        ):
            self._breaker.failed(outcome.failure.detail)
        if isinstance(outcome, Stopped) or (
            isinstance(outcome, Ended) and outcome.failure.reason is Reason.CANCELLED
        ):
            await self._end_cancelled(lease_holder, attempt, worker_id)
            return
        if isinstance(outcome, Ended) and outcome.failure.reason not in _MAY_HAVE_PUBLISHED:
            await self._end_attempt(lease_holder, outcome.failure, attempt, worker_id)
            return
        with self._finalizers.finalizing(job.job_id):
            verification = await lease_holder.insist(
                lambda: lease_holder.unless_lost(
                    publish_verified(
                        self._cache,
                        job.source,
                        job.recipe,
                        AttemptId(job.job_id, job.attempt),
                        self._digests,
                    )
                )
            )
            if verification.manifest is None:
                failure = outcome.failure if isinstance(outcome, Ended) else verification.failure
                if not began and failure.reason in _FLEETS_OWN:
                    detail = f"the worker was gone before the attempt began: {failure.detail}"
                    self._breaker.failed(detail)
                    failure = Failure(Reason.LAUNCH_FAILED, detail)
                await self._end_attempt(lease_holder, failure, attempt, worker_id)
                return
            steps = outcome.steps if isinstance(outcome, Published) else ()
            await self._complete(lease_holder, verification.manifest, steps, attempt)
        await self._report_completed(job)

    def count(self, job: Job) -> None:
        """Count the end of a job in the metrics."""
        if job.reason is not None:
            JOBS_ENDED.labels(job.status, job.reason).inc()

    def _attempt_end(self, job: Job, outcome: Outcome, worker_id: WorkerId | None) -> AttemptEnd:
        """What it used; of a worker that has ended no longer than that lived."""
        known = None if worker_id is None else self._fleet.known(worker_id)
        ended_at = None if known is None else known.ended_at
        return AttemptEnd(
            outcome.progress.bytes_in or job.progress.bytes_in,
            outcome.progress.bytes_out or job.progress.bytes_out,
            None if ended_at is None else datetime.fromtimestamp(ended_at, UTC),
        )

    async def _complete(
        self, lease_holder: LeaseHolder, manifest: Manifest, steps: tuple[str, ...], attempt: AttemptEnd
    ) -> None:
        job = lease_holder.job
        if job.status is not Status.FINALIZING:
            await lease_holder.edge(
                Status.FINALIZING, lambda: self._jobs.begin_finalize(job.job_id, job.fence, steps)
            )
        await lease_holder.edge(
            Status.COMPLETED,
            lambda: self._jobs.finalize(job.job_id, job.fence, manifest.digest, manifest.parts, attempt),
        )

    async def _report_completed(self, job: Job) -> None:
        self._source_hosts.worked(job.source.access_url)
        self._wakeups.publish(job.job_id)  # Whoever waits need not wait until the worker is given back.
        ATTEMPTS_ENDED.labels(Reason.PUBLISHED).inc()
        JOBS_ENDED.labels(Status.COMPLETED, Reason.PUBLISHED).inc()
        extra = {"job_id": job.job_id, "attempt": job.attempt}
        with suppress(*STORE_AWAY):  # The job is over; how long it took is for statistics.
            seconds = (await self._jobs.now() - job.created_at).total_seconds()
            JOB_RUN.labels(job.source.file_format.name).observe(seconds)
            extra["seconds"] = seconds
        _log.info("job completed", extra=extra)

    async def _end_cancelled(
        self, lease_holder: LeaseHolder, attempt: AttemptEnd, worker_id: WorkerId | None
    ) -> None:
        """Nobody wants the job; unless somebody has asked for it since, while it was being stopped."""
        job = lease_holder.job
        failure = Failure(Reason.CANCELLED, "cancelled by its requester")
        try:
            await self._release(lease_holder, Status.CANCELLED, failure, attempt)
        except StillWanted:
            if not lease_holder.unwanted.is_set():
                # No loop without an end: this counts as a try.
                stray = Failure(Reason.WORKER_LOST, "the attempt was stopped, and nobody had asked for that")
                await self._end_attempt(lease_holder, stray, attempt, worker_id)
                return
            ATTEMPTS_ENDED.labels(failure.reason).inc()
            _log.info("cancelled attempt, wanted again meanwhile", extra={"job_id": job.job_id})
            await self._requeue(lease_holder, failure, timedelta(0), attempt)

    async def _end_attempt(
        self, lease_holder: LeaseHolder, failure: Failure, attempt: AttemptEnd, worker_id: WorkerId | None
    ) -> None:
        job = lease_holder.job
        ATTEMPTS_ENDED.labels(failure.reason).inc()
        ended_so = 1 + sum(earlier.reason is failure.reason for earlier in job.attempts)
        tries = next_try if job.session_id is None else next_try_in_session
        of_host = 0
        if failure.reason is Reason.SOURCE_UNAVAILABLE:
            of_host = self._source_hosts.failed(job.source.access_url)
        again = tries(failure.reason, ended_so, self._timing.backoff_scale, of_host=of_host)
        if again is not None and failure.reason in SHORTAGES:
            limit = self._fleet.limit_reached(worker_need(job, Shortage(failure.reason, worker_id)))
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
            await self._release(lease_holder, Status.FAILED, failure, attempt)
            return
        _log.warning(
            "attempt failed, job requeued", extra={**extra, "delay_seconds": again.delay.total_seconds()}
        )
        await self._requeue(lease_holder, failure, again.delay, attempt)

    async def _requeue(
        self, lease_holder: LeaseHolder, failure: Failure, delay: timedelta, attempt: AttemptEnd
    ) -> None:
        job = lease_holder.job
        await lease_holder.edge(
            Status.PENDING, lambda: self._jobs.requeue(job.job_id, job.fence, failure, delay, attempt)
        )
        loop = asyncio.get_running_loop()
        loop.call_later(delay.total_seconds() + 0.01, self._wakeups.work.notify)

    async def _release(
        self, lease_holder: LeaseHolder, status: Status, failure: Failure, attempt: AttemptEnd
    ) -> None:
        job = lease_holder.job
        await lease_holder.edge(
            status,
            lambda: self._jobs.release_workflow(job.job_id, job.fence, status, failure, attempt),
        )
        JOBS_ENDED.labels(status, failure.reason).inc()
