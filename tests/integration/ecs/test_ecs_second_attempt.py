"""A whole job on the local cloud whose first attempt runs out of memory: RunTask is told a larger size."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from gooseherd.control.dispatcher import Dispatcher
from gooseherd.control.executions import Executions
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.limits import AttemptBounds, Timing
from gooseherd.control.wakeups import Wakeups
from gooseherd.domain.attempt import AttemptId, AttemptSpec, Event, EventKind, TemporaryCredentials
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import BED
from gooseherd.domain.job import Job, JobId, Owner, Requester, Submission
from gooseherd.domain.keys import Recipe, workflow_key
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.domain.ports.worker import WorkerLink
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import SourceFile
from gooseherd.fleet.sizes import SizeBounds
from gooseherd.storage.memory import MemoryCache
from gooseherd.store.mongo.connect import Database
from gooseherd.store.mongo.jobs import MongoJobs

pytestmark = pytest.mark.integration

RECIPE = Recipe("tabix", "1", BED)


class Starved:
    """Talks to stand-in workers whose attempts run out of memory."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @asynccontextmanager
    async def connect(self, worker: WorkerHandle) -> AsyncIterator[WorkerLink]:
        self.asked.append(worker.worker_id)
        yield self

    async def start_attempt(self, spec: AttemptSpec) -> None:
        return None

    async def watch_attempt(self, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        yield Event(1, EventKind.FAILED, 0.0, reason=Reason.OUT_OF_MEMORY, detail="sort ran out of memory")

    async def cancel_attempt(self, attempt: AttemptId) -> None:
        return None

    async def renew_credentials(self, attempt: AttemptId, credentials: TemporaryCredentials) -> None:
        return None

    async def keep(self, seconds: float) -> Mapping[str, Any]:
        return {}

    async def describe(self) -> Mapping[str, Any]:
        return {}


async def ended(site: Any, database: Database, **options: Any) -> Job:
    """A new job, followed to its end."""
    jobs, wakeups, fleet = MongoJobs(database), Wakeups(), site.fleet(**options)
    executions = Executions(
        jobs=jobs,
        fleet=fleet,
        workers=Starved(),
        cache=MemoryCache(),
        finalizers=Finalizers(),
        wakeups=wakeups,
        owner=Owner("one"),
        timing=Timing(
            lease=timedelta(seconds=60),
            heartbeat=timedelta(seconds=10),
            attempt_cap=timedelta(seconds=60),
            silence=timedelta(seconds=30),
            backoff_scale=0.0,
        ),
        bounds=AttemptBounds(1 << 30, 1 << 30, "b1"),
    )
    dispatcher = Dispatcher(
        jobs=jobs, fleet=fleet, executions=executions, wakeups=wakeups, running_limit=9, tick_seconds=0.1
    )
    source = SourceFile.from_json(
        {
            "dcc": "d",
            "local_id": uuid.uuid4().hex,
            "filename": "x.bed",
            "access_url": "https://example.org/x.bed",
            "file_format": "bed",
            "size_in_bytes": 1000,
            "md5": uuid.uuid4().hex,
        }
    )
    claim = await jobs.claim_workflow(
        Submission(
            job_id=JobId(uuid.uuid4().hex),
            workflow_key=workflow_key(source.identity, RECIPE),
            source=source,
            recipe=RECIPE,
            priority=Priority.NORMAL,
            requester=Requester("me"),
        )
    )
    dispatching = asyncio.create_task(dispatcher.loop.run())
    try:
        async with asyncio.timeout(60):
            while True:
                job = await jobs.get(claim.job.job_id)
                if job is not None and job.status.terminal:
                    return job
                await asyncio.sleep(0.05)
    finally:
        dispatching.cancel()
        await asyncio.gather(dispatching, return_exceptions=True)
        await executions.drain(5)


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
