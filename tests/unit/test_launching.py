"""A worker is launched for a job only when none that lives is free sooner, or the work is worth it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gooseherd.control.dispatcher import DispatchSnapshot, LeaseJob, SpareWorker, plan
from gooseherd.domain.formats import BAM
from gooseherd.domain.job import AttemptRecord, Job, JobId, Progress, Requester, WorkerId
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.launching import (
    WORK_PER_LAUNCH,
    Placement,
    Placements,
    Supply,
    WorkerForecast,
    forecasts,
    seconds_left,
    seconds_of_work,
)
from gooseherd.domain.ports.fleet import Capacity, LiveWorker
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.domain.states import Status
from gooseherd.domain.worker_size import WorkerSize

NOW = datetime(2026, 5, 4, tzinfo=UTC)
LAUNCH = 60.0
SMALL, LARGE = WorkerSize(1024, 2048, 21), WorkerSize(4096, 8192, 50)
SECOND = 50_000_000
"""Bytes that are about a second of work."""


def job(
    name: str,
    *,
    seconds: float = 1.0,
    priority: Priority = Priority.INTERACTIVE,
    waited: float = 0.0,
    worker: str | None = None,
    leased: float | None = None,
    percent: float = 0.0,
    session: str | None = None,
) -> Job:
    """Pending for `waited` seconds, or leased so many seconds ago."""
    asked = NOW - timedelta(seconds=waited)
    source = SourceFile(
        Dcc("t"),
        LocalId(name),
        "a.bam",
        BAM,
        "https://example.org/a.bam",
        md5="0" * 32,
        size_in_bytes=int(seconds * SECOND),
    )
    made = Job(
        JobId(name),
        WorkflowKey(name),
        source,
        Recipe("bam-index", "1", BAM),
        Status.PENDING,
        priority,
        (Requester("anne"),),
        asked,
        asked,
        asked,
        queued_for=Requester("anne"),
    )
    if leased is None:
        return made
    since = NOW - timedelta(seconds=leased)
    record = AttemptRecord(1, WorkerId(worker) if worker else None, since)
    return replace(
        made,
        status=Status.RUNNING,
        attempt=1,
        attempts=(record,),
        updated_at=since,
        progress=Progress(percent=percent),
        session_id=session,
    )


def supply(*workers: WorkerForecast, whole_queue: bool = True) -> Supply:
    return Supply(LAUNCH, workers, NOW, whole_queue)


def busy(seconds: float, size: WorkerSize = SMALL) -> WorkerForecast:
    return WorkerForecast(size, seconds)


def idle(
    name: str, seconds: float = 0.0, size: WorkerSize = SMALL, *, of_floor: bool = False
) -> WorkerForecast:
    worker = LiveWorker(WorkerId(name), size, ready=True, idle_seconds=seconds)
    return WorkerForecast(size, 0.0, worker, of_floor)


# -- which job gets what ---------------------------------------------------------------------------


def test_a_job_gets_a_worker_that_is_idle() -> None:
    assert Placements(supply(idle("a"))).place(job("1"), SMALL) is Placement.RUN


def test_a_worker_is_launched_when_none_suits() -> None:
    assert Placements(supply(busy(1))).place(job("1"), LARGE) is Placement.LAUNCH


def test_a_click_waits_for_a_worker_that_is_free_sooner_than_a_launched_one() -> None:
    assert Placements(supply(busy(LAUNCH - 1))).place(job("1"), SMALL) is Placement.WAIT


def test_a_click_gets_a_launch_when_that_is_sooner() -> None:
    assert Placements(supply(busy(LAUNCH + 1))).place(job("1"), SMALL) is Placement.LAUNCH


def test_a_click_that_has_waited_waits_no_longer_than_for_a_launch_in_all() -> None:
    placements = Placements(supply(busy(LAUNCH / 2)))
    assert placements.place(job("1", waited=LAUNCH * 0.6), SMALL) is Placement.LAUNCH


def test_who_waits_for_a_worker_is_counted_by_who_comes_next() -> None:
    placements = Placements(supply(busy(20)))
    assert placements.place(job("1", seconds=30), SMALL) is Placement.WAIT
    assert placements.place(job("2", seconds=30), SMALL) is Placement.WAIT
    assert placements.place(job("3"), SMALL) is Placement.LAUNCH
    assert placements.place(job("4"), SMALL) is Placement.LAUNCH, "the one that starts is not free in time"


def test_a_batch_gets_as_many_launches_as_its_work_is_worth() -> None:
    placements = Placements(supply())
    batch = [job(str(number), seconds=30, priority=Priority.BATCH) for number in range(100)]
    launched = [placements.place(one, SMALL) for one in batch].count(Placement.LAUNCH)
    assert launched == pytest.approx(100 * 30 / (WORK_PER_LAUNCH * LAUNCH), abs=1)


def test_a_batch_of_which_not_all_is_seen_gets_no_launch_if_a_worker_suits() -> None:
    many = busy(2 * WORK_PER_LAUNCH * LAUNCH)
    batch = job("1", priority=Priority.BATCH)
    assert Placements(supply(many, whole_queue=False)).place(batch, SMALL) is Placement.WAIT
    assert Placements(supply(many)).place(batch, SMALL) is Placement.LAUNCH


def test_the_floor_is_for_those_who_wait() -> None:
    placements = Placements(supply(WorkerForecast(SMALL, 0.0, of_floor=True)))
    assert placements.place(job("1", priority=Priority.BATCH), SMALL) is Placement.LAUNCH
    assert placements.place(job("2"), SMALL) is Placement.RUN


# -- which idle workers may end --------------------------------------------------------------------


def test_of_idle_workers_that_nobody_needs_one_is_kept_and_the_others_end_after_a_while() -> None:
    assert Placements(supply(idle("a", 60), idle("b", 60), idle("c", 1))).spare() == [
        (WorkerId("c"), False),
        (WorkerId("a"), True),
        (WorkerId("b"), True),
    ]


def test_none_is_kept_beside_a_floor_that_has_some() -> None:
    floor = WorkerForecast(SMALL, 0.0, of_floor=True)
    assert Placements(supply(floor, idle("a", 60))).spare() == [(WorkerId("a"), True)]


def test_a_worker_that_a_job_is_given_to_does_not_end() -> None:
    placements = Placements(supply(idle("a", 60), idle("b", 60, LARGE)))
    placements.place(job("1"), LARGE)
    assert placements.spare() == [(WorkerId("a"), False)]


# -- what is known of workers ----------------------------------------------------------------------


def live(name: str, *, size: WorkerSize = SMALL, **more: object) -> LiveWorker:
    return LiveWorker(WorkerId(name), size, **{"ready": True, "ready_seconds": 1e9, **more})  # type: ignore[arg-type]


def forecast(at_work: list[Job], *workers: LiveWorker, **more: object) -> list[tuple[float, bool]]:
    capacity = Capacity(LAUNCH, workers, **more)  # type: ignore[arg-type]
    found = forecasts(capacity, at_work, NOW, lambda _: SMALL)
    return [(round(one.free_in, 1), one.idle is not None) for one in found]


def test_a_busy_worker_is_free_when_its_work_is_done() -> None:
    assert forecast([job("1", seconds=30, worker="w", leased=10)], live("w")) == [(20.4, False)]


def test_the_start_of_a_worker_is_no_work() -> None:
    assert forecast([job("1", seconds=30, worker="w", leased=60)], live("w", ready_seconds=10.0)) == [
        (20.4, False)
    ]


def test_work_that_takes_longer_than_was_thought_is_measured_by_its_progress() -> None:
    assert seconds_left(job("1", seconds=1, leased=0, percent=25.0), 30.0) == pytest.approx(90.0)
    assert seconds_left(job("1", seconds=1, leased=0), 30.0) == pytest.approx(30.0)


def test_a_launch_under_way_is_a_worker_that_is_free_after_its_job() -> None:
    launching = job("1", seconds=10, leased=20)
    assert forecast([launching], launching={"1.1"}) == [(LAUNCH - 20 + 10.4, False)]


def test_a_job_that_was_just_leased_will_take_an_idle_worker() -> None:
    assert forecast([job("1", seconds=10, leased=0)], live("w", idle_seconds=3.0)) == [(10.4, False)]


def test_the_worker_of_a_session_is_for_nobody_else() -> None:
    at_work = [job("1", worker="w", leased=1, session="s")]
    assert forecast(at_work, live("w"), live("v", launched_for="session-1.1")) == []


def test_a_worker_of_the_floor_is_free_and_another_processs_idle_one_is_soon() -> None:
    assert forecast([], live("f", of_floor=True), live("o", launched_for="9.1")) == [
        (0.0, False),
        (5.0, False),
    ]


def test_an_idle_worker_that_the_floor_lacks_is_kept_from_batches() -> None:
    capacity = Capacity(LAUNCH, [live("w", idle_seconds=3.0)], floor_wants=1, floor_size=SMALL)
    placements = Placements(supply(*forecasts(capacity, [], NOW, lambda _: SMALL)))
    assert placements.place(job("1", priority=Priority.BATCH), SMALL) is Placement.LAUNCH
    assert placements.spare() == [(WorkerId("w"), False)]


def test_a_source_of_unknown_size_is_some_work() -> None:
    assert seconds_of_work(None) > seconds_of_work(0) > 0


# -- the dispatcher's plan -------------------------------------------------------------------------


def test_the_dispatcher_leaves_a_job_that_waits_in_the_queue_and_goes_on_to_the_next() -> None:
    waiting, next_one = job("1"), job("2")
    seen = DispatchSnapshot(
        due=[waiting, next_one],
        running={},
        slots=3,
        supply=supply(busy(5, LARGE), idle("a", 60), idle("b", 60)),
        sizes={waiting.job_id: LARGE, next_one.job_id: SMALL},
    )
    assert plan(seen, running_limit=3) == [LeaseJob(next_one), SpareWorker(WorkerId("b"), end=False)]
