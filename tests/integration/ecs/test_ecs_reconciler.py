"""The reconciler on the local cloud: orphans end, everybody else is left alone, stranded jobs go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from gooseherd.control.dispatcher import Dispatcher
from gooseherd.control.executions import Executions
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.limits import AttemptBounds, Timing
from gooseherd.control.reaper import Reaper, ReaperLimits
from gooseherd.control.reconciler import Cause, Reconciler, ReconcilerLimits, ShortenLease, StopWorker
from gooseherd.control.wakeups import Wakeups
from gooseherd.devcloud.faults import Kind
from gooseherd.domain.attempt import Event, EventKind
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.formats import BED
from gooseherd.domain.job import Job, JobId, Owner, Requester, Submission
from gooseherd.domain.keys import Recipe, workflow_key
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.ports.worker import WorkerLink
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import Status
from gooseherd.storage.memory import MemoryCache
from gooseherd.store.mongo.jobs import MongoJobs

pytestmark = [pytest.mark.integration, pytest.mark.fault]

HOUR = timedelta(hours=1)
NO_GRACE = timedelta(0)
KILLED = Owner("a process that was killed")
RECIPE = Recipe("tabix", "1", BED)
BROKEN = Failure(Reason.SOURCE_INVALID, "line 3")


@pytest.fixture
def jobs(database) -> MongoJobs:
    return MongoJobs(database)


def reconciler(jobs: JobStore, fleet, *, orphan_grace: timedelta = NO_GRACE, **more) -> Reconciler:
    limits = ReconcilerLimits(timedelta(0), orphan_grace, observation_gap=timedelta(seconds=0.1))
    return Reconciler(jobs=jobs, fleet=fleet, limits=limits, tick_seconds=0.1, **more)


async def leased(site, jobs: JobStore, name: str) -> Job:
    """A job under an hour's lease of a process that says nothing more."""
    source = SourceFile.from_json(
        {"dcc": "d", "local_id": name, "access_url": f"https://example.org/{name}.bed", "file_format": "bed"}
    )
    job_id = site.need(name).attempt.job_id
    key = workflow_key(source.identity, RECIPE)
    claim = await jobs.claim_workflow(
        Submission(job_id, key, source, RECIPE, Priority.NORMAL, Requester("me"))
    )
    job = await jobs.lease(claim.job, KILLED, HOUR)
    assert job is not None
    return job


async def on_a_worker(site, jobs: JobStore, fleet, name: str) -> tuple[Job, str]:
    job = await leased(site, jobs, name)
    worker = await fleet.acquire(site.need(name))
    await jobs.assign_worker(job.job_id, job.fence, worker.worker_id)
    return job, worker.worker_id


async def test_an_orphan_of_a_killed_process_is_stopped_after_its_grace_and_nobody_else(site, jobs) -> None:
    killed, here = site.fleet(), site.fleet()
    orphan, (over, reused), (_, busy) = await asyncio.gather(
        killed.acquire(site.need("nobody", 3)),
        on_a_worker(site, jobs, killed, "over"),
        on_a_worker(site, jobs, killed, "busy"),
    )
    await jobs.release_workflow(over.job_id, over.fence, Status.FAILED, BROKEN)
    await killed.release(reused, reusable=True)

    patient = await reconciler(jobs, here, orphan_grace=HOUR).run_once()
    assert (patient.seen, patient.planned) == (True, ())

    eager = reconciler(jobs, here)
    async with asyncio.timeout(60):
        while len(site.live()) > 1:
            report = await eager.loop.run_once()
            assert report.seen
            assert len(report.planned) <= 1  # A fifth of three is one.
            await asyncio.sleep(0.05)
    assert [task["id"] for task in site.live()] == [busy]
    assert "orphan: no job named it for" in await here.gone(orphan.worker_id)


async def test_a_dry_run_tells_and_stops_nothing(site, jobs) -> None:
    fleet = site.fleet()
    worker = await site.fleet().acquire(site.need("nobody"))
    _, busy = await on_a_worker(site, jobs, site.fleet(), "busy")
    report = await reconciler(jobs, fleet).run_once(dry_run=True)
    [result] = report.planned
    assert isinstance(result, StopWorker)
    assert (result.worker.worker_id, result.cause) == (worker.worker_id, Cause.ORPHAN)
    assert {task["id"] for task in site.live()} == {worker.worker_id, busy}


async def test_two_reconcilers_at_once_do_no_more_than_one(site, jobs) -> None:
    await site.fleet().acquire(site.need("nobody"))
    _, busy = await on_a_worker(site, jobs, site.fleet(), "busy")
    reports = await asyncio.gather(*(reconciler(jobs, site.fleet()).run_once() for _ in range(2)))
    assert all(report.seen and not report.errors for report in reports)
    await site.until(lambda: [task["id"] for task in site.live()] == [busy])


async def test_a_worker_that_got_a_job_since_it_was_looked_at_is_left_alone(site, jobs) -> None:
    fleet = site.fleet()
    worker = await site.fleet().acquire(site.need("late"))
    late: list[Job] = []

    class LeasedLate:
        """The store, in which a job is leased right after it was looked up and not found."""

        def __getattr__(self, name: str) -> Any:
            return getattr(jobs, name)

        async def get(self, job_id: JobId) -> Job | None:
            result: Job | None = await jobs.get(job_id)
            if planned and not late:
                late.append(await leased(site, jobs, "late"))
            return result

    careful = reconciler(LeasedLate(), fleet)
    planned = False
    assert len((await careful.run_once(dry_run=True)).planned) == 1
    planned = True
    report = await careful.loop.run_once()
    assert (len(report.planned), report.lost_races, report.errors) == (1, 1, 0)
    assert [task["id"] for task in site.live()] == [worker.worker_id]
    assert [job.attempt for job in late] == [1]


