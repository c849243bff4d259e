"""How long a job may wait in the queue: what it waited before a worker had it counts no more."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.conftest import StoreUnderTest
from tests.contract.test_job_store import ANNE, HERE, LONG, submission

from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import JobId
from gooseherd.domain.ports.store import JobStore

pytestmark = pytest.mark.integration

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


async def requeued(jobs: JobStore, name: str, *reasons: Reason) -> None:
    """A job that waits again, after attempts that ended so."""
    job = (await jobs.claim_workflow(submission(name, job_id=name))).job
    for reason in reasons:
        held = await jobs.lease(job, HERE, LONG)
        assert held is not None
        job = await jobs.requeue(held.job_id, held.fence, Failure(reason, "so it ended"), timedelta(0))


async def expired(store: StoreUnderTest, limit: int = 9) -> list[JobId]:
    """Of jobs that are all a day old: those that have waited for an hour."""
    now = await store.jobs.now()
    await store.set_created_at(now - DAY)
    return sorted(job.job_id for job in await store.jobs.expire(now - HOUR, limit))


async def test_a_job_whose_worker_was_drained_waits_anew(store: StoreUnderTest) -> None:
    await requeued(store.jobs, "ran", Reason.WORKER_DRAINED)
    assert await expired(store) == []
    (ended,) = await store.jobs.expire(await store.jobs.now() + timedelta(seconds=1), 9)
    assert (ended.job_id, ended.reason) == ("ran", Reason.QUEUE_EXPIRED)


async def test_tries_that_got_no_worker_are_part_of_the_wait(store: StoreUnderTest) -> None:
    for reason in (Reason.NO_CAPACITY, Reason.LAUNCH_FAILED, Reason.LEASE_EXPIRED):
        await requeued(store.jobs, reason.value, reason, reason)
    await requeued(store.jobs, "ran", Reason.WORKER_LOST, Reason.LAUNCH_FAILED)
    assert await expired(store) == ["launch_failed", "lease_expired", "no_capacity"]


async def test_jobs_that_wait_anew_hide_none_that_waited_too_long(store: StoreUnderTest) -> None:
    for number in range(5):
        await requeued(store.jobs, f"a{number}", Reason.SOURCE_UNAVAILABLE)
    for number in range(3):
        await requeued(store.jobs, f"b{number}")
    assert len(await expired(store, 2)) == 2
    assert len(await expired(store, 2)) == 1
    assert await expired(store, 2) == []
    assert await store.jobs.pending_of(ANNE, 99) == 5
