"""What becomes of a session, by what is seen: domain/session.py, which does no I/O."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.test_control_plans import pending

from gooseherd.control.dispatcher import DispatchSnapshot, LeaseJob
from gooseherd.control.dispatcher import plan as plan_dispatch
from gooseherd.control.session_permits import SessionSeat, runs_outside
from gooseherd.domain.failures import Reason
from gooseherd.domain.failures import next_try as ordinary_try
from gooseherd.domain.job import AttemptRecord, Requester, WorkerId
from gooseherd.domain.ports.fleet import WorkerHealth, WorkerView
from gooseherd.domain.reservation import (
    EDGES,
    EndReason,
    Purpose,
    Reservation,
    ReservationId,
    ReservationState,
)
from gooseherd.domain.session import (
    NoteBusy,
    NoteIdle,
    ReplaceLostWorker,
    SessionsSnapshot,
    next_try,
    plan,
    still_silent,
)
from gooseherd.domain.warm_floor import EndReservation, FinishEnding, ReplaceWorker, SpeakTo

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ANNE = Requester("anne")
WORKER = WorkerId("w1")

READY = Reservation(
    ReservationId("s"), Purpose.SESSION, ANNE, 0, ReservationState.READY, "b1", NOW, NOW - 300 * SECOND, NOW,
    idle_seconds=60.0, launches=1, worker_id=WORKER, ready_at=NOW - 290 * SECOND, kept_at=NOW,
    idle_since=NOW - 30 * SECOND,
)  # fmt: skip
STARTING = replace(READY, state=ReservationState.STARTING, worker_id=None, idle_since=None)
ENDING = replace(READY, state=ReservationState.ENDING, reason=EndReason.EXPLICIT)


def view(health: WorkerHealth = WorkerHealth.HEALTHY) -> WorkerView:
    return WorkerView(WORKER, health, 1.0, detail="how it is")


def decided(session: Reservation, *workers: WorkerView, in_flight=None, waiting=(), now=NOW):
    seen = SessionsSnapshot(now, [session], in_flight or {}, waiting, workers)
    actions = plan(seen)
    assert len(actions) <= 1
    return actions[0] if actions else None


def end(reason: EndReason, action) -> bool:
    return isinstance(action, EndReservation) and action.reason is reason


def test_a_session_that_works_or_waits_to_is_left_alone() -> None:
    assert decided(READY, view()) is None
    assert decided(replace(READY, idle_since=None), view(), waiting=[ANNE]) is None
    busy = replace(READY, idle_since=None)
    assert decided(busy, view(), in_flight={"s": [WORKER]}) is None
    assert decided(busy, view(), in_flight={"s": [None]}) is None, "its worker is not assigned yet"
    assert decided(STARTING) is None, "the newborn"
    assert decided(replace(STARTING, state=ReservationState.RESERVING)) is None


def test_idleness_is_counted_from_nothing_in_flight() -> None:
    assert decided(replace(READY, idle_since=None), view()) == NoteIdle(replace(READY, idle_since=None))
    assert decided(replace(READY, idle_since=NOW - 59 * SECOND), view()) is None
    assert end(EndReason.IDLE_TIMEOUT, decided(replace(READY, idle_since=NOW - 60 * SECOND), view()))
    elsewhere = {"s": [WorkerId("another")]}
    late = replace(READY, idle_since=NOW - 60 * SECOND)
    assert end(EndReason.IDLE_TIMEOUT, decided(late, view(), in_flight=elsewhere))


@pytest.mark.parametrize(
    "work", [{"in_flight": {"s": [WORKER]}}, {"in_flight": {"s": [None]}}, {"waiting": [ANNE]}]
)
def test_a_session_that_has_work_is_idle_no_more(work) -> None:
    for idle in (1, 99):
        session = replace(READY, idle_since=NOW - idle * SECOND)
        assert decided(session, view(), **work) == NoteBusy(session)


@pytest.mark.parametrize("age", [timedelta(hours=25), timedelta(seconds=3601)])
def test_a_session_has_a_greatest_age(age: timedelta) -> None:
    asked = 3600.0 if age < timedelta(hours=24) else 0.0
    old = replace(READY, created_at=NOW - age, max_age_seconds=asked, idle_since=None)
    assert end(EndReason.RECONCILE_STALE, decided(old, view(), in_flight={"s": [WORKER]}))
    assert not end(EndReason.RECONCILE_STALE, decided(replace(old, created_at=NOW - 3599 * SECOND), view()))


def test_a_worker_that_is_gone_is_replaced_once_and_then_the_session_ends() -> None:
    gone = view(WorkerHealth.GONE)
    for in_flight in ({}, {"s": [WORKER]}):
        assert decided(READY, gone, in_flight=in_flight) == ReplaceLostWorker(READY, "how it is")
        again = replace(READY, launches=2, lost=1)
        assert end(EndReason.WORKER_MISSING, decided(again, gone, in_flight=in_flight))


def test_a_new_build_replaces_the_worker_when_nothing_is_in_flight() -> None:
    seen = SessionsSnapshot(NOW, [READY], {}, (), [view()], "b2", NOW + SECOND)
    assert plan(seen) == [ReplaceWorker(READY, "another build is deployed: b2")]
    busy = replace(READY, idle_since=None)
    assert plan(replace(seen, sessions=[busy], in_flight={"s": [WORKER]})) == []
    assert plan(replace(seen, deployed_at=NOW - SECOND)) == [], "an earlier deployment leaves it alone"
    assert plan(replace(seen, build="b1")) == []
    lost_once = replace(READY, launches=3, lost=0)
    gone = [view(WorkerHealth.GONE)]
    assert plan(replace(seen, sessions=[lost_once], workers=gone)) == [
        ReplaceLostWorker(lost_once, "how it is")
    ], "what a deployment replaced was not lost"


def test_a_later_build_that_was_taken_back_leaves_no_session_that_nobody_uses() -> None:
    """Its owner's jobs waited, for up to a day, for a worker that only the later build would use."""
    of_later = replace(READY, idle_since=NOW - SECOND)
    seen = SessionsSnapshot(
        NOW, [of_later], {}, (), [view()], "b0", NOW - 60 * SECOND,
        silent_since={READY.reservation_id: NOW - 60 * SECOND},
    )  # fmt: skip
    assert plan(seen) == []

    def silent_for(seconds: int, **fields) -> Reservation:
        return replace(of_later, kept_at=NOW - seconds * SECOND, **fields)

    assert plan(replace(seen, sessions=[silent_for(170)])) == [], "its processes speak to it, and we do not"
    left = silent_for(181)
    assert plan(replace(seen, sessions=[left])) == [
        ReplaceWorker(left, "no process of its build spoke to it for 181 seconds")
    ]
    waiting = silent_for(181, idle_since=None)
    assert isinstance(plan(replace(seen, sessions=[waiting], waiting=[ANNE]))[0], ReplaceWorker)
    assert plan(replace(seen, sessions=[waiting], in_flight={"s": [WORKER]})) == [], "that goes on to its end"
    own = replace(seen, sessions=[left], build="b1")
    assert plan(own) == [SpeakTo(left)]


