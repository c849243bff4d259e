"""Stops workers that nobody works with any more, and gives jobs whose worker ended to the reaper.

| worker | job | decision |
| --- | --- | --- |
| young, or of unknown age, or told to end | | left alone |
| lives | one at work names it, or it was launched for its attempt | left alone, whatever its health |
| lives | it is reserved, or was lately | left alone: control/warm_floor.py and sessions.py decide |
| older than its lifetime | none at work | stop |
| its health checks fail | none at work | stop |
| idle, and this process may hand it out | none at work | left alone: its idle timeout ends it |
| lives | one ended with it within the orphan grace | left alone: it may be warm in another process |
| lives | none named it for the orphan grace | an orphan: stop |
| ended | running on it, lease fresh, followed by somebody else | shorten the lease |
| ended | any other | nothing |
| not seen | any | nothing: not seeing it is not its end |

Whatever is decided was observed twice, with the observation gap between. At most a fifth of the live
workers (but one) are stopped in a pass, the oldest first; more is logged as an error and left to
the next pass. No state of a job is ever written: whoever adopts a job decides.

Warm workers of other processes are safe because the orphan grace is longer than the idle
timeout: after it a worker ends by itself, and before it ends nobody hands it out any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from gooseherd import telemetry
from gooseherd.control.assignments import Users, attempt_of, last_needed, user_of, users_of
from gooseherd.control.loop import Loop, PassReport
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.alerts import ALERT_FIELD, Alert
from gooseherd.domain.errors import NotFound, WorkerInUse
from gooseherd.domain.job import Fence, Job, JobId, WorkerId
from gooseherd.domain.ports.fleet import Fleet, WorkerHealth, WorkerView
from gooseherd.domain.ports.reservations import ReservationStore
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.states import Status

_log = logging.getLogger(__name__)

_SHARE: Final = 5
"""One in so many live workers may be stopped in a pass."""


class Cause(StrEnum):
    """Why a worker is stopped. Closed: metrics rely on the list."""

    ORPHAN = "orphan"
    UNHEALTHY = "unhealthy"
    OVERDUE = "overdue"


# There from the start: an increase from nothing is none to Prometheus, and one orphan is to be seen.
for _action in (*(f"stop_{cause}" for cause in Cause), "shorten_lease"):
    telemetry.RECONCILER_ACTIONS.labels(_action)


@dataclass(frozen=True, slots=True)
class ReconcilerLimits:
    """How careful it is. `orphan_grace` must be longer than workers' idle timeout."""

    birth_grace: timedelta = timedelta(minutes=1)
    """Younger ones are invisible: what launched them may not have recorded it yet."""
    orphan_grace: timedelta = timedelta(minutes=5)
    max_lifetime: timedelta | None = None
    observation_gap: timedelta = timedelta(seconds=15)
    """Between two observations; longer than the fleet may answer from one sweep (10 s)."""


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """Workers, and then the jobs: each worker was launched for a job that was leased before."""

    now: datetime
    workers: Sequence[WorkerView]
    jobs: Sequence[Job]
    """All at work, and those that have something to do with a worker that none of them uses."""
    followed: Collection[JobId] = ()
    """Jobs that this very process follows: it learns of the end of their workers itself."""
    reserved: Collection[str] = ()
    """Names of workers of reservations: their own, and those under which they were launched."""


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Nobody at work names it."""

    worker: WorkerView
    cause: Cause
    why: str


@dataclass(frozen=True, slots=True)
class ShortenLease:
    """Its worker has ended and its holder does not seem to know."""

    job_id: JobId
    seen: Fence
    worker_id: WorkerId | None
    """As the job's record has it; None: it was launched for the attempt and never assigned."""
    diagnosis: str


Action = StopWorker | ShortenLease
Suspicion = tuple[str, ...]
"""What was seen, in a form that is equal when the same is seen again."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`suspicions` are to be given to the next pass; `held_back` counts stops over the limit."""

    actions: Sequence[Action] = ()
    suspicions: Mapping[Suspicion, datetime] = field(default_factory=dict)
    held_back: int = 0


