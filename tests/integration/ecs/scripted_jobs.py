"""Jobs on the local cloud whose workers are stand-ins: what attempts on them say is the test's."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from gooseherd.control.dispatcher import Dispatcher
from gooseherd.control.executions import Executions
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.limits import AttemptBounds, Timing
from gooseherd.control.wakeups import Wakeups
from gooseherd.domain.attempt import AttemptId, AttemptSpec, Event, TemporaryCredentials
from gooseherd.domain.formats import BED
from gooseherd.domain.job import JobId, Owner, Requester, Submission
from gooseherd.domain.keys import Recipe, workflow_key
from gooseherd.domain.ports.fleet import Fleet, WorkerHandle
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.ports.worker import WorkerLink
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import SourceFile
from gooseherd.storage.memory import MemoryCache

RECIPE: Final = Recipe("tabix", "1", BED)


class ScriptedWorkers:
    """Talks to stand-in workers; a test says how attempts go by `watch_attempt`."""

    @asynccontextmanager
    async def connect(self, worker: WorkerHandle) -> AsyncIterator[WorkerLink]:
        yield self

    async def start_attempt(self, spec: AttemptSpec) -> None:
        return None

    def watch_attempt(self, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        raise NotImplementedError

    async def cancel_attempt(self, attempt: AttemptId) -> None:
        return None

    async def renew_credentials(self, attempt: AttemptId, credentials: TemporaryCredentials) -> None:
        return None

    async def keep(self, seconds: float) -> Mapping[str, Any]:
        return {}

    async def describe(self) -> Mapping[str, Any]:
        return {}


def submission(requester: Requester) -> Submission:
    """Of a new file."""
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
    return Submission(
        JobId(uuid.uuid4().hex), workflow_key(source.identity, RECIPE), source, RECIPE, Priority.NORMAL,
        requester,
    )  # fmt: skip


@asynccontextmanager
async def dispatching(jobs: JobStore, fleet: Fleet, workers: ScriptedWorkers) -> AsyncIterator[None]:
    """While the block lasts jobs are dispatched and followed; a failed attempt is tried again at once."""
    wakeups = Wakeups()
    executions = Executions(
        jobs=jobs,
        fleet=fleet,
        workers=workers,
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
    task = asyncio.create_task(dispatcher.loop.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await executions.drain(5)