def test_silence_while_the_store_was_away_says_nothing_of_the_later_build() -> None:
    """Nobody could write that it spoke: the earlier build's first pass replaced a worker that was in use."""
    name = READY.reservation_id
    silent = replace(READY, kept_at=NOW - 200 * SECOND, idle_seconds=900.0)
    assert still_silent([replace(READY, kept_at=NOW - 170 * SECOND)], NOW, {}) == {}
    first = still_silent([silent], NOW, {})
    assert first == {name: NOW}
    seen = SessionsSnapshot(NOW, [silent], {}, (), [view()], "b0", NOW - 900 * SECOND, silent_since=first)
    assert plan(seen) == []
    for seconds, actions in ((59, 0), (60, 1)):
        now = NOW + seconds * SECOND
        since = still_silent([silent], now, first)
        assert since == first
        assert len(plan(replace(seen, now=now, silent_since=since))) == actions
    spoken_to = replace(silent, kept_at=NOW + SECOND)
    later = NOW + 300 * SECOND
    assert still_silent([spoken_to], later, first) == {name: later}, "silent again, which is another silence"


def test_an_unhealthy_worker_ends_an_idle_session_only() -> None:
    for health in (WorkerHealth.UNHEALTHY, WorkerHealth.DRAINING):
        assert end(EndReason.WORKER_UNHEALTHY, decided(READY, view(health)))
        assert decided(replace(READY, idle_since=None), view(health), in_flight={"s": [WORKER]}) is None


