"""Queue to worker: lease what is due, in order, as far as workers and limits allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gooseherd.control.executions import Executions
from gooseherd.control.loop import Loop
from gooseherd.control.session_permits import LOOK_AHEAD, SessionPermits, SessionSeat, runs_outside
from gooseherd.control.wakeups import Wakeups
from gooseherd.control.worker_assignment import worker_need
from gooseherd.domain.job import Job, JobId, Requester, WorkerId
from gooseherd.domain.launching import Placement, Placements, Supply, forecasts
from gooseherd.domain.ports.fleet import Capacity, Fleet
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.worker_size import WorkerSize

_LOOK_AHEAD = 32
"""Pending jobs read at once, or one for each slot; more when a requester at the limit would hide the ones
behind."""

_FAR_AHEAD = 512
"""Pending jobs read now and then, to see how many workers a batch is worth: as many as may wait of it."""

_FAR_PAUSE_PER_LAUNCH = 0.25
"""How long until then again, as a part of the time that a launch takes."""


@dataclass(frozen=True, slots=True)
class DispatchSnapshot:
    """What one pass sees. `due` is in queue order; `slots` workers could be had now."""

    due: Sequence[Job]
    running: Mapping[Requester, int]
    slots: int
    for_sessions: Sequence[Job] = ()
    """The next job of each session that is ready and has none in flight; they need no slot."""
    seats: Mapping[Requester, SessionSeat] = field(default_factory=dict)
    """Live sessions: their owners' jobs are kept for them, and are not in `due`."""
    unwanted: Sequence[JobId] = ()
    """Jobs followed here that somebody has cancelled."""
    unconfirmed: Sequence[Job] = ()
    """Jobs under a lease of ours that was granted while the answer to us got lost."""
    supply: Supply | None = None
    """Workers that live, and what a launch costs; None: nothing."""
    sizes: Mapping[JobId, WorkerSize] = field(default_factory=dict)
    """What each job that is due needs, if there is a supply."""


@dataclass(frozen=True, slots=True)
class LeaseJob:
    """Try to lease this job and follow it."""

    job: Job
    session_id: str | None = None
    """The session under whose permit it runs; None: of nobody."""

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


@dataclass(frozen=True, slots=True)
class SpareWorker:
    """No job needs it: the warm floor may have it, else it may end."""

    worker_id: WorkerId
    end: bool


Action = LeaseJob | StopJob | FollowJob | SpareWorker


