"""Queue to worker: lease what is due, in order, as far as workers and limits allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gooseherd.control.executions import Executions
from gooseherd.control.loop import Loop
from gooseherd.control.wakeups import Wakeups
from gooseherd.domain.job import Job, JobId, Requester
from gooseherd.domain.ports.fleet import Fleet
from gooseherd.domain.ports.store import JobStore

_LOOK_AHEAD = 32
"""Pending jobs read at once; more when a requester at the limit would hide the ones behind."""


@dataclass(frozen=True, slots=True)
class DispatchSnapshot:
    """What one pass sees. `due` is in queue order; `slots` workers could be had now."""

    due: Sequence[Job]
    running: Mapping[Requester, int]
    slots: int
    unwanted: Sequence[JobId] = ()
    """Jobs followed here that somebody has cancelled."""
    unconfirmed: Sequence[Job] = ()
    """Jobs under a lease of ours that was granted while the answer to us got lost."""


@dataclass(frozen=True, slots=True)
class LeaseJob:
    """Try to lease this job and follow it."""

    job: Job

    def __repr__(self) -> str:  # Goes into the log, where addresses of sources do not belong.
        return f"LeaseJob({self.job.job_id!r})"


@dataclass(frozen=True, slots=True)
class StopJob:
    """Its requesters are gone: end the attempt."""

    job_id: JobId


@dataclass(frozen=True, slots=True)
class FollowJob:
    """It is ours already."""

    job: Job


Action = LeaseJob | StopJob | FollowJob


def plan(seen: DispatchSnapshot, *, running_limit: int) -> list[Action]:
    """Which jobs to lease: queue order, skipping requesters that run `running_limit` jobs already.

    Whether the limit still holds when it comes to leasing is the store's to say: other processes lease too.
    """
    actions: list[Action] = [StopJob(job_id) for job_id in seen.unwanted]
    actions += [FollowJob(job) for job in seen.unconfirmed]
    running = Counter(seen.running)
    free = seen.slots - len(seen.unconfirmed)
    for job in seen.due:
        if free <= 0:
            break
        if running[job.queued_for] >= running_limit:
            continue
        running[job.queued_for] += 1
        free -= 1
        actions.append(LeaseJob(job))
    return actions


class Dispatcher:
    """Leases due jobs to this process. Safe to run in any number of processes."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        fleet: Fleet,
        executions: Executions,
        wakeups: Wakeups,
        running_limit: int,
        tick_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._fleet = fleet
        self._executions = executions
        self._running_limit = running_limit
        self.loop: Loop[DispatchSnapshot, Action] = Loop(
            "dispatcher",
            observe=self._observe,
            plan=lambda seen: plan(seen, running_limit=running_limit),
            act=self._act,
            wakeup=wakeups.work,
            tick_seconds=tick_seconds,
        )

    async def _observe(self) -> DispatchSnapshot:
        some = self._executions.following or self._executions.unconfirmed
        owned = await self._jobs.owned(self._executions.owner) if some else ()
        launching = self._executions.launching
        slots = self._executions.breaker.allows(self._fleet.slots() - launching, launching)
        running: Mapping[Requester, int] = {}
        due: Sequence[Job] = ()
        if slots > 0 and (due := await self._jobs.due(_LOOK_AHEAD)):
            running = await self._jobs.running_by_requester()
            due = await self._due_in_turn(due, running, slots)
        return DispatchSnapshot(
            due=due,
            running=running,
            slots=slots,
            unwanted=[job.job_id for job in owned if job.cancel_requested],
            unconfirmed=[job for job in owned if self._executions.is_unconfirmed(job)],
        )

    async def _due_in_turn(
        self, first: Sequence[Job], running: Mapping[Requester, int], slots: int
    ) -> Sequence[Job]:
        """In queue order, enough for all slots although some requesters are passed over at their limit."""
        due = {job.job_id: job for job in first}
        page = first
        while len(page) == _LOOK_AHEAD:
            wanted = Counter(running) + Counter(job.queued_for for job in due.values())
            passed_over = {requester for requester, jobs in wanted.items() if jobs >= self._running_limit}
            takes = Counter(job.queued_for for job in due.values())
            fitting = sum(
                min(jobs, max(self._running_limit - running.get(requester, 0), 0))
                for requester, jobs in takes.items()
            )
            if fitting >= slots or not passed_over:
                break
            page = await self._jobs.due(_LOOK_AHEAD, passed_over)
            due |= {job.job_id: job for job in page}
        return sorted(due.values(), key=lambda job: (job.rank, job.job_id))

    async def _act(self, action: Action) -> None:
        match action:
            case StopJob(job_id):
                self._executions.cancel(job_id)
            case FollowJob(job):
                self._executions.start_unconfirmed(job)
            case LeaseJob(job):
                await self._executions.lease(job, self._running_limit)