def test_not_seeing_a_worker_is_not_its_end_until_it_must_have_ended_itself() -> None:
    assert decided(READY) is None
    assert isinstance(decided(replace(READY, kept_at=NOW - 600 * SECOND)), SpeakTo)
    assert end(EndReason.RECONCILE_STALE, decided(replace(READY, kept_at=NOW - 700 * SECOND)))
    assert not end(EndReason.RECONCILE_STALE, decided(replace(READY, kept_at=NOW - 700 * SECOND), view()))


def test_a_launch_that_nobody_looks_after_is_stale() -> None:
    for state in (ReservationState.RESERVING, ReservationState.STARTING):
        launching = replace(STARTING, state=state)
        assert decided(replace(launching, kept_at=NOW - 60 * SECOND)) is None
        assert end(EndReason.RECONCILE_STALE, decided(replace(launching, kept_at=NOW - 61 * SECOND)))


def test_an_ending_session_waits_for_its_work_and_for_its_launch() -> None:
    assert decided(ENDING, view(), in_flight={"s": [WORKER]}) is None
    assert decided(ENDING, view()) == FinishEnding(ENDING)
    assert decided(ENDING, view(WorkerHealth.GONE), in_flight={"s": [WORKER]}) == FinishEnding(ENDING)
    launching = replace(ENDING, worker_id=None)
    assert decided(launching) is None, "who launches stops it"
    lost = replace(launching, kept_at=NOW - 61 * SECOND)
    assert decided(lost) == FinishEnding(lost)


def test_a_worker_is_spoken_to_once_a_minute() -> None:
    assert decided(replace(READY, kept_at=NOW - 59 * SECOND), view()) is None
    silent = replace(READY, kept_at=NOW - 60 * SECOND)
    assert decided(silent, view()) == SpeakTo(silent)


def test_no_edge_leads_out_of_the_end_or_back_from_ending() -> None:
    assert not [edge for edge in EDGES if edge[0] is ReservationState.ENDED]
    after = {target for source, target in EDGES if source is ReservationState.ENDING}
    assert after == {ReservationState.ENDED}
    with pytest.raises(ValueError, match="does not go"):
        ENDING.to(ReservationState.READY)


@pytest.mark.parametrize(
    ("reason", "tries"),
    [
        (Reason.SOURCE_INVALID, 1),
        (Reason.SOURCE_MISSING, 1),
        (Reason.TOOL_FAILED, 1),
        (Reason.SOURCE_UNAVAILABLE, 2),
        (Reason.STORE_UNAVAILABLE, 2),
        (Reason.WORKER_LOST, 3),
    ],
)
def test_outcomes_of_a_sessions_jobs_follow_a_table(reason: Reason, tries: int) -> None:
    assert [next_try(reason, ended) is not None for ended in range(1, 5)] == [n < tries for n in range(1, 5)]
    waits = [(next_try(reason, ended), ordinary_try(reason, ended)) for ended in range(1, tries)]
    assert all(mine == other for mine, other in waits)


# -- which job goes where ------------------------------------------------------------------------


def test_the_jobs_of_a_session_need_no_slot_and_no_room_in_the_running_limit() -> None:
    job = pending("j", "anne")
    seats = {ANNE: SessionSeat("s", ready=True)}
    seen = DispatchSnapshot(due=[], running={ANNE: 9}, slots=0, for_sessions=[job], seats=seats)
    assert plan_dispatch(seen, running_limit=1) == [LeaseJob(job, "s")]


def test_a_job_that_ran_out_of_memory_runs_outside() -> None:
    job = pending("j")
    assert not runs_outside(job)
    assert not runs_outside(replace(job, attempts=(AttemptRecord(1, reason=Reason.WORKER_LOST),)))
    assert runs_outside(replace(job, attempts=(AttemptRecord(1, reason=Reason.OUT_OF_MEMORY),)))
