"""The deciding parts of the control loops, which do no I/O."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gooseherd.control import dispatcher, reaper
from gooseherd.control.dispatcher import DispatchSnapshot, LeaseJob, StopJob
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.reaper import AdoptJob, EndJob, ExpireQueue, JobsSnapshot, LeaveJob, ReaperLimits
from gooseherd.domain import formats
from gooseherd.domain.failures import MAX_BACKOFF, RETRY, Reason, next_try, retryable
from gooseherd.domain.job import AttemptRecord, Fence, Job, JobId, Lease, Owner, Requester
from gooseherd.domain.keys import Recipe, workflow_key
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import ACTIVE, EDGES, TERMINAL, Status, may

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = SourceFile.from_json(
    {"dcc": "d", "local_id": "x", "access_url": "https://example.org/x.bam", "md5": "0" * 32}
)
RECIPE = Recipe("bam-index", "1", formats.BAM)
PENDING = Job(
    job_id=JobId("j"),
    workflow_key=workflow_key(SOURCE.identity, RECIPE),
    source=SOURCE,
    recipe=RECIPE,
    status=Status.PENDING,
    priority=Priority.NORMAL,
    requesters=(Requester("a"),),
    queued_for=Requester("a"),
    created_at=NOW,
    enqueued_at=NOW,
    updated_at=NOW,
)


def pending(job_id: str, requester: str = "a") -> Job:
    who = Requester(requester)
    return replace(PENDING, job_id=JobId(job_id), requesters=(who,), queued_for=who)


def started(
    job_id: str, status: Status, *, stale: timedelta | None, age: timedelta = timedelta(minutes=20)
) -> Job:
    lease = None if stale is None else Lease(Owner("o"), NOW - stale)
    return replace(
        PENDING,
        job_id=JobId(job_id),
        status=status,
        fence=Fence(3),
        attempt=1,
        lease=lease,
        started_at=NOW - age,
    )


# -- dispatcher ----------------------------------------------------------------------------


def test_jobs_are_leased_in_queue_order_as_far_as_workers_go() -> None:
    seen = DispatchSnapshot(due=[pending("1"), pending("2"), pending("3")], running={}, slots=2)
    assert dispatcher.plan(seen, running_limit=9) == [LeaseJob(pending("1")), LeaseJob(pending("2"))]


def test_a_requester_at_the_limit_is_skipped_and_blocks_nobody() -> None:
    due = [pending("1", "a"), pending("2", "a"), pending("3", "b")]
    seen = DispatchSnapshot(due=due, running={Requester("a"): 1}, slots=5)
    assert dispatcher.plan(seen, running_limit=2) == [LeaseJob(due[0]), LeaseJob(due[2])]


def test_a_cancelled_job_is_stopped_even_when_nothing_can_be_leased() -> None:
    seen = DispatchSnapshot(due=[pending("1")], running={}, slots=0, unwanted=[JobId("9")])
    assert dispatcher.plan(seen, running_limit=2) == [StopJob(JobId("9"))]


# -- reaper --------------------------------------------------------------------------------

LIMITS = ReaperLimits(
    finalize_grace=timedelta(minutes=5), hard_ceiling=timedelta(hours=24), queue_ttl=timedelta(hours=24)
)


def decide(job: Job, *, finalizing_here: bool = False) -> Sequence[object]:
    marker = {job.job_id: 1.0} if finalizing_here else {}
    first, *rest = reaper.plan(JobsSnapshot(NOW, [job], marker), LIMITS)
    assert first == ExpireQueue(NOW - LIMITS.queue_ttl)
    return rest


def test_a_live_finalizer_is_left_alone() -> None:
    job = started("j", Status.FINALIZING, stale=timedelta(hours=3))
    assert decide(job, finalizing_here=True) == [LeaveJob(job.job_id)]


def test_a_dead_finalizer_is_replaced_after_the_grace_and_not_before() -> None:
    fresh = started("j", Status.FINALIZING, stale=timedelta(minutes=4))
    stale = started("j", Status.FINALIZING, stale=timedelta(minutes=6))
    assert decide(fresh) == []
    assert decide(stale) == [AdoptJob(stale.job_id, stale.fence)]


def test_a_finalizer_that_let_go_is_replaced_at_once() -> None:
    job = started("j", Status.FINALIZING, stale=None)
    assert decide(job) == [AdoptJob(job.job_id, job.fence)]


def test_a_running_job_whose_lease_ran_out_is_adopted_at_once() -> None:
    job = started("j", Status.RUNNING, stale=timedelta(seconds=1))
    assert decide(job) == [AdoptJob(job.job_id, job.fence)]


@pytest.mark.parametrize("marked", [True, False])
def test_the_hard_ceiling_ends_a_job_whatever_the_marker_says(marked: bool) -> None:
    job = started("j", Status.FINALIZING, stale=timedelta(hours=1), age=timedelta(hours=25))
    assert decide(job, finalizing_here=marked) == [EndJob(job.job_id, job.fence)]


def test_the_hard_ceiling_counts_from_the_begin_of_the_attempt_and_not_of_the_first_one() -> None:
    job = started("j", Status.RUNNING, stale=timedelta(seconds=1), age=timedelta(hours=25))
    first = AttemptRecord(1, started_at=NOW - timedelta(hours=25), ended_at=NOW, reason=Reason.WORKER_DRAINED)
    second = AttemptRecord(2, started_at=NOW - timedelta(hours=1))
    assert decide(replace(job, attempt=2, attempts=(first, second))) == [AdoptJob(job.job_id, job.fence)]
    old = replace(second, started_at=NOW - timedelta(hours=24, seconds=1))
    assert decide(replace(job, attempt=2, attempts=(first, old))) == [EndJob(job.job_id, job.fence)]


# -- finalizers ----------------------------------------------------------------------------


def test_marking_and_clearing_never_raise_and_none_is_a_no_op() -> None:
    registry = Finalizers()
    registry.mark(None)
    registry.clear(None)
    registry.clear(JobId("never marked"))
    assert not registry.is_active(None)
    assert registry.snapshot() == {}


def test_a_marked_job_is_active_until_cleared_also_after_an_error() -> None:
    registry = Finalizers()
    with pytest.raises(RuntimeError), registry.finalizing(JobId("j")):
        assert registry.is_active(JobId("j"))
        assert set(registry.snapshot()) == {JobId("j")}
        raise RuntimeError
    assert not registry.is_active(JobId("j"))


def test_the_kill_switch_hides_finalizers_from_the_reaper_alone() -> None:
    registry = Finalizers(enabled=False)
    registry.mark(JobId("j"))
    assert not registry.is_active(JobId("j"))
    assert registry.left_alone() == {}
    assert set(registry.snapshot()) == {JobId("j")}, "they are shown, and waited for at the end"
    assert set(Finalizers().left_alone()) == set()


# -- retry matrix and states ---------------------------------------------------------------


def test_final_reasons_are_never_tried_again() -> None:
    for reason in (Reason.SOURCE_INVALID, Reason.CANCELLED, Reason.MISCONFIGURED, Reason.DEADLINE_EXCEEDED):
        assert next_try(reason, 1) is None
        assert not retryable(reason)


def test_retryable_reasons_are_tried_as_often_as_the_table_says_and_waits_grow() -> None:
    for reason, rule in RETRY.items():
        waits = []
        made = 1
        while made < 100 and (again := next_try(reason, made)) is not None:
            waits.append(again.delay)
            made += 1
        assert made == (rule.tries or 100)
        assert waits == sorted(waits)
        assert all(wait <= MAX_BACKOFF for wait in waits)


def test_nothing_leads_out_of_a_terminal_state() -> None:
    assert not any(source in TERMINAL for source, _ in EDGES)
    assert {source for source, _ in EDGES} == ACTIVE


def test_finalizing_cannot_be_cancelled() -> None:
    assert not may(Status.FINALIZING, Status.CANCELLED)
    assert may(Status.RUNNING, Status.CANCELLED)