def decide(
    seen: FleetSnapshot, suspected: Mapping[Suspicion, datetime], limits: ReconcilerLimits
) -> Decision:
    """The table above, as code. `suspected` says since when earlier passes saw what they saw."""
    users = users_of(seen.jobs)
    found: dict[Suspicion, Action] = {}
    for worker in seen.workers:
        if worker.health is WorkerHealth.GONE:
            lease = _lease_to_shorten(worker, users, seen)
            if lease is not None:
                found["lease", lease.job_id, str(lease.seen), lease.worker_id or ""] = lease
        elif user_of(worker, users) is None and not _is_reserved(worker, seen.reserved):
            stop = _stop(worker, seen, limits)
            if stop is not None:
                found["stop", worker.worker_id, stop.cause] = stop
    suspicions = {suspicion: suspected.get(suspicion, seen.now) for suspicion in found}
    ripe = [
        found[suspicion]
        for suspicion, since in suspicions.items()
        if suspicion in suspected and seen.now - since >= limits.observation_gap
    ]
    leases = [action for action in ripe if isinstance(action, ShortenLease)]
    stops = sorted(
        (action for action in ripe if isinstance(action, StopWorker)), key=lambda s: s.worker.started_at
    )
    live = sum(worker.health is not WorkerHealth.GONE for worker in seen.workers)
    allowed = max(1, live // _SHARE)
    return Decision((*leases, *stops[:allowed]), suspicions, max(0, len(stops) - allowed))


def _is_reserved(worker: WorkerView, names: Collection[str]) -> bool:
    return any(name in names for name in (worker.worker_id, worker.launched_for, worker.attempt))


def _stop(worker: WorkerView, seen: FleetSnapshot, limits: ReconcilerLimits) -> StopWorker | None:
    """For a live worker that no job at work names."""
    if not worker.stoppable or not worker.started_at:
        return None
    started = datetime.fromtimestamp(worker.started_at, UTC)
    age = seen.now - started
    if age < limits.birth_grace:
        return None
    # A worker past its lifetime drains itself; what does not is given a moment more.
    if limits.max_lifetime is not None and age > limits.max_lifetime + limits.birth_grace:
        return StopWorker(worker, Cause.OVERDUE, f"it is {_seconds(age)} old")
    if worker.health is WorkerHealth.UNHEALTHY:
        return StopWorker(worker, Cause.UNHEALTHY, "its health checks fail and nobody works with it")
    if worker.warm:
        return None
    needed = last_needed(worker, seen.jobs)
    alone = seen.now - max(started, needed or started)
    if alone < limits.orphan_grace:
        return None
    launched = f", launched for {worker.launched_for}" if worker.launched_for else ""
    return StopWorker(worker, Cause.ORPHAN, f"no job named it for {_seconds(alone)}{launched}")


def _lease_to_shorten(worker: WorkerView, users: Users, seen: FleetSnapshot) -> ShortenLease | None:
    """For a worker that has ended."""
    job = users.get(worker.worker_id)
    if job is None and worker.launched_for is not None:
        job = users.get(worker.launched_for)
        if job is not None and (job.worker_id is not None or _has_another(worker, job, seen)):
            return None
    if job is None or job.status is not Status.RUNNING or job.job_id in seen.followed:
        return None
    if job.lease is None or job.lease.expires_at <= seen.now:
        return None
    return ShortenLease(job.job_id, job.fence, job.worker_id, worker.detail or "the worker has ended")


def _has_another(worker: WorkerView, job: Job, seen: FleetSnapshot) -> bool:
    name = attempt_of(job)
    return any(
        other.health is not WorkerHealth.GONE and name in (other.attempt, other.launched_for)
        for other in seen.workers
        if other.worker_id != worker.worker_id
    )


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"


class Reconciler:
    """Any number may run: stopping is idempotent, and a lease is shortened by one conditional write.

    `follows` tells whether this process follows a job, `unowned` is notified when a lease was
    shortened. An observation that is not complete ends the pass.
    """

    def __init__(
        self,
        *,
        jobs: JobStore,
        fleet: Fleet,
        reservations: ReservationStore | None = None,
        limits: ReconcilerLimits,
        tick_seconds: float,
        follows: Callable[[JobId], bool] = lambda _: False,
        unowned: Wakeup | None = None,
    ) -> None:
        self._jobs = jobs
        self._fleet = fleet
        self._reservations = reservations
        self._limits = limits
        self._follows = follows
        self._unowned = unowned
        self._suspected: Mapping[Suspicion, datetime] = {}
        self._counted_at: datetime | None = None
        self._wakeup = Wakeup()
        self.loop: Loop[FleetSnapshot, Action] = Loop(
            "reconciler",
            observe=self._observe,
            plan=self._plan,
            act=self._act,
            wakeup=self._wakeup,
            tick_seconds=tick_seconds,
            when_blind=Alert.RECONCILE_BLIND,
        )

    async def run_once(self, *, dry_run: bool = False) -> PassReport[Action]:
        """One pass that needs no earlier one: observes, observes again after the gap, acts.

        With `dry_run` nothing is done; the report says what would be.
        """
        first = await self.loop.run_once(dry_run=True)
        if not first.seen or not self._suspected:
            return first
        await asyncio.sleep(self._limits.observation_gap.total_seconds() + 0.1)
        return await self.loop.run_once(dry_run=dry_run)

    async def _observe(self) -> FleetSnapshot:
        before = await self._jobs.at_work()
        workers = await self._fleet.survey(
            [job.worker_id for job in before if job.worker_id and job.status is Status.RUNNING]
        )
        now = await self._jobs.now()
        at_work = await self._jobs.at_work()
        users = users_of(at_work)
        reserved = await self._reserved(now)
        unused = [
            worker
            for worker in workers
            if worker.stoppable and user_of(worker, users) is None and not _is_reserved(worker, reserved)
        ]
        jobs = {job.job_id: job for job in [*await self._past(unused, now), *at_work]}
        followed = frozenset(job_id for job_id in jobs if self._follows(job_id))
        return FleetSnapshot(now, workers, list(jobs.values()), followed, reserved)

    async def _reserved(self, now: datetime) -> Collection[str]:
        """Also of those that ended lately: a job may have their worker and not have written it down."""
        if self._reservations is None:
            return ()
        found = await self._reservations.live(now - self._limits.orphan_grace)
        return frozenset(name for reservation in found for name in reservation.names)

    async def _past(self, workers: Sequence[WorkerView], now: datetime) -> Iterable[Job]:
        """What jobs have to do with workers that none at work uses."""
        if not workers:
            return ()
        since = now - self._limits.orphan_grace
        named = await self._jobs.naming([worker.worker_id for worker in workers], since)
        launched_for = {
            JobId(name.rpartition(".")[0])
            for worker in workers
            for name in (worker.attempt, worker.launched_for)
            if name is not None
        }
        found = [await self._jobs.get(job_id) for job_id in launched_for - {job.job_id for job in named}]
        return [*named, *(job for job in found if job is not None)]

    def _plan(self, seen: FleetSnapshot) -> Sequence[Action]:
        decision = decide(seen, self._suspected, self._limits)
        if decision.suspicions.keys() - self._suspected.keys():
            # What is new is observed again as soon as that counts.
            gap = self._limits.observation_gap.total_seconds()
            asyncio.get_running_loop().call_later(gap + 0.1, self._wakeup.notify)
        self._suspected = decision.suspicions
        health = Counter(worker.health for worker in seen.workers)
        for word in WorkerHealth:
            telemetry.FLEET_WORKERS.labels(word).set(health[word])
        telemetry.RECONCILER_HELD_BACK.set(decision.held_back)
        self._count_worker_seconds(seen)
        if decision.held_back:
            _log.error(
                "too many workers to stop at once, the others are left to the next pass",
                extra={
                    "held_back": decision.held_back,
                    "workers": len(seen.workers),
                    ALERT_FIELD: Alert.RECONCILER_HELD_BACK,
                },
            )
        return decision.actions

    def _count_worker_seconds(self, seen: FleetSnapshot) -> None:
        """Since the look before: what each live worker cost, and in how much of it a job had it."""
        before, self._counted_at = self._counted_at, seen.now
        if before is None:
            return
        users = users_of(seen.jobs)
        for worker in seen.workers:
            if worker.health is WorkerHealth.GONE or not worker.started_at:
                continue
            since = max(before, datetime.fromtimestamp(worker.started_at, UTC))
            seconds = max((seen.now - since).total_seconds(), 0.0)
            telemetry.WORKER_PAID.inc(seconds)
            if (job := user_of(worker, users)) is not None:
                current = job.current_attempt
                begun = current.started_at if current is not None else None
                worked = (seen.now - max(since, begun or since)).total_seconds()
                telemetry.WORKER_WORKED.inc(min(max(worked, 0.0), seconds))

    async def _act(self, action: Action) -> None:
        match action:
            case StopWorker(worker, cause, why):
                job = user_of(worker, users_of(await self._jobs.at_work()))
                if job is not None:
                    raise WorkerInUse(worker.worker_id, job.job_id)
                if _is_reserved(worker, await self._reserved(await self._jobs.now())):
                    return
                with suppress(NotFound):
                    await self._fleet.stop(worker.worker_id, f"{cause}: {why}")
                    telemetry.RECONCILER_ACTIONS.labels(f"stop_{cause}").inc()
                    alert = {} if cause is Cause.UNHEALTHY else {ALERT_FIELD: Alert.ORPHAN_SEEN}
                    _log.warning(
                        "worker stopped",
                        extra={"worker": worker.worker_id, "cause": str(cause), "why": why, **alert},
                    )
            case ShortenLease(job_id, fence, worker_id, diagnosis):
                if await self._jobs.shorten_lease(job_id, fence, worker_id, diagnosis):
                    telemetry.RECONCILER_ACTIONS.labels("shorten_lease").inc()
                    _log.warning(
                        "lease shortened, the worker has ended",
                        extra={"job_id": job_id, "worker": worker_id, "how": diagnosis},
                    )
                    if self._unowned is not None:
                        self._unowned.notify()
