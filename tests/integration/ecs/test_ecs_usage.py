"""Usage on the local cloud: attempts, idle time and a Spot reclaim add up to what the fleet ran."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.ecs.scripted_jobs import ScriptedWorkers, dispatching, submission

from gooseherd.control.usage import ServedBytes, UsageRecorder, UsageReports
from gooseherd.domain.attempt import AttemptId, Event, EventKind
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import Job, JobId, Requester
from gooseherd.domain.usage import UsageQuery
from gooseherd.domain.usage_report import GroupBy, Prices
from gooseherd.fleet.provisioner import Placement
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.sqlite import open_sqlite
from gooseherd.store.sql.usage import SqlUsage

pytestmark = pytest.mark.integration

ANNE, BERT = Requester("anne"), Requester("bert")


class Hanging(ScriptedWorkers):
    """Attempts of the long job hang the first time, others fail after a moment."""

    def __init__(self) -> None:
        self.long_job: JobId | None = None

    async def watch_attempt(self, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        yield Event(1, EventKind.PROGRESS, 0.0, bytes_in=1000)
        if self.long_job is not None and attempt == AttemptId(self.long_job, 1):
            await asyncio.Event().wait()
        await asyncio.sleep(0.3)
        yield Event(2, EventKind.FAILED, 0.0, reason=Reason.SOURCE_INVALID, detail="not a BED", bytes_in=1000)


@pytest.mark.slow
async def test_usage_adds_up_to_what_the_fleet_ran_with_two_requesters_and_a_spot_reclaim(
    site: Any, tmp_path: Path
) -> None:
    database = await open_sqlite(tmp_path / "gooseherd.db", setting="X")
    jobs, usage, workers = SqlJobs(database), SqlUsage(database), Hanging()
    fleet = site.fleet(placement=Placement.SPOT, max_workers=2)
    recorder = UsageRecorder(usage=usage, fleet=fleet, served=ServedBytes("p"), keep=None, tick_seconds=60)
    reports = UsageReports(usage, jobs, Prices())
    lost, ours, theirs = submission(ANNE), submission(ANNE), submission(BERT)
    workers.long_job = lost.job_id
    for one in (lost, theirs, ours):
        await jobs.claim_workflow(one)

    async def read(job_id: JobId) -> Job:
        job = await jobs.get(job_id)
        assert job is not None
        return job

    async def until(condition: Any) -> Any:
        for _ in range(1200):
            if found := await condition():
                return found
            await asyncio.sleep(0.05)
        raise AssertionError("not in time")

    async def hanging() -> str | None:
        job = await read(lost.job_id)
        return job.worker_id if job.progress.bytes_in else None

    async def all_ended() -> bool:
        found = [await read(one.job_id) for one in (lost, ours, theirs)]
        return all(job.status.terminal for job in found)

    async with dispatching(jobs, fleet, workers):
        worker_id = await until(hanging)
        assert (await recorder.loop.run_once()).errors == 0
        site.cloud_admin.reclaim(worker_id)
        await until(all_ended)
        assert (await recorder.loop.run_once()).errors == 0
    # Whoever is left is stopped, and another process, whose fleet has never seen them, records that.
    for task in site.live():
        await fleet.stop(task["id"], "the test is over")
    await site.until(lambda: not site.live(), "all stopped")
    another = UsageRecorder(
        usage=usage, fleet=site.fleet(max_workers=2), served=ServedBytes("q"), keep=None, tick_seconds=60
    )
    for _ in range(2):  # again changes nothing
        assert (await another.loop.run_once()).errors == 0

    api = site.api()
    ids = [task["id"] for task in site.tasks()]
    tasks = [task.payload for task in (await api.describe_tasks(ids)).tasks.values()]
    ran = sum((task["stoppedAt"] - task["pullStartedAt"]).total_seconds() for task in tasks)
    today = await reports.today()
    query = UsageQuery(today - timedelta(days=1), today)
    found = await reports.report(query, {GroupBy.REQUESTER, GroupBy.CAPACITY})
    assert found.total.worker_seconds == pytest.approx(ran, abs=0.002 * len(tasks))
    by_requester = {line.group[GroupBy.REQUESTER]: line for line in found.used}
    assert {name: line.amounts.attempts for name, line in by_requester.items()} == {"anne": 3, "bert": 1}
    assert by_requester[ANNE].amounts.bytes_in == 3000
    assert {line.group[GroupBy.CAPACITY] for line in found.used} == {"spot"}
    ended = await read(lost.job_id)
    assert [attempt.reason for attempt in ended.attempts] == [Reason.WORKER_LOST, Reason.SOURCE_INVALID]
    died = ended.attempts[0].worked_until
    stopped = next(task["stoppedAt"] for task in tasks if task["taskArn"].endswith(worker_id))
    assert died is not None
    assert abs((died - stopped).total_seconds()) < 0.002
    vcpu_hours = found.total.vcpu_seconds / 3600
    assert found.cost == pytest.approx(
        vcpu_hours * 0.04048 * 0.3
        + found.total.memory_gb_seconds / 3600 * 0.004445 * 0.3
        + found.total.disk_gb_seconds / 3600 * 0.000111
    )
    assert sum(line.amounts.worker_seconds for line in found.idle) > 0
    await database.close()
