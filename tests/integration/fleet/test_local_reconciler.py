"""The reconciler over local processes: the same rules, another fleet."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta

import pytest

from gooseherd.control.reconciler import Reconciler, ReconcilerLimits, StopWorker
from gooseherd.domain.job import Owner, Requester, Submission
from gooseherd.domain.keys import workflow_key
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.domain.queueing import Priority
from gooseherd.store.mongo.jobs import MongoJobs

pytestmark = pytest.mark.integration


def reconciler(jobs, fleet) -> Reconciler:
    limits = ReconcilerLimits(timedelta(0), timedelta(0), observation_gap=timedelta(seconds=0.1))
    return Reconciler(jobs=jobs, fleet=fleet, limits=limits, tick_seconds=0.1)


async def at_work(yard, fleet, spec) -> WorkerHandle:
    worker: WorkerHandle = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        await link.start_attempt(spec)
    return worker


async def leased(jobs, spec, worker):
    key = workflow_key(spec.source.identity, spec.recipe)
    wanted = Submission(spec.attempt.job_id, key, spec.source, spec.recipe, Priority.NORMAL, Requester("me"))
    claim = await jobs.claim_workflow(wanted)
    job = await jobs.lease(claim.job, Owner("somebody"), timedelta(hours=1))
    assert job is not None
    await jobs.assign_worker(job.job_id, job.fence, worker.worker_id)
    return job


async def test_a_worker_with_an_attempt_nobody_wants_is_stopped_and_no_other(yard, database) -> None:
    fleet, jobs = yard.fleet(max_workers=3), MongoJobs(database)
    forgotten, wanted, idle = yard.spec("hold"), yard.spec("hold"), yard.spec("quick")
    orphan, busy, warm = await asyncio.gather(
        at_work(yard, fleet, forgotten), at_work(yard, fleet, wanted), fleet.acquire(yard.need(idle))
    )
    await leased(jobs, wanted, busy)
    await fleet.release(warm.worker_id, reusable=True)
    report = await reconciler(jobs, yard.fleet(max_workers=3)).run_once()
    [stop] = report.planned
    assert isinstance(stop, StopWorker)
    assert stop.worker.worker_id == orphan.worker_id
    assert not report.errors
    assert {view.worker_id for view in await fleet.view()} == {busy.worker_id, warm.worker_id}


async def test_a_job_whose_worker_died_with_its_launcher_is_given_to_the_reaper(yard, database) -> None:
    fleet, jobs, spec = yard.fleet(), MongoJobs(database), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    job = await leased(jobs, spec, worker)
    here = yard.fleet()
    dying = asyncio.create_task(here.gone(worker.worker_id))
    assert not (await asyncio.wait({dying}, timeout=0.3))[0]
    yard.entry(worker).process.signal(signal.SIGKILL)
    await dying
    report = await reconciler(jobs, here).run_once()
    assert (len(report.planned), report.errors) == (1, 0)
    [unowned] = await jobs.unowned(9)
    assert unowned.current_attempt is not None
    assert unowned.current_attempt.detail.startswith("worker process")
    assert (unowned.status, unowned.fence) == (job.status, job.fence)
