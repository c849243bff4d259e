"""A whole job on the local cloud whose first attempt runs out of memory: RunTask is told a larger size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.integration.ecs.scripted_jobs import ScriptedWorkers, dispatching, submission

from gooseherd.domain.attempt import AttemptId, Event, EventKind
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import Job, Requester
from gooseherd.fleet.sizes import SizeBounds
from gooseherd.store.mongo.connect import Database
from gooseherd.store.mongo.jobs import MongoJobs

pytestmark = pytest.mark.integration


class Starved(ScriptedWorkers):
    """Attempts run out of memory."""

    async def watch_attempt(self, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        yield Event(1, EventKind.FAILED, 0.0, reason=Reason.OUT_OF_MEMORY, detail="sort ran out of memory")


async def ended(site: Any, database: Database, **options: Any) -> Job:
    """A new job, followed to its end."""
    jobs = MongoJobs(database)
    claim = await jobs.claim_workflow(submission(Requester("me")))
    async with dispatching(jobs, site.fleet(**options), Starved()), asyncio.timeout(60):
        while True:
            job = await jobs.get(claim.job.job_id)
            if job is not None and job.status.terminal:
                return job
            await asyncio.sleep(0.05)


async def memory_of(site: Any, job: Job) -> list[str]:
    """As RunTask was told, attempt by attempt."""
    workers = [attempt.worker_id for attempt in job.attempts]
    tasks = (await site.api().describe_tasks(workers)).tasks
    return [tasks[worker].payload["overrides"]["memory"] for worker in workers]


async def test_the_second_attempt_runs_on_the_next_size(site, database: Database) -> None:
    job = await ended(site, database)
    assert [attempt.reason for attempt in job.attempts] == [Reason.OUT_OF_MEMORY] * 2
    assert await memory_of(site, job) == ["2048", "4096"]


async def test_without_a_next_size_there_is_no_second_attempt(site, database: Database) -> None:
    job = await ended(site, database, bounds=SizeBounds(most_memory_mib=2048))
    assert await memory_of(site, job) == ["2048"]
    assert job.reason is Reason.OUT_OF_MEMORY
    assert "ECS_WORKER_MAX_MEMORY_MIB" in job.detail
