"""What every BatchStore promises, asked of each of the real ones."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tests.contract.test_job_store import LONG, submission

from gooseherd.domain.batch import (
    Batch,
    BatchId,
    BatchStatus,
    MemberChange,
    MemberState,
    NewBatch,
    member_change,
)
from gooseherd.domain.errors import InvalidInput, LimitReached, StoreUnavailable
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import Job, JobId, Owner, Requester
from gooseherd.domain.ports.batches import BatchLimits, BatchQuery, BatchStore
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.source import Dcc, LocalId
from gooseherd.domain.states import Status

if TYPE_CHECKING:
    from tests.conftest import StoreUnderTest

pytestmark = pytest.mark.integration

ANNE, BERT = Requester("anne"), Requester("bert")
HERE, THERE = Owner("here"), Owner("there")
MANY = BatchLimits(100, 100)
WAITING, PENDING, RUNNING, READY, FAILED, CANCELLED = MemberState

_number = itertools.count()


@pytest.fixture
def batches(store: StoreUnderTest) -> BatchStore:
    return store.batches


@pytest.fixture
def jobs(store: StoreUnderTest) -> JobStore:
    return store.jobs


def new_batch(files: int = 3, **fields) -> NewBatch:
    names = tuple((Dcc("4dn"), LocalId(f"f{number}")) for number in range(files))
    given = {"batch_id": BatchId(f"b{next(_number):04}"), "requester": ANNE, "request_digest": "d"} | fields
    return NewBatch(files=names, **given)


async def stored(batches: BatchStore, files: int = 3, **fields) -> Batch:
    found = await batches.create(new_batch(files, **fields), MANY)
    assert found.created
    return found.batch


async def there(batches: BatchStore, batch: Batch) -> Batch:
    found = await batches.get(batch.batch_id)
    assert found is not None
    return found


async def in_flight(batches: BatchStore, jobs: JobStore, batch: Batch, number: int = 0) -> Job:
    """A job is on the member of that number."""
    job = (await jobs.claim_workflow(submission(f"{batch.batch_id} {number}"))).job
    change = MemberChange(number, WAITING, PENDING, job.job_id)
    assert await batches.record(batch.batch_id, [change]) == 1
    return job


# -- storing -------------------------------------------------------------------------------


async def test_a_batch_reads_back_with_its_members_in_the_order_of_asking(batches):
    batch = await stored(batches, 5, retry=True)
    assert batch == await there(batches, batch)
    assert (batch.total, batch.counts, batch.retry, batch.status) == (5, {WAITING: 5}, True, "active")
    members = await batches.members(batch.batch_id, limit=9)
    assert [(m.number, m.dcc, m.local_id, m.state) for m in members] == [
        (number, "4dn", f"f{number}", WAITING) for number in range(5)
    ]
    assert await batches.members(batch.batch_id, limit=2, after=2) == members[3:]
    assert await batches.members(batch.batch_id, READY, limit=9) == []


async def test_a_batch_of_nothing_has_ended_at_once(batches):
    batch = await stored(batches, 0)
    assert batch.status is BatchStatus.COMPLETED
    assert await batches.end(batch.batch_id)


async def test_an_unknown_batch_is_none(batches):
    assert await batches.get(BatchId("nobody")) is None
    assert await batches.cancel(BatchId("nobody")) is None
    assert not await batches.end(BatchId("nobody"))
    assert not await batches.hold(BatchId("nobody"), HERE, LONG)
    assert await batches.members(BatchId("nobody"), limit=9) == []
    assert await batches.moved(BatchId("nobody"), 9) == []


async def test_storing_one_batch_twice_stores_it_once(batches):
    new = new_batch()
    first, second = await batches.create(new, MANY), await batches.create(new, MANY)
    assert first.created
    assert second.created
    assert first.batch == second.batch
    assert len(await batches.members(new.batch_id, limit=9)) == 3


async def test_an_idempotency_key_names_one_batch_of_its_requester(batches):
    first = await stored(batches, idempotency_key="k")
    again = await batches.create(new_batch(idempotency_key="k"), MANY)
    assert not again.created
    assert again.batch == first
    of_another = await batches.create(new_batch(idempotency_key="k", requester=BERT), MANY)
    assert of_another.created
    with pytest.raises(InvalidInput, match="another request"):
        await batches.create(new_batch(idempotency_key="k", request_digest="e"), MANY)


async def test_of_many_with_one_idempotency_key_at_once_one_batch_is_stored(batches):
    async def create():
        try:
            return (await batches.create(new_batch(idempotency_key="k"), MANY)).batch.batch_id
        except StoreUnavailable:
            return None  # while another one stores it: ask again

    found = set(await asyncio.gather(*(create() for _ in range(10)))) - {None}
    page = await batches.find(BatchQuery())
    assert {batch.batch_id for batch in page.batches} == found
    assert len(found) == 1
    assert page.batches[0].counts == {WAITING: 3}


async def test_batches_under_way_are_limited_in_all_and_for_each_requester(batches):
    batch = await stored(batches)
    limits = BatchLimits(2, 1)
    with pytest.raises(LimitReached, match="of this requester: 1 of 1"):
        await batches.create(new_batch(), limits)
    await batches.create(new_batch(requester=BERT), limits)
    with pytest.raises(LimitReached, match="open batches: 2 of 2"):
        await batches.create(new_batch(requester=Requester("carl")), limits)
    await batches.cancel(batch.batch_id)
    await batches.end(batch.batch_id)
    await batches.create(new_batch(), limits)


async def test_cancelling_again_cancels_what_waits_by_then(batches, jobs):
    batch = await stored(batches, 2)
    job = await in_flight(batches, jobs, batch)
    await batches.cancel(batch.batch_id)
    assert await batches.record(batch.batch_id, [MemberChange(0, PENDING, WAITING)]) == 1
    assert (await there(batches, batch)).counts == {WAITING: 1, CANCELLED: 1}
    again = await batches.cancel(batch.batch_id)
    assert again is not None
    assert (again.counts, again.status) == ({CANCELLED: 2}, BatchStatus.CANCELLED)
    (member, _) = await batches.members(batch.batch_id, limit=9)
    assert (member.reason, member.job_id) == (Reason.CANCELLED, None)
    assert await jobs.get(job.job_id) is not None


async def test_the_list_is_newest_first_and_pages_show_each_batch_once(batches):
    made = [await stored(batches, requester=(ANNE, BERT)[n % 2]) for n in range(5)]
    shown, after = [], None
    while True:
        page = await batches.find(BatchQuery(limit=2, after=after))
        shown += page.batches
        if (after := page.next) is None:
            break
    assert {batch.batch_id for batch in shown} == {batch.batch_id for batch in made}
    assert len(shown) == 5
    assert [b.created_at for b in shown] == sorted((b.created_at for b in made), reverse=True)
    assert len((await batches.find(BatchQuery(requester=BERT))).batches) == 2
    with pytest.raises(InvalidInput):
        await batches.find(BatchQuery(after="nonsense"))


# -- holding -------------------------------------------------------------------------------


async def test_one_process_submits_the_files_of_a_batch(batches):
    batch = await stored(batches)
    taken = await asyncio.gather(*(batches.hold(batch.batch_id, Owner(f"o{n}"), LONG) for n in range(5)))
    assert taken.count(True) == 1
    holder = Owner(f"o{taken.index(True)}")
    assert await batches.hold(batch.batch_id, holder, LONG)
    held = await there(batches, batch)
    assert held.held_by == holder
    assert held.held_until is not None


async def test_who_holds_a_batch_no_more_is_replaced(batches):
    batch = await stored(batches)
    assert await batches.hold(batch.batch_id, HERE, timedelta(0))
    assert await batches.hold(batch.batch_id, THERE, LONG)
    assert not await batches.hold(batch.batch_id, HERE, LONG)


# -- members -------------------------------------------------------------------------------


async def test_a_member_is_changed_once(batches):
    batch = await stored(batches)
    change = MemberChange(1, WAITING, FAILED, None, Reason.SOURCE_MISSING, "no such file")
    assert await batches.record(batch.batch_id, [change, MemberChange(2, WAITING, READY)]) == 2
    assert await batches.record(batch.batch_id, [change, MemberChange(0, PENDING, READY)]) == 0
    (failed,) = await batches.members(batch.batch_id, FAILED, limit=9)
    assert (failed.number, failed.reason, failed.detail) == (1, Reason.SOURCE_MISSING, "no such file")
    assert (await there(batches, batch)).counts == {WAITING: 1, FAILED: 1, READY: 1}
    assert await batches.record(batch.batch_id, []) == 0


async def test_members_whose_job_stands_otherwise_are_found_until_that_is_recorded(batches, jobs):
    batch = await stored(batches, 6)
    made = [await in_flight(batches, jobs, batch, number) for number in range(6)]
    assert await batches.moved(batch.batch_id, 9) == []
    running, failed, completed, cancelled, lost = made[1:]
    for job in (running, failed, completed):
        assert await jobs.lease(job, HERE, LONG) is not None
    held = await jobs.get(failed.job_id)
    broken = Failure(Reason.SOURCE_INVALID, "not a BAM")
    await jobs.release_workflow(failed.job_id, held.fence, Status.FAILED, broken)
    await jobs.begin_finalize(completed.job_id, held.fence)
    await jobs.finalize(completed.job_id, held.fence, "d" * 64, [])
    await jobs.request_cancel(cancelled.job_id, None)
    nowhere = MemberChange(5, PENDING, PENDING, JobId("gone"))
    assert await batches.record(batch.batch_id, [nowhere]) == 1

    moved = await batches.moved(batch.batch_id, 9)
    assert len(await batches.moved(batch.batch_id, 2)) == 2
    changes = [member_change(member, outcome) for member, outcome in moved]
    assert await batches.record(batch.batch_id, changes) == 5
    assert [(m.state, m.job_id, m.reason) for m in await batches.members(batch.batch_id, limit=9)] == [
        (PENDING, made[0].job_id, None),
        (RUNNING, running.job_id, None),
        (FAILED, failed.job_id, Reason.SOURCE_INVALID),
        (READY, completed.job_id, None),
        (CANCELLED, cancelled.job_id, Reason.CANCELLED),
        (WAITING, None, None),
    ]
    assert await batches.moved(batch.batch_id, 9) == []
    assert lost is not None


async def test_a_job_that_waited_too_long_in_the_queue_is_asked_for_again(batches, jobs):
    batch = await stored(batches, 1)
    await in_flight(batches, jobs, batch)
    await jobs.expire(await jobs.now() + LONG, 9)
    ((member, outcome),) = await batches.moved(batch.batch_id, 9)
    change = member_change(member, outcome)
    assert change is not None
    assert (change.state, change.job_id, change.reason) == (WAITING, None, None)


# -- ends ----------------------------------------------------------------------------------


async def test_a_batch_ends_when_its_last_member_has(batches):
    batch = await stored(batches, 2)
    assert not await batches.end(batch.batch_id)
    await batches.record(batch.batch_id, [MemberChange(0, WAITING, READY), MemberChange(1, WAITING, FAILED)])
    assert [b.batch_id for b in await batches.unfinished(9)] == [batch.batch_id]
    assert await batches.end(batch.batch_id)
    assert not await batches.end(batch.batch_id)
    ended = await there(batches, batch)
    assert (ended.status, ended.percent, ended.counts) == ("partial", 100.0, {READY: 1, FAILED: 1})
    assert ended.ended_at is not None
    assert await batches.unfinished(9) == []
    assert not await batches.hold(batch.batch_id, HERE, LONG)


async def test_cancelling_ends_what_waits_and_leaves_what_is_in_flight(batches, jobs):
    batch = await stored(batches, 3)
    await in_flight(batches, jobs, batch)
    cancelled = await batches.cancel(batch.batch_id)
    assert (cancelled.cancel_requested, cancelled.counts) == (True, {PENDING: 1, CANCELLED: 2})
    assert cancelled.status is BatchStatus.ACTIVE
    late = MemberChange(1, WAITING, PENDING, JobId("late"))
    assert await batches.record(batch.batch_id, [late]) == 0, "who submits must see that it was cancelled"


async def test_a_batch_that_has_ended_cannot_be_cancelled(batches):
    batch = await stored(batches, 1)
    await batches.record(batch.batch_id, [MemberChange(0, WAITING, READY)])
    await batches.end(batch.batch_id)
    assert (await batches.cancel(batch.batch_id)).status is BatchStatus.COMPLETED


async def test_a_job_that_another_live_batch_wants_is_known(batches, jobs):
    one, other = await stored(batches), await stored(batches)
    job = await in_flight(batches, jobs, one)
    assert not await batches.wanted_by_another(one.batch_id, job.job_id, ANNE)
    await batches.record(other.batch_id, [MemberChange(2, WAITING, PENDING, job.job_id)])
    assert await batches.wanted_by_another(one.batch_id, job.job_id, ANNE)
    assert not await batches.wanted_by_another(one.batch_id, job.job_id, BERT)
    await batches.cancel(other.batch_id)
    assert not await batches.wanted_by_another(one.batch_id, job.job_id, ANNE)


async def test_ended_batches_are_forgotten_with_their_members_and_no_others(batches, jobs):
    ended, live = await stored(batches, 1), await stored(batches, 1)
    await batches.record(ended.batch_id, [MemberChange(0, WAITING, READY)])
    await batches.end(ended.batch_id)
    now = await jobs.now()
    assert await batches.forget_ended(now - LONG, 9) == 0
    assert await batches.forget_ended(now + LONG, 9) == 1
    assert await batches.get(ended.batch_id) is None
    assert await batches.members(ended.batch_id, limit=9) == []
    assert (await there(batches, live)).total == 1
