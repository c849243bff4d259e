"""Calls on jobs and reservations, by holders, late holders, reapers and users, against a small model.

The model knows what each call may do. The machine calls with right and with stale fences, and
after each step compares every job. Leases are either an hour long or over when given, so no
clock decides.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from tests.property.store_machine import LONG, OVER, OWNERS, WHICH, WHO, StoreMachine

from gooseherd.domain import formats
from gooseherd.domain.errors import LeaseLost, NewerJob, NotCancellable, StillWanted
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import (
    AttemptEnd,
    Fence,
    Job,
    JobId,
    NewestSeen,
    Owner,
    Progress,
    Requester,
    Submission,
    WorkerId,
)
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.domain.reservation import EDGES as RESERVATION_EDGES
from gooseherd.domain.reservation import EndReason, Purpose, Reservation, ReservationId, ReservationState
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.domain.states import ACTIVE, TERMINAL, Status, may
from gooseherd.domain.usage import UsageQuery
from gooseherd.domain.worker_size import Capacity, WorkerResources, WorkerSize

KEYS = st.sampled_from(["one", "two"])
PRIORITIES = st.sampled_from(list(Priority))
TTLS = st.sampled_from([LONG, OVER])
BEHIND = st.sampled_from([0, 0, 0, 1])
"""How old the fence of a call is; mostly it is the job's own."""
FAILURES = st.sampled_from([Failure(Reason.WORKER_LOST, "gone"), Failure(Reason.TOOL_FAILED, "exit 1")])
DIGESTS = st.sampled_from(["d" * 64, "e" * 64])
LIMITS = st.sampled_from([None, 1, 2])
SESSIONS = st.sampled_from([None, None, "s1", "s2"])
RESERVERS = st.sampled_from(["anne", "bert", "carol"])
END_REASONS = st.sampled_from([EndReason.EXPLICIT, EndReason.IDLE_TIMEOUT])
ENDS = {ReservationState.ENDING, ReservationState.ENDED}
MOST_RESERVED = 2
LEASED = {Status.RUNNING, Status.FINALIZING}
WORKER = WorkerId("w")
RESOURCES = WorkerResources(WorkerSize(1024, 2048), Capacity.ON_DEMAND)
ONE_BYTE = AttemptEnd(bytes_in=1)
SOURCE = SourceFile(Dcc("4dn"), LocalId("f"), "f.bam", formats.BAM, "https://example.org/f.bam", md5="0" * 32)
RECIPE = Recipe("bam", "1", formats.BAM)


@dataclass
class Known:
    """What the model believes of one job."""

    key: str
    requesters: list[Requester]
    queued_for: Requester
    priority: Priority
    status: Status = Status.PENDING
    fence: int = 0
    attempt: int = 0
    owner: Owner | None = None
    stale: bool = False
    due: bool = True
    cancel: bool = False
    reason: Reason | None = None
    digest: str | None = None
    slot: bool = False
    """Leased under a running limit."""
    session: str | None = None
    """The session it was leased for last; its permit while it is leased."""
    ends: list[Reason] = field(default_factory=list)
    assigned: bool = False
    """Its attempt has a worker."""

    def end(self, status: Status, reason: Reason) -> None:
        if self.status in LEASED:
            self.ends.append(reason)
        self.status, self.reason, self.owner, self.slot = status, reason, None, False


