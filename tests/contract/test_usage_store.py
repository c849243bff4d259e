"""What every UsageStore promises, with the job store that records attempts: asked of the real ones."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, timedelta

import pytest
from tests.contract.test_job_store import claimed, leased

from gooseherd.domain.errors import LeaseLost
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import AttemptEnd, Owner, Requester, WorkerId
from gooseherd.domain.source import Dcc
from gooseherd.domain.states import Status
from gooseherd.domain.usage import (
    Amounts,
    UsageKind,
    UsageQuery,
    WorkerTime,
    served_row,
    worker_rows,
)
from gooseherd.domain.worker_size import Capacity, LaunchPurpose, WorkerResources, WorkerSize

pytestmark = pytest.mark.integration

HOUR = timedelta(hours=1)
LOST = Failure(Reason.WORKER_LOST, "gone")
SPOT = WorkerResources(WorkerSize(1024, 2048, 21), Capacity.SPOT)
WORKER = WorkerId("w1")
HERE = Owner("here")


async def everything(store, **only):
    return await store.usage.sums(UsageQuery(date(2000, 1, 1), date(2100, 1, 1), **only))


async def at_work(store, job=None, resources=SPOT):
    """A leased job whose attempt has a worker."""
    held = await store.jobs.lease(job if job is not None else await claimed(store.jobs), HERE, HOUR)
    await store.jobs.assign_worker(held.job_id, held.fence, WORKER, {"build": "b"}, resources)
    return held


async def test_the_write_that_ends_an_attempt_records_what_it_used(store):
    held = await at_work(store)
    assert await everything(store) == []
    await asyncio.sleep(0.02)
    await store.jobs.begin_finalize(held.job_id, held.fence)
    await store.jobs.finalize(held.job_id, held.fence, "d" * 64, (), AttemptEnd(700, 300))
    (one,) = await everything(store)
    assert (one.kind, one.requester, one.dcc) == (UsageKind.WORK, held.queued_for, held.source.dcc)
    assert (one.capacity, one.purpose, one.job_id) == (Capacity.SPOT, LaunchPurpose.JOB, None)
    used = one.amounts
    assert used.attempts == 1
    assert used.milliseconds >= 10
    assert used == Amounts(
        1, used.milliseconds, 1024 * used.milliseconds, 2048 * used.milliseconds, used.milliseconds, 700, 300
    )
    stored = (await store.jobs.get(held.job_id)).attempts[0]
    assert stored.resources == SPOT
    assert (stored.bytes_in, stored.bytes_out) == (700, 300)
    span = stored.ended_at - stored.assigned_at
    assert used.milliseconds == span // timedelta(milliseconds=1)


async def test_an_end_that_is_written_again_is_counted_once(store):
    held = await at_work(store)
    await store.jobs.begin_finalize(held.job_id, held.fence)
    for _ in range(2):
        await store.jobs.finalize(held.job_id, held.fence, "d" * 64, (), AttemptEnd(7, 3))
    (one,) = await everything(store)
    assert (one.amounts.attempts, one.amounts.bytes_in) == (1, 7)


async def test_every_attempt_of_a_job_counts_however_it_ended(store):
    held = await at_work(store)
    job = await store.jobs.requeue(held.job_id, held.fence, LOST, timedelta(0), AttemptEnd(10, 0))
    held = await at_work(store, job)
    await store.jobs.request_cancel(held.job_id, None)
    cancelled = Failure(Reason.CANCELLED, "")
    await store.jobs.release_workflow(held.job_id, held.fence, Status.CANCELLED, cancelled, AttemptEnd(5, 0))
    (one,) = await everything(store)
    assert (one.amounts.attempts, one.amounts.bytes_in) == (2, 15)


async def test_an_end_that_comes_too_late_uses_nothing(store):
    held = await at_work(store)
    with pytest.raises(LeaseLost):
        await store.jobs.requeue(held.job_id, held.fence + 1, LOST, timedelta(0), AttemptEnd(10, 0))
    assert await everything(store) == []


async def test_an_attempt_counts_until_its_worker_died(store):
    held = await at_work(store)
    assigned = (await store.jobs.get(held.job_id)).attempts[0].assigned_at
    await asyncio.sleep(0.05)
    died = assigned + timedelta(milliseconds=7)
    await store.jobs.requeue(held.job_id, held.fence, LOST, timedelta(0), AttemptEnd(worked_until=died))
    (one,) = await everything(store)
    assert one.amounts.milliseconds == 7


async def test_a_worker_that_died_before_it_was_given_the_attempt_used_nothing(store):
    held = await at_work(store)
    long_ago = AttemptEnd(worked_until=(await store.jobs.now()) - HOUR)
    await store.jobs.requeue(held.job_id, held.fence, LOST, timedelta(0), long_ago)
    (one,) = await everything(store)
    assert (one.amounts.milliseconds, one.amounts.attempts) == (0, 1)


async def test_an_attempt_without_a_worker_uses_nothing(store):
    held = await leased(store.jobs)
    await store.jobs.requeue(held.job_id, held.fence, LOST, timedelta(0))
    assert await everything(store) == []


async def test_usage_stays_when_the_job_is_forgotten(store):
    held = await at_work(store)
    await store.jobs.release_workflow(held.job_id, held.fence, Status.FAILED, LOST, AttemptEnd(9, 0))
    await store.usage.record([])
    assert await store.jobs.forget_ended(await store.jobs.now() + HOUR, 10) == 1
    assert [one.amounts.bytes_in for one in await everything(store)] == [9]


async def test_sums_are_by_job_when_asked_for_and_of_one_requester_or_collection(store):
    held = await at_work(store)
    await store.jobs.release_workflow(held.job_id, held.fence, Status.FAILED, LOST)
    today = (await store.usage.now()).date()
    rows = [
        served_row("p1", today, Requester("anne"), Dcc("4dn"), 100),
        served_row("p1", today, Requester("bert"), Dcc("hubmap"), 50),
    ]
    await store.usage.record(rows)
    query = UsageQuery(today - timedelta(days=1), today + timedelta(days=1))
    by_job = await store.usage.sums(query, by_job=True)
    assert [one.job_id for one in by_job if one.kind is UsageKind.WORK] == [held.job_id]
    assert [one.amounts.bytes_served for one in await everything(store, requester=Requester("bert"))] == [50]
    assert {one.dcc for one in await everything(store, dcc=Dcc("hubmap"))} == {"hubmap"}
    assert await store.usage.sums(UsageQuery(date(2000, 1, 1), date(2000, 1, 2))) == []


async def test_rows_only_grow_and_the_same_again_changes_nothing(store):
    today = (await store.usage.now()).date()
    for count in (100, 40, 100, 130, 130):
        await store.usage.record([served_row("p1", today, Requester("anne"), Dcc("4dn"), count)])
    await store.usage.record([served_row("p2", today, Requester("anne"), Dcc("4dn"), 5)])
    (one,) = await everything(store)
    assert one.amounts.bytes_served == 135


async def test_processes_that_write_the_same_row_at_once_do_not_lose_one(store):
    today = (await store.usage.now()).date()
    rows = [
        [served_row(f"p{n % 3}", today, Requester(f"r{m}"), Dcc("4dn"), n) for m in range(20)]
        for n in range(12)
    ]
    await asyncio.gather(*(store.usage.record(some) for some in rows))
    found = await everything(store)
    assert [one.amounts.bytes_served for one in found] == [9 + 10 + 11] * 20


async def test_a_workers_time_grows_until_it_has_ended(store):
    now = await store.usage.now()
    since = now - timedelta(seconds=50)
    floor = WorkerResources(WorkerSize(1024, 2048, 30), Capacity.ON_DEMAND, LaunchPurpose.FLOOR)

    async def see(seconds, *, ended=False):
        until = since + timedelta(seconds=seconds)
        await store.usage.record(worker_rows(WorkerTime(WORKER, floor, since, until, ended)))

    yesterday = now.date() - timedelta(days=1)
    await see(10)
    await see(41)
    assert await store.usage.open_workers(yesterday) == [WORKER]
    await see(40, ended=True)  # it was seen a moment longer than it lived
    await see(30)
    assert await store.usage.open_workers(yesterday) == []
    found = await everything(store)
    assert sum(one.amounts.worker_seconds for one in found) == 40
    assert sum(one.amounts.disk_milliseconds for one in found) == 400_000
    assert {(one.kind, one.purpose) for one in found} == {(UsageKind.WORKER, LaunchPurpose.FLOOR)}
    assert await everything(store, requester=Requester("")) == []


async def test_old_days_are_forgotten_the_oldest_first(store):
    days = [date(2020, 1, number) for number in (1, 2, 3)]
    await store.usage.record([served_row("p", day, Requester("anne"), Dcc("4dn"), 1) for day in days])
    assert await store.usage.forget(date(2020, 1, 3), 1) == 1
    assert [one.day for one in await everything(store)] == days[1:]
    assert await store.usage.forget(date(2020, 1, 3), 10) == 1
    assert await store.usage.forget(date(2020, 1, 3), 10) == 0
    assert [one.day for one in await everything(store)] == days[2:]


async def test_names_with_any_text_are_told_apart(store):
    today = (await store.usage.now()).date()
    names = [Requester(name) for name in ("ünal \x00", "a b", "a", "b", "a\nb", "2001:db8::/64", "")]
    await store.usage.record([served_row("p", today, name, Dcc("b"), 1) for name in names])
    await store.usage.record([served_row("p", today, Requester("a"), Dcc("b b"), 1)])
    found = await everything(store)
    assert sum(one.amounts.bytes_served for one in found) == len(names) + 1


async def test_a_retaken_attempt_is_counted_to_whom_the_job_is_queued_for(store):
    held = await at_work(store)
    job = await store.jobs.adopt(held.job_id, held.fence, Owner("other"), HOUR)
    assert job is None  # its lease is fresh: nothing was adopted
    moment: datetime = await store.usage.now()
    await store.jobs.release_workflow(held.job_id, held.fence, Status.FAILED, LOST)
    (one,) = await everything(store)
    assert one.requester == held.queued_for
    assert abs((one.day - moment.date()).days) <= 1
