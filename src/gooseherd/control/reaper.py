"""Ends what nobody owns any more: adopt it, roll it forward, or end it with a reason.

| seen | tier | decision |
| --- | --- | --- |
| lease fresh | 1 | not even read |
| lease run out, finalizer registered here | 1 | left alone, counted |
| running, lease run out | 2 | adopt: the attempt may well be alive on its worker |
| finalizing, lease run out past the grace | 2 | adopt: roll forward if the manifest exists, else requeue |
| its attempt older than the hard ceiling, whatever the marker says | 3 | fail with deadline_exceeded |
| pending for longer than the queue's time to live | | fail with queue_expired |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gooseherd import telemetry
from gooseherd.control.executions import Executions
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.loop import Loop, PassReport
from gooseherd.control.wakeups import Wakeups
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import Fence, Job, JobId
from gooseherd.domain.ports.store import STORE_AWAY, JobQuery, JobStore
from gooseherd.domain.states import Status
from gooseherd.domain.waiting import waiting_since

_BATCH = 64
_PAGE = 500
"""Pending jobs read at a time by a pass that says what there is to do."""


@dataclass(frozen=True, slots=True)
class ReaperLimits:
    """When stale is stale: from the end of the lease, from the begin of the attempt, and from when the job
    was submitted or its last attempt with a worker ended. What it waited or worked before does not count.
    """

    finalize_grace: timedelta = timedelta(minutes=5)
    hard_ceiling: timedelta = timedelta(hours=24)
    queue_ttl: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class JobsSnapshot:
    """Jobs without a living owner, by the store's clock."""

    now: datetime
    unowned: Sequence[Job]
    finalizing_here: Mapping[JobId, float]


@dataclass(frozen=True, slots=True)
class AdoptJob:
    """Take the lease and go on where the last owner stopped."""

    job_id: JobId
    seen: Fence


@dataclass(frozen=True, slots=True)
class EndJob:
    """Over the hard ceiling: fail it, whoever claims to be at work."""

    job_id: JobId
    seen: Fence


@dataclass(frozen=True, slots=True)
class LeaveJob:
    """A live finalizer is not dead."""

    job_id: JobId


@dataclass(frozen=True, slots=True)
class ExpireQueue:
    """Fail pending jobs that have waited since before this."""

    before: datetime


Action = AdoptJob | EndJob | LeaveJob | ExpireQueue


def plan(seen: JobsSnapshot, limits: ReaperLimits) -> list[Action]:
    """The table above, as code."""
    actions: list[Action] = [ExpireQueue(seen.now - limits.queue_ttl)]
    for job in seen.unowned:
        stale_since = job.lease.expires_at if job.lease else job.updated_at
        if seen.now - _began(job) > limits.hard_ceiling:
            actions.append(EndJob(job.job_id, job.fence))
        elif job.job_id in seen.finalizing_here:
            actions.append(LeaveJob(job.job_id))
        elif (
            job.status is Status.RUNNING or seen.now - stale_since > limits.finalize_grace or handed_over(job)
        ):
            actions.append(AdoptJob(job.job_id, job.fence))
    return actions


def _began(job: Job) -> datetime:
    attempt = job.current_attempt
    began = attempt.started_at if attempt is not None else None
    return began or job.started_at or job.created_at


def handed_over(job: Job) -> bool:
    """Whether the owner let go on purpose, so that there is no grace to wait for."""
    return job.lease is None


class Reaper:
    """Runs in every API process; each decision is one conditional write, so any number may run."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        executions: Executions,
        finalizers: Finalizers,
        wakeups: Wakeups,
        limits: ReaperLimits,
        tick_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._limits = limits
        self._executions = executions
        self._finalizers = finalizers
        self._wakeups = wakeups
        self.loop: Loop[JobsSnapshot, Action] = Loop(
            "reaper",
            observe=self._observe,
            plan=lambda seen: plan(seen, limits),
            act=self._act,
            wakeup=wakeups.unowned,
            tick_seconds=tick_seconds,
        )

    async def run_once(self, *, dry_run: bool = False) -> PassReport[Action]:
        """One pass, whose report has what there was to do and nothing else."""
        try:
            waits = await self._waits_too_long()
        except STORE_AWAY:
            return PassReport(seen=False)
        report = await self.loop.run_once(dry_run=dry_run)
        planned = [action for action in report.planned if waits or not isinstance(action, ExpireQueue)]
        return replace(report, planned=planned)

    async def _waits_too_long(self) -> bool:
        """Whether any job does. All that wait are read, if one was submitted so long ago."""
        before = await self._jobs.now() - self._limits.queue_ttl
        oldest = (await self._jobs.queue_depth()).oldest
        if oldest is None or oldest >= before:
            return False
        after: str | None = None
        while True:
            page = await self._jobs.find(JobQuery(status=Status.PENDING, limit=_PAGE, after=after))
            if any(waiting_since(job.created_at, job.attempts) < before for job in page.jobs):
                return True
            if (after := page.next) is None:
                return False

    async def _observe(self) -> JobsSnapshot:
        return JobsSnapshot(
            now=await self._jobs.now(),
            unowned=await self._jobs.unowned(_BATCH),
            finalizing_here=self._finalizers.left_alone(),
        )

    async def _act(self, action: Action) -> None:
        match action:
            case LeaveJob():
                self._finalizers.deferred()
            case AdoptJob(job_id, seen):
                await self._executions.adopt(job_id, seen)
            case EndJob(job_id, seen):
                job = await self._jobs.adopt(
                    job_id, seen, self._executions.owner, self._executions.timing.lease
                )
                if job is not None:
                    await self._executions.end(
                        job, Failure(Reason.DEADLINE_EXCEEDED, "the attempt is older than the hard ceiling")
                    )
            case ExpireQueue(before):
                for job in await self._jobs.expire(before, _BATCH):
                    telemetry.JOBS_ENDED.labels(Status.FAILED, Reason.QUEUE_EXPIRED).inc()
                    self._wakeups.publish(job.job_id)
