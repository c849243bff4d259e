"""What every JobStore promises, asked of each of the real ones."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind, Part
from gooseherd.domain.errors import (
    InvalidInput,
    LeaseLost,
    NewerJob,
    NotCancellable,
    NotFound,
    StillWanted,
    StoreUnavailable,
)
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import (
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
from gooseherd.domain.keys import CacheKey, Recipe, WorkflowKey
from gooseherd.domain.ports.store import JobQuery, JobStore
from gooseherd.domain.queueing import COST_MILLISECONDS, OFFSETS, Priority, next_rank
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.domain.states import Status
from gooseherd.domain.waiting import QueueDepth
from gooseherd.store.mongo.connect import connect
from gooseherd.store.mongo.jobs import MongoJobs

if TYPE_CHECKING:
    from tests.conftest import StoreUnderTest

pytestmark = pytest.mark.integration

LONG = timedelta(hours=1)
OVER = timedelta(0)
"""A lease that has run out when it is given: no test waits for a clock."""
AT_ONCE = timedelta(0)

ANNE, BERT = Requester("anne"), Requester("bert")
HERE, THERE = Owner("here"), Owner("there")
LOST = Failure(Reason.WORKER_LOST, "the worker went away")
BROKEN = Failure(Reason.SOURCE_INVALID, "not a BAM")
DIGEST = "d" * 64
DATA = Part(Kind.DATA, CacheKey("a/b/sorted.bam"), 10, "0" * 64, "sorted.bam")
INDEX = Part(Kind.INDEX, CacheKey("a/b/sorted.bam.bai"), 3, "1" * 64, "sorted.bam.bai")
SECOND_END = Part(Kind.SECOND_END, CacheKey("a/b/second-end"), 9, "2" * 64, "x.second-end.bedpe.gz")

_number = itertools.count()


def submission(
    key: str = "key",
    *,
    job_id: str | None = None,
    requester: Requester = ANNE,
    priority: Priority = Priority.NORMAL,
    local_id: str = "f1",
    source: SourceFile | None = None,
) -> Submission:
    source = source or SourceFile(
        dcc=Dcc("4dn"),
        local_id=LocalId(local_id),
        filename="reads.bam",
        file_format=formats.BAM,
        access_url="https://example.org/reads.bam",
        md5="0" * 32,
    )
    return Submission(
        job_id=JobId(job_id or f"job-{next(_number):04}"),
        workflow_key=WorkflowKey(key),
        source=source,
        recipe=Recipe("bam", "1", formats.BAM),
        priority=priority,
        requester=requester,
    )


@pytest.fixture
def jobs(store: StoreUnderTest) -> JobStore:
    return store.jobs


async def claimed(jobs: JobStore, key: str = "key", **kwargs: object) -> Job:
    claim = await jobs.claim_workflow(submission(key, **kwargs))  # type: ignore[arg-type]
    assert claim.created
    return claim.job


async def leased(jobs: JobStore, key: str = "key", ttl: timedelta = LONG, **kwargs: object) -> Job:
    job = await claimed(jobs, key, **kwargs)
    held = await jobs.lease(job, HERE, ttl)
    assert held is not None
    return held


async def finalizing(jobs: JobStore, key: str = "key", ttl: timedelta = LONG) -> Job:
    job = await leased(jobs, key, ttl)
    await jobs.begin_finalize(job.job_id, job.fence)
    return await there(jobs, job)


async def there(jobs: JobStore, job: Job) -> Job:
    found = await jobs.get(job.job_id)
    assert found is not None
    return found


# -- the mutex -----------------------------------------------------------------------------


async def test_a_claimed_job_is_pending_and_reads_back_equal(jobs):
    wanted = submission()
    claim = await jobs.claim_workflow(wanted)
    job = claim.job
    assert claim.created
    assert (job.status, job.attempt, job.fence, job.lease) == (Status.PENDING, 0, 0, None)
    assert (job.source, job.recipe, job.requesters) == (wanted.source, wanted.recipe, (ANNE,))
    assert job.created_at.tzinfo is UTC
    assert job.not_before is None
    assert await there(jobs, job) == job


async def test_a_job_keeps_the_trace_it_was_asked_for_in_whoever_attaches_and_through_its_attempts(jobs):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    claim = await jobs.claim_workflow(replace(submission(), traceparent=trace))
    assert claim.job.traceparent == trace
    other = trace.replace("4bf9", "aaaa")
    attached = await jobs.claim_workflow(replace(submission(requester=BERT), traceparent=other))
    assert attached.job.traceparent == trace
    held = await jobs.lease(claim.job, HERE, LONG)
    assert held is not None
    await jobs.requeue(held.job_id, held.fence, LOST, AT_ONCE)
    again = await there(jobs, held)
    assert (again.traceparent, again.recipe) == (trace, claim.job.recipe)


async def test_a_second_claim_attaches_to_the_live_job(jobs):
    first = await claimed(jobs)
    claim = await jobs.claim_workflow(submission(requester=BERT))
    assert not claim.created
    assert claim.job.job_id == first.job_id
    assert claim.job.requesters == (ANNE, BERT)


async def test_a_more_urgent_claim_raises_the_priority_and_a_lesser_one_does_not_lower_it(jobs):
    ahead = await claimed(jobs, "other", priority=Priority.NORMAL)
    await claimed(jobs, priority=Priority.BATCH)
    job = (await jobs.claim_workflow(submission(priority=Priority.INTERACTIVE))).job
    assert job.priority is Priority.INTERACTIVE
    assert (
        await jobs.claim_workflow(submission(priority=Priority.BATCH))
    ).job.priority is Priority.INTERACTIVE
    assert [j.job_id for j in await jobs.due(9)] == [job.job_id, ahead.job_id]


async def test_attaching_to_nothing_tells_so(jobs):
    assert await jobs.attach(WorkflowKey("none"), ANNE, Priority.NORMAL) is None


async def test_an_ended_job_frees_its_key(jobs):
    job = await leased(jobs)
    await jobs.release_workflow(job.job_id, job.fence, Status.FAILED, BROKEN)
    again = await claimed(jobs)
    assert again.job_id != job.job_id
    assert (await jobs.latest(job.workflow_key)).job_id == again.job_id


async def test_the_newest_job_of_a_key_is_found_ended_or_not(jobs):
    job = await leased(jobs)
    await jobs.release_workflow(job.job_id, job.fence, Status.FAILED, BROKEN)
    assert (await jobs.latest(job.workflow_key)).status is Status.FAILED
    assert await jobs.latest(WorkflowKey("none")) is None


async def test_the_newest_job_of_each_of_many_keys_is_found_at_once(jobs):
    old = await leased(jobs, "one")
    await jobs.release_workflow(old.job_id, old.fence, Status.FAILED, BROKEN)
    one, two = await claimed(jobs, "one"), await leased(jobs, "two")
    await claimed(jobs, "three")
    keys = [WorkflowKey(name) for name in ("one", "two", "none", *(f"no {n}" for n in range(900)))]
    assert await jobs.latest_of(keys) == {"one": await there(jobs, one), "two": await there(jobs, two)}
    assert await jobs.latest_of([]) == {}


async def test_a_taken_job_id_is_not_mistaken_for_the_mutex(jobs):
    taken = await claimed(jobs, "one")
    with pytest.raises(InvalidInput, match="job_id"):
        await jobs.claim_workflow(submission("two", job_id=taken.job_id))
    assert await jobs.latest(WorkflowKey("two")) is None
    assert await there(jobs, taken) == taken


async def test_claiming_twice_with_one_submission_makes_one_job_and_owns_up_to_it(jobs):
    wanted = submission()
    first = await jobs.claim_workflow(wanted)
    assert await jobs.claim_workflow(wanted) == first


async def test_a_claim_by_who_has_not_seen_the_newest_job_is_refused_and_inserts_nothing(jobs):
    first = await leased(jobs, "k")
    await jobs.release_workflow(first.job_id, first.fence, Status.FAILED, BROKEN)
    refused = submission("k", requester=BERT)
    with pytest.raises(NewerJob):
        await jobs.claim_workflow(refused, newest=NewestSeen(None))
    assert await jobs.get(refused.job_id) is None
    assert (await jobs.latest(WorkflowKey("k"))).job_id == first.job_id
    assert await jobs.pending_of(BERT, 9) == 0
    claim = await jobs.claim_workflow(refused, newest=NewestSeen(first.job_id))
    assert claim.created
    # Nothing is newer than what is active: that is attached to, whatever was seen.
    attached = await jobs.claim_workflow(submission("k"), newest=NewestSeen(None))
    assert (attached.job.job_id, attached.created) == (refused.job_id, False)


async def test_a_claim_whose_answer_was_lost_is_found_again_whatever_was_newest_before_it(jobs):
    wanted = submission("k")
    first = await jobs.claim_workflow(wanted, newest=NewestSeen(None))
    assert await jobs.claim_workflow(wanted, newest=NewestSeen(None)) == first


async def test_of_fifty_concurrent_claims_one_makes_the_job(jobs):
    claims = await asyncio.gather(
        *(jobs.claim_workflow(submission(requester=Requester(f"r{n}"))) for n in range(50))
    )
    assert sum(claim.created for claim in claims) == 1
    assert len({claim.job.job_id for claim in claims}) == 1
    assert len((await there(jobs, claims[0].job)).requesters) == 50


async def test_a_job_that_was_to_be_cancelled_is_wanted_again_when_somebody_joins(jobs):
    job = await leased(jobs)
    await jobs.request_cancel(job.job_id, ANNE)
    await jobs.attach(job.workflow_key, BERT, Priority.NORMAL)
    assert (await jobs.renew(job.job_id, job.fence, LONG)).wanted
    assert (await there(jobs, job)).requesters == (BERT,)


# -- leases --------------------------------------------------------------------------------


async def test_leasing_opens_an_attempt(jobs):
    job = await claimed(jobs)
    held = await jobs.lease(job, HERE, LONG)
    assert (held.status, held.fence, held.attempt, held.lease.owner) == (Status.RUNNING, 1, 1, HERE)
    assert held.started_at is not None
    assert held.lease.expires_at >= held.started_at + LONG
    assert held.current_attempt.started_at is not None
    assert held.current_attempt.reason is None
    assert [j.job_id for j in await jobs.owned(HERE)] == [job.job_id]
    assert await jobs.owned(THERE) == []
    assert await jobs.due(9) == []


async def test_of_many_that_want_a_lease_one_gets_it_even_under_one_name(jobs):
    job = await claimed(jobs)
    got = await asyncio.gather(*(jobs.lease(job, HERE, LONG) for _ in range(8)))
    assert sum(held is not None for held in got) == 1
    assert (await there(jobs, job)).fence == 1


async def test_an_unknown_job_cannot_be_leased(jobs):
    job = await claimed(jobs)
    assert await jobs.lease(replace(job, job_id=JobId("none")), HERE, LONG) is None


async def test_a_job_that_somebody_has_had_since_it_was_seen_cannot_be_leased(jobs):
    seen = await claimed(jobs)
    held = await jobs.lease(seen, THERE, LONG)
    back = await jobs.requeue(held.job_id, held.fence, LOST, AT_ONCE)
    assert await jobs.lease(seen, HERE, LONG) is None
    assert (await jobs.lease(back, HERE, LONG)).attempt == 2


async def test_renewing_extends_the_lease_and_never_shortens_it(jobs):
    job = await leased(jobs)
    await jobs.renew(job.job_id, job.fence, timedelta(seconds=1))
    assert (await there(jobs, job)).lease == job.lease
    renewal = await jobs.renew(job.job_id, job.fence, 2 * LONG)
    assert renewal.wanted
    lease = (await there(jobs, job)).lease
    assert lease is not None
    assert job.lease is not None
    assert lease.expires_at == renewal.expires_at > job.lease.expires_at


async def test_a_late_renewal_is_forgiven_when_nobody_took_over(jobs):
    job = await leased(jobs, ttl=OVER)
    assert [j.job_id for j in await jobs.unowned(9)] == [job.job_id]
    assert (await jobs.renew(job.job_id, job.fence, LONG)).wanted
    assert await jobs.unowned(9) == []


async def test_an_expired_lease_is_adopted_once_with_the_same_attempt(jobs):
    job = await leased(jobs, ttl=OVER)
    await jobs.assign_worker(job.job_id, job.fence, WorkerId("w1"))
    got = await asyncio.gather(*(jobs.adopt(job.job_id, job.fence, THERE, LONG) for _ in range(8)))
    (adopted,) = [held for held in got if held is not None]
    assert (adopted.fence, adopted.attempt, adopted.status) == (2, 1, Status.RUNNING)
    assert adopted.worker_id == "w1"
    with pytest.raises(LeaseLost):
        await jobs.renew(job.job_id, job.fence, LONG)


async def test_a_living_lease_is_not_adopted(jobs):
    job = await leased(jobs)
    assert await jobs.adopt(job.job_id, job.fence, THERE, LONG) is None


async def test_a_finalizing_job_is_adopted_as_finalizing(jobs):
    job = await finalizing(jobs, ttl=OVER)
    adopted = await jobs.adopt(job.job_id, job.fence, THERE, LONG)
    assert adopted.status is Status.FINALIZING


async def test_handing_over_makes_all_jobs_of_an_owner_unowned_at_once(jobs):
    mine = [await leased(jobs, f"k{n}") for n in range(3)]
    other = await claimed(jobs, "other")
    await jobs.lease(other, THERE, LONG)
    assert await jobs.hand_over(HERE) == 3
    unowned = await jobs.unowned(9)
    assert {j.job_id for j in unowned} == {j.job_id for j in mine}
    assert all(j.lease is None for j in unowned)
    assert await jobs.owned(HERE) == []
    assert await jobs.adopt(mine[0].job_id, mine[0].fence, THERE, LONG) is not None
    assert await jobs.hand_over(HERE) == 0


async def test_who_handed_over_cannot_renew_but_may_still_finish(jobs):
    job = await finalizing(jobs)
    await jobs.hand_over(HERE)
    with pytest.raises(LeaseLost):
        await jobs.renew(job.job_id, job.fence, LONG)
    await jobs.finalize(job.job_id, job.fence, DIGEST, [DATA])
    done = await there(jobs, job)
    assert done.status is Status.COMPLETED


async def test_unowned_jobs_come_oldest_first_and_bounded(jobs):
    stale = [await leased(jobs, f"k{n}", ttl=timedelta(seconds=-n)) for n in range(3)]
    assert [j.job_id for j in await jobs.unowned(2)] == [stale[2].job_id, stale[1].job_id]


# -- doubts about a worker -----------------------------------------------------------------


async def test_a_job_whose_worker_ended_is_unowned_at_once_and_says_why(jobs):
    job = await leased(jobs)
    await jobs.assign_worker(job.job_id, job.fence, WorkerId("w1"))
    assert await jobs.shorten_lease(job.job_id, job.fence, WorkerId("w1"), "it was killed")
    [doubted] = await jobs.unowned(9)
    assert (doubted.status, doubted.fence, doubted.attempt) == (Status.RUNNING, job.fence, 1)
    assert (doubted.current_attempt.detail, doubted.current_attempt.reason) == ("it was killed", None)
    assert not await jobs.shorten_lease(job.job_id, job.fence, WorkerId("w1"), "again")
    adopted = await jobs.adopt(job.job_id, job.fence, THERE, LONG)
    assert adopted.current_attempt.detail == "it was killed"


async def test_a_holder_that_lives_renews_a_shortened_lease(jobs):
    job = await leased(jobs)
    assert await jobs.shorten_lease(job.job_id, job.fence, None, "it never started")
    await jobs.renew(job.job_id, job.fence, LONG)
    assert await jobs.unowned(9) == []


async def test_a_lease_is_not_shortened_when_the_job_is_no_longer_as_seen(jobs):
    job = await leased(jobs, "moved")
    await jobs.assign_worker(job.job_id, job.fence, WorkerId("w1"))
    assert not await jobs.shorten_lease(job.job_id, job.fence, WorkerId("w0"), "")
    assert not await jobs.shorten_lease(job.job_id, job.fence, None, "")
    assert not await jobs.shorten_lease(job.job_id, Fence(job.fence + 1), WorkerId("w1"), "")
    assert not await jobs.shorten_lease(JobId("unknown"), Fence(1), None, "")
    ending = await finalizing(jobs, "ending")
    assert not await jobs.shorten_lease(ending.job_id, ending.fence, None, "")
    await jobs.hand_over(HERE)
    assert not await jobs.shorten_lease(job.job_id, job.fence, WorkerId("w1"), "")
    attempt = (await there(jobs, job)).current_attempt
    assert attempt is not None
    assert attempt.detail == ""


async def test_jobs_at_work_are_told_whoever_owns_them(jobs):
    await claimed(jobs, "waits")
    mine, ending, stale = await leased(jobs, "a"), await finalizing(jobs, "b"), await leased(jobs, "c", OVER)
    ended = await leased(jobs, "d")
    await jobs.release_workflow(ended.job_id, ended.fence, Status.FAILED, BROKEN)
    assert {j.job_id for j in await jobs.at_work()} == {mine.job_id, ending.job_id, stale.job_id}


async def test_jobs_are_found_by_any_worker_they_had_while_they_are_news(jobs):
    before = await jobs.now() - LONG
    job = await leased(jobs)
    await jobs.assign_worker(job.job_id, job.fence, WorkerId("w1"))
    back = await jobs.requeue(job.job_id, job.fence, LOST, AT_ONCE)
    again = await jobs.lease(back, HERE, LONG)
    await jobs.assign_worker(job.job_id, again.fence, WorkerId("w2"))
    other = await leased(jobs, "other")
    await jobs.assign_worker(other.job_id, other.fence, WorkerId("w3"))
    for worker in ("w1", "w2"):
        assert [j.job_id for j in await jobs.naming([WorkerId(worker)], before)] == [job.job_id]
    assert len(await jobs.naming([WorkerId("w1"), WorkerId("w3")], before)) == 2
    assert await jobs.naming([WorkerId("w4")], before) == []
    assert await jobs.naming([WorkerId("w1")], await jobs.now() + LONG) == []


# -- news of an attempt --------------------------------------------------------------------


async def test_the_worker_is_written_into_the_attempt_under_way(jobs):
    job = await leased(jobs)
    await jobs.assign_worker(job.job_id, job.fence, WorkerId("w1"))
    back = await jobs.requeue(job.job_id, job.fence, LOST, AT_ONCE)
    job = await jobs.lease(back, HERE, LONG)
    assert job.worker_id is None
    await jobs.assign_worker(job.job_id, job.fence, WorkerId("w2"))
    assert [a.worker_id for a in (await there(jobs, job)).attempts] == ["w1", "w2"]


async def test_progress_is_stored_and_percent_never_falls(jobs):
    job = await leased(jobs)
    result = Progress("sort", 40.0, bytes_in=10, bytes_out=5, eta_seconds=3.5, seq=7)
    await jobs.record_progress(job.job_id, job.fence, result)
    assert (await there(jobs, job)).progress == result
    await jobs.record_progress(job.job_id, job.fence, Progress("sort", 30.0, seq=8))
    now = (await there(jobs, job)).progress
    assert (now.percent, now.seq, now.eta_seconds) == (40.0, 8, None)


async def test_a_new_attempt_reads_its_journal_from_the_start_and_keeps_the_percent(jobs):
    job = await leased(jobs)
    await jobs.record_progress(job.job_id, job.fence, Progress("sort", 40.0, seq=7))
    back = await jobs.requeue(job.job_id, job.fence, LOST, AT_ONCE)
    assert (await jobs.lease(back, HERE, LONG)).progress == Progress(percent=40.0)


async def test_a_step_is_recorded_once_with_its_parts(jobs):
    job = await leased(jobs)
    await jobs.record_step_complete(job.job_id, job.fence, "sort", [DATA])
    await jobs.record_step_complete(job.job_id, job.fence, "sort", [DATA])
    await jobs.record_step_complete(job.job_id, job.fence, "index", [INDEX])
    now = await there(jobs, job)
    assert now.steps_completed == ("sort", "index")
    assert now.parts == (DATA, INDEX)


async def test_the_last_steps_are_recorded_as_finalizing_begins(jobs):
    job = await leased(jobs)
    await jobs.record_step_complete(job.job_id, job.fence, "sort", [DATA])
    for _ in range(2):
        await jobs.begin_finalize(job.job_id, job.fence, ["sort", "index", "density"])
    assert (await there(jobs, job)).steps_completed == ("sort", "index", "density")


# -- ends ----------------------------------------------------------------------------------


async def test_a_published_job_is_completed_and_its_attempt_says_published(jobs):
    job = await finalizing(jobs)
    await jobs.finalize(job.job_id, job.fence, DIGEST, [DATA, INDEX, SECOND_END])
    done = await there(jobs, job)
    assert (done.status, done.reason, done.manifest_digest) == (Status.COMPLETED, Reason.PUBLISHED, DIGEST)
    assert done.parts == (DATA, INDEX, SECOND_END)
    assert done.progress.percent == 100
    assert done.finished_at is not None
    assert done.lease is None
    assert done.attempts[-1].reason is Reason.PUBLISHED
    assert done.attempts[-1].ended_at == done.finished_at


async def test_a_running_job_cannot_be_completed_without_finalizing(jobs):
    job = await leased(jobs)
    with pytest.raises(LeaseLost):
        await jobs.finalize(job.job_id, job.fence, DIGEST, [DATA])
    assert await there(jobs, job) == job


async def test_a_failed_job_says_why_in_the_job_and_in_the_attempt(jobs):
    job = await leased(jobs)
    failed = await jobs.release_workflow(job.job_id, job.fence, Status.FAILED, BROKEN)
    assert (failed.status, failed.reason, failed.detail) == (Status.FAILED, BROKEN.reason, BROKEN.detail)
    assert (failed.attempts[-1].reason, failed.attempts[-1].detail) == (BROKEN.reason, BROKEN.detail)


async def test_the_first_reason_stands(jobs):
    job = await leased(jobs)
    first = await jobs.release_workflow(job.job_id, job.fence, Status.FAILED, BROKEN)
    with pytest.raises(LeaseLost):
        await jobs.release_workflow(job.job_id, job.fence, Status.FAILED, LOST)
    with pytest.raises(LeaseLost):
        await jobs.release_workflow(
            job.job_id, job.fence, Status.CANCELLED, Failure(Reason.CANCELLED, "withdrawn")
        )
    assert await there(jobs, job) == first


async def test_an_end_whose_answer_got_lost_may_be_written_again(jobs):
    job = await finalizing(jobs)
    await jobs.begin_finalize(job.job_id, job.fence)
    await jobs.finalize(job.job_id, job.fence, DIGEST, [DATA])
    done = await there(jobs, job)
    await jobs.finalize(job.job_id, job.fence, DIGEST, [DATA])
    assert await there(jobs, job) == done
    with pytest.raises(LeaseLost):
        await jobs.finalize(job.job_id, job.fence, "e" * 64, [DATA])


async def test_a_finalizing_job_is_never_cancelled(jobs):
    job = await finalizing(jobs)
    with pytest.raises(LeaseLost):
        await jobs.release_workflow(
            job.job_id, job.fence, Status.CANCELLED, Failure(Reason.CANCELLED, "withdrawn")
        )
    with pytest.raises(NotCancellable):
        await jobs.request_cancel(job.job_id, None)


async def test_a_job_is_released_to_failed_or_cancelled_only(jobs):
    job = await leased(jobs)
    with pytest.raises(ValueError, match="completed"):
        await jobs.release_workflow(job.job_id, job.fence, Status.COMPLETED, LOST)


async def test_a_requeued_job_keeps_its_place_and_waits_its_delay(jobs):
    first = await leased(jobs, "one")
    second = await claimed(jobs, "two")
    back = await jobs.requeue(first.job_id, first.fence, LOST, AT_ONCE)
    assert (back.status, back.enqueued_at, back.lease) == (Status.PENDING, first.enqueued_at, None)
    assert back.attempts[-1].reason is Reason.WORKER_LOST
    assert [j.job_id for j in await jobs.due(9)] == [first.job_id, second.job_id]
    again = await jobs.lease(back, HERE, LONG)
    assert (again.attempt, again.fence, len(again.attempts)) == (2, 2, 2)
    assert again.started_at == first.started_at
    later = await jobs.requeue(again.job_id, again.fence, LOST, LONG)
    assert later.not_before is not None
    assert [j.job_id for j in await jobs.due(9)] == [second.job_id]
    assert await jobs.lease(later, HERE, LONG) is None


async def test_the_late_original_cannot_end_a_job_that_went_back_to_the_queue(jobs):
    job = await leased(jobs)
    back = await jobs.requeue(job.job_id, job.fence, LOST, AT_ONCE)
    with pytest.raises(LeaseLost):
        await jobs.release_workflow(job.job_id, job.fence, Status.FAILED, BROKEN)
    assert await there(jobs, job) == back


@pytest.mark.parametrize("ended", [False, True], ids=["taken over", "ended"])
async def test_a_superseded_holder_changes_nothing(jobs, ended):
    job = await leased(jobs, ttl=OVER)
    if ended:
        await jobs.release_workflow(job.job_id, job.fence, Status.FAILED, BROKEN)
    else:
        await jobs.adopt(job.job_id, job.fence, THERE, LONG)
    now = await there(jobs, job)
    job_id, fence = job.job_id, job.fence
    for write in (
        lambda: jobs.renew(job_id, fence, LONG),
        lambda: jobs.assign_worker(job_id, fence, WorkerId("w")),
        lambda: jobs.record_progress(job_id, fence, Progress("sort", 1)),
        lambda: jobs.record_step_complete(job_id, fence, "sort", [DATA]),
        lambda: jobs.begin_finalize(job_id, fence),
        lambda: jobs.finalize(job_id, fence, DIGEST, []),
        lambda: jobs.release_workflow(job_id, fence, Status.FAILED, LOST),
        lambda: jobs.requeue(job_id, fence, LOST, AT_ONCE),
    ):
        with pytest.raises(LeaseLost):
            await write()
    assert await jobs.adopt(job_id, fence, HERE, LONG) is None
    assert await there(jobs, job) == now


async def test_writes_about_an_unknown_job_are_late_writes(jobs):
    with pytest.raises(LeaseLost):
        await jobs.renew(JobId("none"), Fence(1), LONG)
    with pytest.raises(LeaseLost):
        await jobs.requeue(JobId("none"), Fence(1), LOST, AT_ONCE)


# -- withdrawal ----------------------------------------------------------------------------


async def test_a_pending_job_is_cancelled_when_its_last_requester_withdraws(jobs):
    job = await claimed(jobs)
    await jobs.attach(job.workflow_key, BERT, Priority.NORMAL)
    still = await jobs.request_cancel(job.job_id, ANNE)
    assert (still.status, still.requesters) == (Status.PENDING, (BERT,))
    ended = await jobs.request_cancel(job.job_id, BERT)
    assert (ended.status, ended.reason, ended.requesters) == (Status.CANCELLED, Reason.CANCELLED, ())
    assert ended.finished_at is not None
    with pytest.raises(NotCancellable):
        await jobs.request_cancel(job.job_id, BERT)
    await claimed(jobs)


async def test_a_running_job_is_flagged_for_its_holder_who_releases_it(jobs):
    job = await leased(jobs)
    assert (await jobs.renew(job.job_id, job.fence, LONG)).wanted
    flagged = await jobs.request_cancel(job.job_id, ANNE)
    assert (flagged.status, flagged.cancel_requested) == (Status.RUNNING, True)
    assert not (await jobs.renew(job.job_id, job.fence, LONG)).wanted
    gone = await jobs.release_workflow(
        job.job_id, job.fence, Status.CANCELLED, Failure(Reason.CANCELLED, "withdrawn")
    )
    assert gone.status is Status.CANCELLED


async def test_a_job_that_somebody_wants_is_not_cancelled_by_its_holder(jobs):
    job = await leased(jobs)
    withdrawn = Failure(Reason.CANCELLED, "withdrawn")
    with pytest.raises(StillWanted):
        await jobs.release_workflow(job.job_id, job.fence, Status.CANCELLED, withdrawn)
    await jobs.request_cancel(job.job_id, ANNE)
    assert await jobs.attach(job.workflow_key, BERT, Priority.NORMAL) is not None
    before = await there(jobs, job)
    with pytest.raises(StillWanted):
        await jobs.release_workflow(job.job_id, job.fence, Status.CANCELLED, withdrawn)
    assert await there(jobs, job) == before
    back = await jobs.requeue(job.job_id, job.fence, withdrawn, AT_ONCE)
    assert (back.status, back.requesters, back.cancel_requested) == (Status.PENDING, (BERT,), False)


async def test_who_asks_while_the_last_one_leaves_gets_a_job_that_lives(jobs):
    async def ends(job: Job) -> bool:
        try:
            if job.status is Status.PENDING:
                return (await jobs.request_cancel(job.job_id, ANNE)).status is Status.CANCELLED
            await jobs.request_cancel(job.job_id, ANNE)
            await jobs.release_workflow(
                job.job_id, job.fence, Status.CANCELLED, Failure(Reason.CANCELLED, "withdrawn")
            )
        except StillWanted:
            return False
        return True

    for number in range(12):
        job = await (claimed if number % 2 else leased)(jobs, f"k{number}")
        ended, claim = await asyncio.gather(
            ends(job), jobs.claim_workflow(submission(f"k{number}", requester=BERT))
        )
        live = await there(jobs, claim.job)
        assert not live.status.terminal
        assert BERT in live.requesters
        assert not live.cancel_requested
        assert ended == claim.created


async def test_an_operator_withdraws_everybody(jobs):
    job = await leased(jobs)
    await jobs.attach(job.workflow_key, BERT, Priority.NORMAL)
    assert (await jobs.request_cancel(job.job_id, None)).cancel_requested


async def test_who_did_not_ask_cannot_withdraw_others(jobs):
    job = await claimed(jobs)
    assert await jobs.request_cancel(job.job_id, BERT) == job


async def test_withdrawing_from_an_unknown_job_is_not_found(jobs):
    with pytest.raises(NotFound):
        await jobs.request_cancel(JobId("none"), None)


async def test_jobs_that_waited_too_long_fail_with_queue_expired(jobs):
    old = [await claimed(jobs, f"k{n}") for n in range(3)]
    running = await leased(jobs, "running")
    later = await jobs.now() + timedelta(seconds=1)
    assert await jobs.expire(old[0].created_at, 9) == []
    assert len(await jobs.expire(later, 2)) == 2
    (last,) = await jobs.expire(later, 9)
    assert (last.status, last.reason) == (Status.FAILED, Reason.QUEUE_EXPIRED)
    assert await jobs.expire(later, 9) == []
    assert (await there(jobs, running)).status is Status.RUNNING
    await claimed(jobs, "k0")


# -- whose turn it is ----------------------------------------------------------------------


async def test_a_job_that_waited_too_long_names_its_last_try(jobs):
    job = await leased(jobs)
    await jobs.requeue(job.job_id, job.fence, Failure(Reason.LAUNCH_FAILED, "no such subnet"), LONG)
    (ended,) = await jobs.expire(await jobs.now() + LONG, 10)
    assert ended.reason is Reason.QUEUE_EXPIRED
    last = "its last try of 1 ended with launch_failed: no such subnet"
    assert ended.detail == f"waited in the queue for too long; {last}"
    assert [attempt.reason for attempt in ended.attempts] == [Reason.LAUNCH_FAILED]


async def test_ended_jobs_are_forgotten_oldest_first_and_never_an_active_one(jobs):
    ended = [await claimed(jobs, f"ended {number}") for number in range(3)]
    for job in ended:
        await jobs.request_cancel(job.job_id, None)
    pending, running = await claimed(jobs, "pending"), await leased(jobs, "running")
    now = await jobs.now()
    assert await jobs.forget_ended(now - LONG, 10) == 0
    assert await jobs.forget_ended(now + LONG, 2) == 2
    assert await jobs.forget_ended(now + LONG, 10) == 1
    assert await jobs.forget_ended(now + LONG, 10) == 0
    assert [await jobs.get(job.job_id) for job in ended] == [None, None, None]
    assert {job.job_id for job in (await jobs.find(JobQuery(requester=ANNE))).jobs} == {
        pending.job_id,
        running.job_id,
    }


async def test_the_first_file_of_a_newcomer_goes_before_the_second_of_who_asked_for_many(jobs):
    many = [await claimed(jobs, f"many{n}") for n in range(20)]
    one = await claimed(jobs, "one", requester=BERT)
    order = [j.job_id for j in await jobs.due(99)]
    assert order == [many[0].job_id, one.job_id, *(job.job_id for job in many[1:])]


async def test_an_interactive_request_goes_before_the_batch_of_the_same_requester(jobs):
    batch = [await claimed(jobs, f"b{n}", priority=Priority.BATCH) for n in range(9)]
    click = await claimed(jobs, "click", priority=Priority.INTERACTIVE)
    assert [j.job_id for j in await jobs.due(2)] == [click.job_id, batch[0].job_id]


async def test_who_has_no_job_waiting_owes_nothing_for_those_that_ran(jobs):
    for number in range(9):
        job = await leased(jobs, f"k{number}")
        await jobs.release_workflow(job.job_id, job.fence, Status.FAILED, BROKEN)
    mine = await claimed(jobs, "mine")
    theirs = await claimed(jobs, "theirs", requester=BERT)
    # Some places are counted ahead in MongoDB for ten seconds.
    assert mine.rank - theirs.rank <= 10 * COST_MILLISECONDS


async def test_of_many_submissions_at_once_no_two_get_one_place_in_the_queue(jobs):
    await asyncio.gather(*(claimed(jobs, f"k{n}") for n in range(20)))
    ranks = [job.rank for job in await jobs.due(99)]
    assert len(set(ranks)) == 20
    assert ranks[-1] - ranks[0] >= 19 * COST_MILLISECONDS


async def test_who_joins_a_job_far_back_brings_it_to_their_own_place(jobs):
    many = [await claimed(jobs, f"many{n}", priority=Priority.BATCH) for n in range(9)]
    last = many[-1]
    joined = await jobs.attach(last.workflow_key, BERT, Priority.BATCH)
    assert (joined.queued_for, joined.rank < many[2].rank) == (BERT, True)
    again = await jobs.attach(many[0].workflow_key, BERT, Priority.BATCH)
    assert (again.queued_for, again.rank) == (ANNE, many[0].rank)


async def test_a_job_is_queued_for_somebody_who_still_wants_it(jobs):
    job = await claimed(jobs)
    await jobs.attach(job.workflow_key, BERT, Priority.NORMAL)
    left = await jobs.request_cancel(job.job_id, ANNE)
    assert (left.queued_for, left.rank) == (BERT, job.rank)


def test_everything_asked_for_after_a_rank_s_time_sorts_behind_it():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    batch = next_rank(Priority.BATCH, now, None)
    later = now + OFFSETS[Priority.BATCH]
    assert next_rank(Priority.INTERACTIVE, later, None) >= batch


async def test_the_running_limit_holds_whoever_leases(jobs):
    waiting = [await claimed(jobs, f"k{n}") for n in range(6)]
    other = await claimed(jobs, "other", requester=BERT)
    tries = await asyncio.gather(*(jobs.lease(job, HERE, LONG, 2) for job in waiting))
    held = [job for job in tries if job is not None]
    assert len(held) == 2
    assert await jobs.lease(other, HERE, LONG, 2) is not None
    left = next(job for job in waiting if job.job_id not in {one.job_id for one in held})
    assert await jobs.lease(left, HERE, LONG, 2) is None
    await jobs.release_workflow(held[0].job_id, held[0].fence, Status.FAILED, BROKEN)
    assert await jobs.lease(left, HERE, LONG, 2) is not None


async def test_a_job_that_goes_back_to_the_queue_gives_its_slot_back(jobs):
    first = await jobs.lease(await claimed(jobs, "a"), HERE, LONG, 1)
    second = await claimed(jobs, "b")
    assert await jobs.lease(second, HERE, LONG, 1) is None
    await jobs.requeue(first.job_id, first.fence, LOST, LONG)
    assert await jobs.lease(second, HERE, LONG, 1) is not None


async def test_who_is_passed_over_is_neither_due_nor_counted(jobs):
    mine = [await claimed(jobs, f"k{n}") for n in range(3)]
    theirs = await claimed(jobs, "theirs", requester=BERT, priority=Priority.BATCH)
    assert [j.job_id for j in await jobs.due(9, [ANNE])] == [theirs.job_id]
    assert await jobs.position(theirs) == len(mine)
    assert await jobs.position(theirs, [ANNE]) == 0


async def test_a_job_that_is_not_due_yet_is_not_counted_as_before_others(jobs):
    first = await leased(jobs, "a")
    second = await claimed(jobs, "b")
    await jobs.requeue(first.job_id, first.fence, LOST, LONG)
    assert await jobs.position(second) == 0


async def test_the_depth_of_the_queue_names_who_waits_and_since_when(jobs):
    assert await jobs.queue_depth() == QueueDepth({}, None)
    first = await claimed(jobs, "a")
    await claimed(jobs, "b", priority=Priority.BATCH)
    await claimed(jobs, "c", requester=BERT)
    await leased(jobs, "d", requester=BERT)
    depth = await jobs.queue_depth()
    assert depth.oldest == first.created_at
    assert depth.pending == {
        (ANNE, Priority.NORMAL): 1, (ANNE, Priority.BATCH): 1, (BERT, Priority.NORMAL): 1,
    }  # fmt: skip


async def test_the_newest_starts_are_told_once_each(jobs):
    held = [await leased(jobs, f"k{n}") for n in range(3)]
    await claimed(jobs, "waiting")
    again = await jobs.requeue(held[0].job_id, held[0].fence, LOST, AT_ONCE)
    assert await jobs.lease(again, HERE, LONG) is not None
    starts = await jobs.recent_starts(9)
    assert {start.started_at for start in starts} == {job.started_at for job in held}
    assert starts[0].started_at == held[-1].started_at
    assert len(starts) == len(held)
    assert {start.queued_for for start in starts} == {ANNE}
    assert len(await jobs.recent_starts(2)) == 2


# -- what can be asked ---------------------------------------------------------------------


async def test_the_queue_goes_by_priority_then_age(jobs):
    order = [Priority.BATCH, Priority.INTERACTIVE, Priority.NORMAL, Priority.INTERACTIVE]
    made = [await claimed(jobs, f"k{n}", priority=priority) for n, priority in enumerate(order)]
    expected = [made[1], made[3], made[2], made[0]]
    assert [j.job_id for j in await jobs.due(9)] == [j.job_id for j in expected]
    assert [await jobs.position(j) for j in expected] == [0, 1, 2, 3]
    assert len(await jobs.due(2)) == 2


async def test_jobs_are_counted_by_status_and_requester(jobs):
    await claimed(jobs, "a")
    await claimed(jobs, "b", requester=BERT)
    await leased(jobs, "c")
    await finalizing(jobs, "d")
    ended = await leased(jobs, "e")
    await jobs.release_workflow(ended.job_id, ended.fence, Status.FAILED, BROKEN)
    assert await jobs.counts() == {Status.PENDING: 2, Status.RUNNING: 1, Status.FINALIZING: 1}
    assert await jobs.running_by_requester() == {ANNE: 2}
    assert (await jobs.pending_of(ANNE, 9), await jobs.pending_of(BERT, 9)) == (1, 1)


async def test_what_one_requester_waits_for_is_counted_up_to_what_is_asked(jobs):
    mine = [await claimed(jobs, name) for name in ("a", "b", "c")]
    theirs = await claimed(jobs, "d", requester=BERT)
    await jobs.claim_workflow(submission("d"))  # Anne waits for it, too; it stays Bert's turn
    later = await leased(jobs, "e")
    assert await jobs.requeue(later.job_id, later.fence, LOST, LONG) is not None
    assert (await jobs.pending_of(ANNE, 9), await jobs.queued_for(ANNE, 9)) == (5, 4)
    assert (await jobs.pending_of(BERT, 9), await jobs.queued_for(BERT, 9)) == (1, 1)
    assert (await jobs.pending_of(ANNE, 2), await jobs.queued_for(ANNE, 2)) == (2, 2)
    for withdrawn in (mine[0], theirs):
        await jobs.request_cancel(withdrawn.job_id, ANNE)
    assert (await jobs.pending_of(ANNE, 9), await jobs.queued_for(ANNE, 9)) == (3, 3)


async def test_the_list_is_newest_first_and_pages_show_each_job_once(jobs):
    made = [(await claimed(jobs, f"k{n}", local_id=f"f{n % 2}")).job_id for n in range(7)]
    shown: list[str] = []
    after = None
    while True:
        page = await jobs.find(JobQuery(limit=3, after=after))
        shown += [job.job_id for job in page.jobs]
        after = page.next
        if after is None:
            break
    assert shown == made[::-1]
    found = await jobs.find(JobQuery(dcc=Dcc("4dn"), local_id=LocalId("f1"), status=Status.PENDING))
    assert [job.job_id for job in found.jobs] == made[5::-2]
    assert (await jobs.find(JobQuery(status=Status.FAILED))).jobs == ()


async def test_pages_lose_nothing_when_jobs_are_from_one_millisecond(jobs, store):
    made = {(await claimed(jobs, f"k{n}")).job_id for n in range(7)}
    await store.set_created_at(await jobs.now())
    shown, after = [], None
    for _ in range(4):
        page = await jobs.find(JobQuery(limit=2, after=after))
        shown += [job.job_id for job in page.jobs]
        after = page.next
    assert after is None
    assert sorted(shown) == sorted(made)


async def test_a_requester_still_finds_the_job_they_withdrew_from(jobs):
    job = await claimed(jobs)
    await jobs.request_cancel(job.job_id, ANNE)
    assert [j.job_id for j in (await jobs.find(JobQuery(requester=ANNE))).jobs] == [job.job_id]
    assert (await jobs.find(JobQuery(requester=BERT))).jobs == ()


@pytest.mark.parametrize("after", ["", "x", "WyJ4Il0=", "W10=", "e30=", "éé", "WzFlOTldCg==", "W1tb" * 2000])
async def test_a_forged_page_mark_is_refused(jobs, after):
    with pytest.raises(InvalidInput, match="after"):
        await jobs.find(JobQuery(after=after))


async def test_an_unknown_job_is_none(jobs):
    assert await jobs.get(JobId("none")) is None


async def test_a_store_that_is_away_is_unavailable_and_names_the_operation():
    db = connect("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50", "none")
    with pytest.raises(StoreUnavailable, match="claim_workflow"):
        await MongoJobs(db).claim_workflow(submission())
    await db.client.close()