def plan(seen: DispatchSnapshot, *, running_limit: int) -> list[Action]:
    """Which jobs to lease: queue order, skipping requesters that run `running_limit` jobs already, and jobs
    that had better wait for a worker that lives (domain/launching.py).

    Whether the limit still holds when it comes to leasing is the store's to say: other processes lease too.
    """
    actions: list[Action] = [StopJob(job_id) for job_id in seen.unwanted]
    actions += [FollowJob(job) for job in seen.unconfirmed]
    actions += [LeaseJob(job, seen.seats[job.queued_for].session_id) for job in seen.for_sessions]
    running = Counter(seen.running)
    free = seen.slots - len(seen.unconfirmed)
    placements = None if seen.supply is None else Placements(seen.supply)
    for job in seen.due:
        if free <= 0:
            return actions
        if running[job.queued_for] >= running_limit:
            continue
        if placements is not None and placements.place(job, seen.sizes[job.job_id]) is Placement.WAIT:
            continue
        running[job.queued_for] += 1
        free -= 1
        actions.append(LeaseJob(job))
    if placements is not None:
        actions += [SpareWorker(worker_id, end) for worker_id, end in placements.spare()]
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
        permits: SessionPermits | None = None,
    ) -> None:
        self._permits = permits
        self._wakeups = wakeups
        self._jobs = jobs
        self._fleet = fleet
        self._executions = executions
        self._running_limit = running_limit
        self._looked_far_at: datetime | None = None
        self.loop: Loop[DispatchSnapshot, Action] = Loop(
            "dispatcher",
            observe=self._observe,
            plan=lambda seen: plan(seen, running_limit=running_limit),
            act=self._act,
            wakeup=wakeups.work,
            tick_seconds=tick_seconds,
        )

    async def _observe(self) -> DispatchSnapshot:
        capacity = self._fleet.capacity()
        some = self._executions.following or self._executions.unconfirmed
        owned = await self._jobs.owned(self._executions.owner) if some else ()
        launching = self._executions.launching
        slots = self._executions.breaker.allows(self._fleet.slots() - launching, launching)
        seats = await self._permits.seats() if self._permits is not None else {}
        for_sessions, outside = await self._due_for_sessions(seats) if seats else ((), ())
        running: Mapping[Requester, int] = {}
        due: Sequence[Job] = ()
        supply = None
        if slots > 0 and capacity.launch_seconds:
            due, running, supply = await self._due_with_supply(capacity, slots, outside, seats)
        elif slots > 0:
            look_ahead = max(_LOOK_AHEAD, slots)
            page = await self._jobs.due(look_ahead, seats.keys())
            if due := [*outside, *page]:
                running = await self._jobs.running_by_requester()
                more = len(page) >= look_ahead
                due = await self._due_in_turn(due, running, slots, seats.keys(), more=more)
        return DispatchSnapshot(
            supply=supply,
            sizes={} if supply is None else {job.job_id: self._size(job) for job in due},
            for_sessions=for_sessions,
            seats=seats,
            due=due,
            running=running,
            slots=slots,
            unwanted=[job.job_id for job in owned if job.cancel_requested],
            unconfirmed=[job for job in owned if self._executions.is_unconfirmed(job)],
        )

    async def _due_with_supply(
        self,
        capacity: Capacity,
        slots: int,
        outside: Sequence[Job],
        seats: Mapping[Requester, SessionSeat],
    ) -> tuple[Sequence[Job], Mapping[Requester, int], Supply | None]:
        """Due jobs, who runs how many, and the workers that live: launches cost something."""
        now = await self._jobs.now()
        pause = timedelta(seconds=_FAR_PAUSE_PER_LAUNCH * capacity.launch_seconds)
        far = self._looked_far_at is None or now - self._looked_far_at >= pause
        look_ahead = max(_FAR_AHEAD if far else _LOOK_AHEAD, slots)
        page = await self._jobs.due(look_ahead, seats.keys())
        if far and page:
            self._looked_far_at = now
        idle = any(worker.idle_seconds is not None for worker in capacity.workers)
        more = len(page) >= look_ahead
        if not (due := [*outside, *page]) and not idle:
            return (), {}, None
        at_work = await self._jobs.at_work()
        running = Counter(job.queued_for for job in at_work)
        if due:
            due = list(await self._due_in_turn(due, running, slots, seats.keys(), more=more))
        workers = forecasts(capacity, at_work, now, self._size)
        return due, running, Supply(capacity.launch_seconds, workers, now, far or not more)

    def _size(self, job: Job) -> WorkerSize:
        return self._fleet.size_for(worker_need(job))

    async def _due_for_sessions(
        self, seats: Mapping[Requester, SessionSeat]
    ) -> tuple[Sequence[Job], Sequence[Job]]:
        """The next job of each session that may have one; and those that need a larger worker than that."""
        in_flight = {job.session_id for job in await self._jobs.at_work()}
        next_ones, outside = [], []
        for owner, seat in seats.items():
            waiting = await self._jobs.due_for(owner, LOOK_AHEAD)
            outside += [job for job in waiting if runs_outside(job)]
            inside = [job for job in waiting if not runs_outside(job)]
            if inside and seat.ready and seat.session_id not in in_flight:
                next_ones.append(inside[0])
        return next_ones, outside

    async def _due_in_turn(
        self,
        first: Sequence[Job],
        running: Mapping[Requester, int],
        slots: int,
        with_session: Collection[Requester],
        *,
        more: bool,
    ) -> Sequence[Job]:
        """In queue order, enough for all slots although some requesters are passed over at their limit.

        `more`: the queue goes on behind the `first`.
        """
        due = {job.job_id: job for job in first}
        look_ahead = max(_LOOK_AHEAD, slots)
        while more:
            takes = Counter(job.queued_for for job in due.values())
            passed_over = {
                requester
                for requester, jobs in (Counter(running) + takes).items()
                if jobs >= self._running_limit
            }
            fitting = sum(
                min(jobs, max(self._running_limit - running.get(requester, 0), 0))
                for requester, jobs in takes.items()
            )
            if fitting >= slots or not passed_over:
                break
            page = await self._jobs.due(look_ahead, passed_over | set(with_session))
            found = {job.job_id: job for job in page if job.job_id not in due}
            # Nobody reached the limit since the page before: it is the same, and so would be the next.
            more = bool(found) and len(page) >= look_ahead
            due |= found
        return sorted(due.values(), key=lambda job: (job.rank, job.job_id))

    async def _act(self, action: Action) -> None:
        match action:
            case StopJob(job_id):
                self._executions.cancel(job_id)
            case FollowJob(job):
                self._executions.start_unconfirmed(job)
            case SpareWorker(worker_id, end):
                await self._fleet.spare(worker_id, end=end)
            case LeaseJob(job, None):
                await self._executions.lease(job, self._running_limit)
            case LeaseJob(job, str(session_id)):
                if self._permits is None:
                    return
                if await self._permits.use(session_id):
                    await self._executions.lease(job, self._running_limit, session_id)
                else:
                    # Whoever changed the session may live elsewhere, and then wakes nobody here.
                    self._wakeups.work.notify()
