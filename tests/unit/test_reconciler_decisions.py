"""What the reconciler decides from what it sees: a row of its table each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gooseherd.control.reconciler import (
    Action,
    Cause,
    FleetSnapshot,
    ReconcilerLimits,
    ShortenLease,
    StopWorker,
    decide,
)
from gooseherd.domain import formats
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import AttemptRecord, Fence, Job, JobId, Lease, Owner, Requester, WorkerId
from gooseherd.domain.keys import Recipe, workflow_key
from gooseherd.domain.ports.fleet import WorkerHealth, WorkerView
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import Status

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIMITS = ReconcilerLimits(
    birth_grace=timedelta(minutes=1),
    orphan_grace=timedelta(minutes=5),
    max_lifetime=timedelta(hours=12),
    observation_gap=timedelta(seconds=15),
)
SOURCE = SourceFile.from_json(
    {"dcc": "d", "local_id": "x", "access_url": "https://example.org/x.bam", "md5": "0" * 32}
)
RECIPE = Recipe("bam-index", "1", formats.BAM)
W = WorkerId("w1")


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def worker(
    name: str = W,
    health: WorkerHealth = WorkerHealth.HEALTHY,
    *,
    age: timedelta = timedelta(hours=1),
    **more: Any,
) -> WorkerView:
    given: dict[str, Any] = {"launched_for": "j.1", "stoppable": health is not WorkerHealth.GONE, **more}
    return WorkerView(WorkerId(name), health, (NOW - age).timestamp(), **given)


def job(
    status: Status = Status.RUNNING,
    *,
    name: str = "j",
    on: str | None = W,
    number: int = 1,
    past: tuple[AttemptRecord, ...] = (),
    lease: timedelta | None = timedelta(minutes=10),
) -> Job:
    open_attempt = (AttemptRecord(number, WorkerId(on) if on else None, ago(hours=1)),)
    return Job(
        job_id=JobId(name),
        workflow_key=workflow_key(SOURCE.identity, RECIPE),
        source=SOURCE,
        recipe=RECIPE,
        status=status,
        priority=Priority.NORMAL,
        requesters=(Requester("a"),),
        created_at=ago(hours=2),
        enqueued_at=ago(hours=2),
        updated_at=ago(seconds=1),
        attempt=number,
        fence=Fence(3),
        lease=Lease(Owner("o"), NOW + lease) if lease is not None else None,
        attempts=past + (open_attempt if status in (Status.RUNNING, Status.FINALIZING) else ()),
    )


def ended(number: int = 1, *, on: str | None = W, at: datetime) -> AttemptRecord:
    return AttemptRecord(
        number, WorkerId(on) if on else None, ago(hours=1), at, Reason.WORKER_LOST, "it went away"
    )


def acts(
    *workers: WorkerView,
    jobs: tuple[Job, ...] = (),
    followed: tuple[str, ...] = (),
    limits: ReconcilerLimits = LIMITS,
) -> list[Action]:
    """What is done when the same was seen for a minute."""
    seen = FleetSnapshot(NOW, workers, jobs, frozenset(JobId(name) for name in followed))
    first = decide(replace(seen, now=NOW), {}, limits)
    assert first.actions == ()
    since = dict.fromkeys(first.suspicions, ago(minutes=1))
    return list(decide(seen, since, limits).actions)


def stopped(actions: Sequence[Action]) -> list[StopWorker]:
    found = [action for action in actions if isinstance(action, StopWorker)]
    assert len(found) == len(actions)
    return found


def stops(*workers: WorkerView, **estate: Any) -> list[tuple[str, Cause]]:
    return [(action.worker.worker_id, action.cause) for action in stopped(acts(*workers, **estate))]


OVER = job(Status.FAILED, past=(ended(at=ago(minutes=6)),))
MOVED_ON = job(Status.RUNNING, on="w2", number=2, past=(ended(at=ago(minutes=6)),))
RETURNED = job(Status.PENDING, past=(ended(on=None, at=ago(minutes=6)),), lease=None)


@pytest.mark.parametrize(
    "jobs", [(), (OVER,), (MOVED_ON,), (RETURNED,)], ids=["unknown-job", "over", "moved-on", "returned"]
)
def test_a_worker_whose_job_is_no_longer_its_own_is_an_orphan(jobs) -> None:
    assert stops(worker(), jobs=jobs) == [(W, Cause.ORPHAN)]
    assert stops(worker(health=WorkerHealth.STARTING), jobs=jobs) == [(W, Cause.ORPHAN)]


def test_an_orphan_s_end_says_for_what_it_was_launched_and_since_when_nobody_needs_it() -> None:
    [stop] = stopped(acts(worker(), jobs=(OVER,)))
    assert stop.why == "no job named it for 360 s, launched for j.1"


@pytest.mark.parametrize(
    "health", [WorkerHealth.STARTING, WorkerHealth.HEALTHY, WorkerHealth.UNHEALTHY, WorkerHealth.DRAINING]
)
@pytest.mark.parametrize(
    "user",
    [
        job(),
        job(Status.FINALIZING),
        job(name="other"),
        job(on=None),
        job(lease=timedelta(hours=-3)),
        job(lease=None),
        job(name="k", number=7, on=None),
    ],
    ids=[
        "running-on-it",
        "finalizing",
        "warm-taken",
        "launched-for-it",
        "stale-lease",
        "handed-over",
        "taken-here",
    ],
)
def test_what_a_job_at_work_names_is_left_alone_whatever_it_looks_like(health, user) -> None:
    assert acts(worker(health=health, age=timedelta(days=9), attempt="k.7"), jobs=(user,)) == []


def test_a_young_worker_and_one_of_unknown_age_are_invisible() -> None:
    for health in (WorkerHealth.STARTING, WorkerHealth.UNHEALTHY):
        assert acts(worker(health=health, age=timedelta(seconds=59))) == []
        assert acts(replace(worker(health=health), started_at=0.0)) == []


def test_one_that_was_told_to_end_is_not_told_again() -> None:
    assert acts(worker(health=WorkerHealth.DRAINING, age=timedelta(days=9), stoppable=False)) == []


def test_a_worker_that_may_be_warm_elsewhere_is_left_until_the_grace_is_over() -> None:
    for reused in (job(Status.COMPLETED, name="other", past=(ended(at=ago(minutes=4)),)),):
        assert acts(worker(), jobs=(OVER, reused)) == []
    assert acts(worker(age=timedelta(minutes=4))) == []


def test_a_job_that_goes_on_elsewhere_does_not_keep_its_old_worker() -> None:
    lately = replace(MOVED_ON, updated_at=NOW)
    assert stops(worker(), jobs=(lately,)) == [(W, Cause.ORPHAN)]


def test_a_worker_that_is_warm_here_is_left_to_its_idle_timeout() -> None:
    assert acts(worker(warm=True), jobs=(OVER,)) == []


def test_an_unhealthy_worker_without_a_job_is_stopped_without_the_orphan_grace() -> None:
    unhealthy = worker(health=WorkerHealth.UNHEALTHY, age=timedelta(minutes=2))
    assert stops(unhealthy) == [(W, Cause.UNHEALTHY)]
    assert stops(replace(unhealthy, warm=True)) == [(W, Cause.UNHEALTHY)]


def test_a_worker_past_its_lifetime_is_stopped_when_no_job_uses_it() -> None:
    old = worker(age=timedelta(hours=12, minutes=2), warm=True)
    assert stops(old) == [(W, Cause.OVERDUE)]
    assert acts(replace(old, started_at=ago(hours=12, seconds=30).timestamp())) == []
    assert acts(old, limits=replace(LIMITS, max_lifetime=None)) == []


def test_once_is_not_enough_and_neither_is_twice_at_once() -> None:
    seen = FleetSnapshot(NOW, [worker()], [])
    first = decide(seen, {}, LIMITS)
    assert (first.actions, len(first.suspicions)) == ((), 1)
    soon = decide(replace(seen, now=NOW + timedelta(seconds=14)), first.suspicions, LIMITS)
    assert (soon.actions, soon.suspicions) == ((), first.suspicions)
    assert decide(replace(seen, now=NOW + timedelta(seconds=15)), soon.suspicions, LIMITS).actions


def test_what_is_not_seen_any_more_is_forgotten() -> None:
    suspicious = decide(FleetSnapshot(NOW, [worker()], []), {}, LIMITS).suspicions
    later = decide(FleetSnapshot(NOW, [worker()], [job()]), suspicious, LIMITS)
    assert later.suspicions == {}


def test_at_most_a_fifth_of_the_live_are_stopped_the_oldest_first_and_the_rest_is_told() -> None:
    orphans = [worker(f"o{n}", age=timedelta(hours=1 + n)) for n in range(4)]
    busy = [worker(f"b{n}", launched_for=f"b{n}.1") for n in range(6)]
    ended_ones = [worker(f"g{n}", WorkerHealth.GONE) for n in range(40)]
    jobs = [job(name=f"b{n}", on=f"b{n}") for n in range(6)]
    seen = FleetSnapshot(NOW, [*orphans, *busy, *ended_ones], jobs)
    since = dict.fromkeys(decide(seen, {}, LIMITS).suspicions, ago(minutes=1))
    decision = decide(seen, since, LIMITS)
    assert [action.worker.worker_id for action in stopped(decision.actions)] == ["o3", "o2"]
    assert decision.held_back == 2
    assert len(decision.suspicions) == 4


def test_of_few_workers_one_may_be_stopped() -> None:
    assert len(stops(worker("a"), worker("b"))) == 1


# -- jobs whose worker ended -----------------------------------------------------------------

GONE = worker(health=WorkerHealth.GONE, detail="it was killed")


def test_a_job_whose_worker_ended_gets_a_shorter_lease_with_the_diagnosis() -> None:
    assert acts(GONE, jobs=(job(),)) == [ShortenLease(JobId("j"), Fence(3), W, "it was killed")]


def test_a_worker_that_ended_before_it_was_assigned_shortens_the_lease_too() -> None:
    assert acts(GONE, jobs=(job(on=None),)) == [ShortenLease(JobId("j"), Fence(3), None, "it was killed")]


def test_not_when_the_attempt_has_another_worker() -> None:
    assert acts(GONE, jobs=(job(on="w2"),)) == []
    assert acts(GONE, worker("w2", WorkerHealth.STARTING), jobs=(job(on=None),)) == []


@pytest.mark.parametrize(
    "other",
    [job(Status.FINALIZING), job(lease=timedelta(0)), job(lease=None), OVER, MOVED_ON, RETURNED],
    ids=["live-finalizer", "lease-run-out", "handed-over", "over", "moved-on", "returned"],
)
def test_an_ended_worker_changes_nothing_for_any_other_job(other) -> None:
    assert acts(GONE, jobs=(other,)) == []


def test_a_job_that_this_process_follows_is_left_to_it() -> None:
    assert acts(GONE, jobs=(job(),), followed=("j",)) == []


def test_a_job_whose_worker_is_not_seen_is_left_alone() -> None:
    assert acts(jobs=(job(),)) == []


def test_a_new_holder_is_suspected_anew() -> None:
    suspicious = decide(FleetSnapshot(NOW, [GONE], [job()]), {}, LIMITS).suspicions
    adopted = replace(job(), fence=Fence(4))
    later = decide(FleetSnapshot(NOW + timedelta(minutes=1), [GONE], [adopted]), suspicious, LIMITS)
    assert later.actions == ()