async def test_while_the_fleet_cannot_be_seen_nothing_is_stopped(site, jobs) -> None:
    worker = await site.fleet().acquire(site.need("nobody"))
    fleet = site.fleet(survey_timeout=5.0)
    eager = reconciler(jobs, fleet)
    assert len((await eager.run_once(dry_run=True)).planned) == 1
    site.cloud_admin.hide_fleet(60.0)
    async with asyncio.timeout(60):
        # What was seen lately counts for a while.
        while (await eager.loop.run_once(dry_run=True)).seen:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    report = await eager.loop.run_once()
    assert (report.seen, report.planned) == (False, ())
    site.cloud_admin.clear()
    assert [task["id"] for task in site.live()] == [worker.worker_id]


async def test_an_unhealthy_worker_without_a_job_is_stopped(site, jobs) -> None:
    site.cloud_admin.spoil_tasks(Kind.NEVER_HEALTHY, times=2)
    over, unhealthy = await on_a_worker(site, jobs, site.fleet(), "over")
    _, busy = await on_a_worker(site, jobs, site.fleet(), "busy")
    await jobs.release_workflow(over.job_id, over.fence, Status.FAILED, BROKEN)
    fleet = site.fleet()
    patient = reconciler(jobs, fleet, orphan_grace=HOUR)
    async with asyncio.timeout(60):
        while unhealthy in {task["id"] for task in site.live()}:
            await patient.loop.run_once()
            await asyncio.sleep(0.05)
    assert [task["id"] for task in site.live()] == [busy]


class Deaf:
    """Workers that take every order and say nothing."""

    @asynccontextmanager
    async def connect(self, worker: WorkerHandle) -> AsyncIterator[WorkerLink]:
        yield self

    async def start_attempt(self, spec) -> None: ...

    async def cancel_attempt(self, attempt) -> None: ...

    async def watch_attempt(self, attempt, from_seq) -> AsyncIterator[Event]:
        await asyncio.Event().wait()
        yield Event(1, EventKind.ACCEPTED, 0.0)

    async def renew_credentials(self, attempt, credentials) -> None: ...

    async def keep(self, seconds) -> Mapping[str, Any]:
        return {}

    async def describe(self) -> Mapping[str, Any]:
        return {}


async def test_a_job_whose_task_stopped_goes_on_long_before_its_lease_would_have_run_out(site, jobs) -> None:
    job, first = await on_a_worker(site, jobs, site.fleet(), "stranded")
    other, _ = await on_a_worker(site, jobs, site.fleet(), "busy")
    site.cloud_admin.kill(first)
    await site.until(lambda: first not in {task["id"] for task in site.live()})

    fleet, wakeups = site.fleet(), Wakeups()
    executions = Executions(
        jobs=jobs,
        fleet=fleet,
        workers=Deaf(),
        cache=MemoryCache(),
        finalizers=Finalizers(),
        wakeups=wakeups,
        owner=Owner("here"),
        timing=Timing(HOUR, HOUR, HOUR, HOUR, backoff_scale=0.0),
        bounds=AttemptBounds(1 << 30, 1 << 30, "b1"),
    )
    dispatcher = Dispatcher(
        jobs=jobs, fleet=fleet, executions=executions, wakeups=wakeups, running_limit=9, tick_seconds=0.1
    )
    reaper = Reaper(
        jobs=jobs,
        executions=executions,
        finalizers=Finalizers(),
        wakeups=wakeups,
        limits=ReaperLimits(),
        tick_seconds=600,
    )
    keeper = reconciler(jobs, fleet, orphan_grace=HOUR, follows=executions.follows, unowned=wakeups.unowned)
    loops = [asyncio.create_task(each.loop.run()) for each in (dispatcher, reaper, keeper)]
    try:
        async with asyncio.timeout(60):
            while (again := await jobs.get(job.job_id)) is None or again.worker_id in (None, first):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await executions.drain(0)
    assert (again.status, again.attempt, again.lease.owner) == (Status.RUNNING, 2, "here")
    lost = again.attempts[0]
    assert (lost.reason, lost.worker_id) == (Reason.WORKER_LOST, first)
    assert "killed (137, SIGKILL)" in lost.detail
    untouched = await jobs.get(other.job_id)
    assert (untouched.fence, untouched.lease.owner) == (other.fence, KILLED)


async def test_a_job_that_lost_its_task_is_told_in_a_dry_run(site, jobs) -> None:
    job, worker = await on_a_worker(site, jobs, site.fleet(), "stranded")
    site.cloud_admin.kill(worker)
    await site.until(lambda: not site.live())
    report = await reconciler(jobs, site.fleet()).run_once(dry_run=True)
    [result] = report.planned
    assert isinstance(result, ShortenLease)
    assert (result.job_id, result.worker_id) == (JobId(job.job_id), worker)
    assert "killed (137, SIGKILL)" in result.diagnosis
    assert await jobs.unowned(9) == []