class JobRules(StoreMachine):
    def __init__(self, runner: asyncio.Runner, store: Any) -> None:
        super().__init__(runner, store)
        self.jobs, self.reservations = store.jobs, store.reservations
        self.reserved: dict[ReservationId, Reservation] = {}
        self.mark = uuid.uuid4().hex[:8]
        self.known: dict[str, Known] = {}
        self.made = 0
        self.before: dict[str, dict[str, Any]] = {}
        self.used: Counter[Requester] = Counter()
        """Attempts that ended with a worker; each is said to have read one byte."""
        self.run(self.forget_reservations())

    async def forget_reservations(self) -> None:
        for one in await self.reservations.live():
            ending = one if one.state is ReservationState.ENDING else None
            ending = ending or await self.reservations.change(one, one.to(ReservationState.ENDING))
            assert ending is not None
            await self.reservations.change(ending, ending.to(ReservationState.ENDED))
        await self.reservations.forget(await self.reservations.now() + LONG)

    def pick(self, which: int) -> tuple[JobId, Known]:
        ids = sorted(self.known, key=lambda job_id: (self.known[job_id].status in TERMINAL, job_id))
        chosen = ids[which % len(ids)]
        return JobId(chosen), self.known[chosen]

    def active(self, key: str) -> str | None:
        return next((i for i, job in self.known.items() if job.key == key and job.status in ACTIVE), None)

    def attempt_ended(self, job: Known) -> None:
        """The attempt of the job has ended."""
        self.used[job.queued_for] += job.assigned
        job.assigned = False

    def permits(self) -> set[str | None]:
        return {job.session for job in self.known.values() if job.status in LEASED and job.session}

    def fenced(self, allowed: bool, call: Callable[[], Awaitable[Any]]) -> bool:
        """Make the call; it must succeed exactly when the model allows it."""
        try:
            self.run(call())
        except LeaseLost:
            assert not allowed
            return False
        assert allowed
        return True

    # -- submission --------------------------------------------------------------------

    @rule(key=KEYS, who=WHO, priority=PRIORITIES, looked=st.sampled_from(["no", "now", "long ago"]))
    def claim(self, key, who, priority, looked):
        job_id = JobId(f"{self.made:03}")
        self.made += 1
        holder = self.active(key)
        last = next((name for name in reversed(self.known) if self.known[name].key == key), None)
        newest = None if looked == "no" else NewestSeen(JobId(last) if last and looked == "now" else None)
        wanted = Submission(job_id, WorkflowKey(key), SOURCE, RECIPE, priority, who)
        try:
            claim = self.run(self.jobs.claim_workflow(wanted, newest=newest))
        except NewerJob:
            assert looked == "long ago"
            assert last is not None
            assert holder is None
            return
        assert holder is not None or last is None or looked != "long ago"
        assert claim.created == (holder is None)
        if holder is None:
            self.known[job_id] = Known(key, [who], who, priority)
        else:
            assert claim.job.job_id == holder
            self.joined(self.known[holder], who, priority, claim.job)

    @rule(key=KEYS, who=WHO, priority=PRIORITIES)
    def attach(self, key, who, priority):
        job = self.run(self.jobs.attach(WorkflowKey(key), who, priority))
        holder = self.active(key)
        assert (job.job_id if job else None) == holder
        if holder is not None:
            self.joined(self.known[holder], who, priority, job)

    def joined(self, job: Known, who: Requester, priority: Priority, now: Job) -> None:
        if job.status is Status.PENDING and now.rank < self.before[now.job_id]["rank"]:
            job.queued_for = who  # a better place is whoever brought it
        if who not in job.requesters:
            job.requesters.append(who)
        job.priority, job.cancel = min(job.priority, priority), False

    @rule()
    def newest(self):
        found = self.run(self.jobs.latest_of([WorkflowKey(key) for key in ("one", "two", "none")]))
        newest = {job.key: job_id for job_id, job in sorted(self.known.items())}
        assert {key: job.job_id for key, job in found.items()} == newest

    # -- ownership -----------------------------------------------------------------------

    @precondition(lambda self: self.known)
    @rule(which=WHICH, owner=OWNERS, ttl=TTLS, behind=BEHIND, limit=LIMITS, session=SESSIONS)
    def lease(self, which, owner, ttl, behind, limit, session):
        job_id, job = self.pick(which)
        seen = self.run(self.jobs.get(job_id))
        seen = replace(seen, fence=Fence(seen.fence - behind))
        held = self.run(self.jobs.lease(seen, owner, ttl, limit, session))
        limit = limit if session is None else None
        slots = sum(other.slot and other.queued_for == job.queued_for for other in self.known.values())
        below = limit is None or slots < limit
        below = below and (session is None or session not in self.permits())
        assert (held is not None) == (job.status is Status.PENDING and job.due and behind == 0 and below)
        if held is not None:
            job.slot, job.session = limit is not None, session
            job.status, job.owner, job.stale = Status.RUNNING, owner, ttl is OVER
            job.fence += 1
            job.attempt += 1

    @precondition(lambda self: self.known)
    @rule(which=WHICH, owner=OWNERS, ttl=TTLS, behind=BEHIND)
    def adopt(self, which, owner, ttl, behind):
        job_id, job = self.pick(which)
        held = self.run(self.jobs.adopt(job_id, Fence(job.fence - behind), owner, ttl))
        assert (held is not None) == (job.status in LEASED and behind == 0 and job.stale)
        if held is not None:
            job.owner, job.stale = owner, ttl is OVER
            job.fence += 1

    @rule(owner=OWNERS)
    def hand_over(self, owner):
        mine = [job for job in self.known.values() if job.status in LEASED and job.owner == owner]
        assert self.run(self.jobs.hand_over(owner)) == len(mine)
        for job in mine:
            job.owner, job.stale = None, True

    @precondition(lambda self: self.known)
    @rule(which=WHICH, behind=BEHIND, ttl=TTLS)
    def renew(self, which, behind, ttl):
        job_id, job = self.pick(which)
        allowed = job.status in LEASED and behind == 0 and job.owner is not None
        try:
            renewal = self.run(self.jobs.renew(job_id, Fence(job.fence - behind), ttl))
        except LeaseLost:
            assert not allowed
        else:
            assert allowed
            assert renewal.wanted is not job.cancel
            job.stale = job.stale and ttl is OVER

    @precondition(lambda self: self.known)
    @rule(which=WHICH, behind=BEHIND)
    def shorten_lease(self, which, behind):
        job_id, job = self.pick(which)
        allowed = job.status is Status.RUNNING and behind == 0 and job.owner is not None and not job.stale
        worker = WORKER if job.assigned else None
        done = self.run(self.jobs.shorten_lease(job_id, Fence(job.fence - behind), worker, "gone"))
        assert done == allowed
        job.stale = job.stale or done

    # -- work ------------------------------------------------------------------------------

    @precondition(lambda self: self.known)
    @rule(which=WHICH, behind=BEHIND)
    def assign_worker(self, which, behind):
        job_id, job = self.pick(which)
        if self.fenced(
            job.status is Status.RUNNING and behind == 0,
            lambda: self.jobs.assign_worker(job_id, Fence(job.fence - behind), WORKER, None, RESOURCES),
        ):
            job.assigned = True

    @precondition(lambda self: self.known)
    @rule(which=WHICH, behind=BEHIND, percent=st.floats(0, 100))
    def progress(self, which, behind, percent):
        job_id, job = self.pick(which)
        self.fenced(
            job.status in LEASED and behind == 0,
            lambda: self.jobs.record_progress(job_id, Fence(job.fence - behind), Progress("sort", percent)),
        )

    @precondition(lambda self: self.known)
    @rule(which=WHICH, behind=BEHIND, step=st.sampled_from(["sort", "index"]))
    def step(self, which, behind, step):
        job_id, job = self.pick(which)
        self.fenced(
            job.status in LEASED and behind == 0,
            lambda: self.jobs.record_step_complete(job_id, Fence(job.fence - behind), step, []),
        )

    @precondition(lambda self: self.known)
    @rule(which=WHICH, behind=BEHIND)
    def begin_finalize(self, which, behind):
        job_id, job = self.pick(which)
        if self.fenced(
            job.status in LEASED and behind == 0,
            lambda: self.jobs.begin_finalize(job_id, Fence(job.fence - behind), ["sort", "index"]),
        ):
            job.status = Status.FINALIZING

    @precondition(lambda self: self.known)
    @rule(which=WHICH, behind=BEHIND, digest=DIGESTS)
    def finalize(self, which, behind, digest):
        job_id, job = self.pick(which)
        again = job.status is Status.COMPLETED and job.digest == digest
        if (
            self.fenced(
                (job.status is Status.FINALIZING or again) and behind == 0,
                lambda: self.jobs.finalize(job_id, Fence(job.fence - behind), digest, [], ONE_BYTE),
            )
            and not again
        ):
            self.attempt_ended(job)
            job.end(Status.COMPLETED, Reason.PUBLISHED)
            job.digest = digest

    @precondition(lambda self: self.known)
    @rule(which=WHICH, behind=BEHIND, status=st.sampled_from([Status.FAILED, Status.CANCELLED]), why=FAILURES)
    def release(self, which, behind, status, why):
        job_id, job = self.pick(which)
        again = job.status is status and job.reason is why.reason
        wanted = status is Status.CANCELLED and job.status is Status.RUNNING and not job.cancel
        try:
            taken = self.fenced(
                ((job.status in LEASED and may(job.status, status)) or again) and behind == 0 and not wanted,
                lambda: self.jobs.release_workflow(job_id, Fence(job.fence - behind), status, why, ONE_BYTE),
            )
        except StillWanted:
            assert wanted
            assert behind == 0
            return
        if taken and not again:
            self.attempt_ended(job)
            job.end(status, why.reason)

    @precondition(lambda self: self.known)
    @rule(which=WHICH, behind=BEHIND, why=FAILURES, delay=st.sampled_from([OVER, OVER, LONG]))
    def requeue(self, which, behind, why, delay):
        job_id, job = self.pick(which)
        again = job.status is Status.PENDING and job.ends[-1:] == [why.reason]
        if (
            self.fenced(
                (job.status in LEASED or again) and behind == 0,
                lambda: self.jobs.requeue(job_id, Fence(job.fence - behind), why, delay, ONE_BYTE),
            )
            and not again
        ):
            self.attempt_ended(job)
            job.end(Status.PENDING, why.reason)
            job.reason, job.due = None, delay is OVER

    # -- users and time ----------------------------------------------------------------------

    @precondition(lambda self: self.known)
    @rule(which=WHICH, who=st.one_of(st.none(), WHO))
    def cancel(self, which, who):
        job_id, job = self.pick(which)
        try:
            self.run(self.jobs.request_cancel(job_id, who))
        except NotCancellable:
            assert job.status not in (Status.PENDING, Status.RUNNING)
            return
        assert job.status in (Status.PENDING, Status.RUNNING)
        if who is not None and who not in job.requesters:
            return
        job.requesters = [] if who is None else [name for name in job.requesters if name != who]
        if job.requesters and job.status is Status.PENDING and job.queued_for not in job.requesters:
            job.queued_for = job.requesters[0]
        if not job.requesters and job.status is Status.PENDING:
            job.end(Status.CANCELLED, Reason.CANCELLED)
        elif not job.requesters:
            job.cancel = True

    @rule()
    def expire(self):
        pending = {job_id for job_id, job in self.known.items() if job.status is Status.PENDING}
        ended = self.run(self.jobs.expire(self.run(self.jobs.now()) + LONG, 99))
        assert {job.job_id for job in ended} == pending
        for job_id in pending:
            self.known[job_id].end(Status.FAILED, Reason.QUEUE_EXPIRED)

    @rule(past=st.booleans())
    def forget_ended(self, past):
        """Retention: of jobs that ended long enough ago, and never of one that is active."""
        moment = self.run(self.jobs.now()) + (-LONG if past else LONG)
        ended = [] if past else [i for i, job in self.known.items() if job.status in TERMINAL]
        assert self.run(self.jobs.forget_ended(moment, 99)) == len(ended)
        for job_id in ended:
            del self.known[job_id]
            self.before.pop(job_id, None)

    # -- what always holds -------------------------------------------------------------------

    @rule(who=WHO, at_most=st.integers(1, 3))
    def count_who_waits(self, who, at_most):
        pending = [job for job in self.known.values() if job.status is Status.PENDING]
        waits_for = sum(who in job.requesters for job in pending)
        turns = sum(job.queued_for == who for job in pending)
        assert self.run(self.jobs.pending_of(who, at_most)) == min(waits_for, at_most)
        assert self.run(self.jobs.queued_for(who, at_most)) == min(turns, at_most)
        waiting = Counter((job.queued_for, job.priority) for job in pending)
        assert self.run(self.jobs.queue_depth()).pending == waiting

    @invariant()
    def the_store_is_as_the_model_says(self):
        documents = self.run(self.store.records())
        assert set(documents) == set(self.known)
        for job_id, there in documents.items():
            job, before = self.known[job_id], self.before.get(job_id)
            status = Status(there["status"])
            assert (status, there["fence"], there["attempt"]) == (job.status, job.fence, job.attempt)
            assert there["reason"] == job.reason
            assert there["requesters"] == job.requesters
            assert there["priority"] == job.priority
            assert there["queued_for"] == job.queued_for
            assert (there["running_slot"] is not None) == job.slot
            assert there["session_id"] == job.session
            assert there["manifest_digest"] == job.digest
            assert there["active"] == (status in ACTIVE)
            closed = [attempt["reason"] for attempt in there["attempts"] if attempt["ended_at"]]
            assert closed == job.ends
            assert None not in closed, "every attempt that ended says why"
            assert len(there["attempts"]) - len(closed) == (status in LEASED)
            if before is not None:
                was = Status(before["status"])
                assert status is was or may(was, status)
                assert there["fence"] >= before["fence"]
                assert there["rank"] <= before["rank"]
                assert there["progress"]["percent"] >= before["progress"]["percent"]
                if was in TERMINAL:
                    assert there == before
        flights = [job.session for job in self.known.values() if job.status in LEASED and job.session]
        assert len(flights) == len(set(flights)), "single flight"
        held = [there["workflow_key"] for there in documents.values() if there["active"]]
        assert len(held) == len(set(held))
        self.before = documents

    @invariant()
    def every_attempt_with_a_worker_is_counted_once(self):
        """Also when its job was forgotten since, and however often its end was written."""
        used = self.run(self.store.usage.sums(UsageQuery(date.min, date.max)))
        counted = {(one.requester, one.amounts.attempts, one.amounts.bytes_in) for one in used}
        # At midnight a requester has two sums; no example lasts that long otherwise.
        if len({one.day for one in used}) <= 1:
            assert counted == {(who, count, count) for who, count in self.used.items() if count}

    # -- reservations --------------------------------------------------------------------------

    @rule(owner=RESERVERS, floor=st.booleans(), slot=st.integers(0, 1))
    def reserve(self, owner, floor, slot):
        purpose = Purpose.FLOOR if floor else Purpose.SESSION
        owner = f"floor/{slot}" if floor else owner
        live = [one for one in self.reserved.values() if one.live and one.purpose is purpose]
        now = self.run(self.reservations.now())
        wanted = Reservation(
            ReservationId(f"r{len(self.reserved)}-{self.mark}"), purpose, Requester(owner), slot,
            ReservationState.RESERVING, "b1", now, now, now,
        )  # fmt: skip
        made = self.run(self.reservations.reserve(wanted, MOST_RESERVED))
        theirs = [one for one in live if one.owner == owner]
        if theirs:
            assert made == theirs[0]
        elif len(live) >= MOST_RESERVED:
            assert made is None
        else:
            assert made is not None
            assert made.reservation_id == wanted.reservation_id
            self.reserved[made.reservation_id] = made

    @precondition(lambda self: self.reserved)
    @rule(which=WHICH, state=st.sampled_from(list(ReservationState)), behind=BEHIND, why=END_REASONS)
    def change_reservation(self, which, state, behind, why):
        seen = list(self.reserved.values())[which % len(self.reserved)]
        if (seen.state, state) not in RESERVATION_EDGES:
            return
        ends = seen.state is not ReservationState.ENDING and state in ENDS
        wanted = seen.to(state, **({"reason": why} if ends else {}))
        changed = self.run(self.reservations.change(replace(seen, version=seen.version - behind), wanted))
        assert (changed is not None) == (behind == 0)
        if changed is not None:
            assert changed.version == seen.version + 1
            self.reserved[seen.reservation_id] = changed

    @invariant()
    def reservations_are_as_the_model_says(self):
        live = self.run(self.reservations.live())
        mine = [one for one in live if one.reservation_id in self.reserved]
        assert {one.reservation_id: one for one in mine} == {
            name: one for name, one in self.reserved.items() if one.live
        }
        assert len(mine) == len(live)
        for purpose in Purpose:
            slots = [one.slot for one in live if one.purpose is purpose]
            owners = [one.owner for one in live if one.purpose is purpose]
            assert len(slots) == len(set(slots)) <= MOST_RESERVED, "floor and limit are never exceeded"
            assert len(owners) == len(set(owners))
        for name, one in self.reserved.items():
            if not one.live:
                assert self.run(self.reservations.get(name)) == one, "ended is ended, with its first reason"

    @invariant()
    def due_jobs_stand_in_the_order_of_their_positions(self):
        due = self.run(self.jobs.due(99))
        expected = {i for i, job in self.known.items() if job.status is Status.PENDING and job.due}
        assert {job.job_id for job in due} == expected
        assert [self.run(self.jobs.position(job)) for job in due] == list(range(len(due)))
