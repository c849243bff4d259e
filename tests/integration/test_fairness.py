"""One requester with many files, one with many slow ones, and a third: whose turn comes when."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event
from tests.doubles import FleetDouble, Machine, WorkersDouble

from gooseherd.control.dispatcher import Dispatcher
from gooseherd.control.executions import Executions
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.limits import AttemptBounds, Timing
from gooseherd.control.queue_statistics import QueueStatistics
from gooseherd.control.wakeups import Wakeups
from gooseherd.domain import formats
from gooseherd.domain.attempt import AttemptId, Event, EventKind
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import Job, JobId, Owner, Requester, Submission
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.ports.fleet import Capacity
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.storage.memory import MemoryCache
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.sqlite import open_sqlite

pytestmark = pytest.mark.integration

MANY, SLOW, THIRD = Requester("many"), Requester("slow"), Requester("third")
RECIPE = Recipe("bam-index", "1", formats.BAM)
WORKERS = 2
FILES = 500


class TwoWorkers(FleetDouble, WorkersDouble):
    """Files of `slow` never end; those of others fail soon, which frees the worker like any end."""

    def __init__(self) -> None:
        machine: Machine = {}
        FleetDouble.__init__(self, machine, max_workers=WORKERS)
        WorkersDouble.__init__(self, machine, self._script)

    @property
    def order(self) -> list[JobId]:
        """As attempts were started."""
        return [attempt.job_id for attempt in self.started]

    async def _script(self, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        yield Event(1, EventKind.ACCEPTED, 0.0)
        if attempt.job_id.startswith(SLOW):
            await asyncio.Event().wait()
        await asyncio.sleep(0.02)
        yield Event(2, EventKind.FAILED, 0.0, reason=Reason.SOURCE_INVALID, detail="no reads")


def executions_on(fleet: TwoWorkers | ManyWorkers, jobs: SqlJobs, wakeups: Wakeups) -> Executions:
    minutes = timedelta(minutes=10)
    return Executions(
        jobs=jobs,
        fleet=fleet,
        workers=fleet,
        cache=MemoryCache(),
        finalizers=Finalizers(),
        wakeups=wakeups,
        owner=Owner("one"),
        timing=Timing(lease=minutes, heartbeat=minutes, attempt_cap=minutes, silence=minutes),
        bounds=AttemptBounds(1 << 30, 1 << 30, "build"),
    )


async def submit(jobs: SqlJobs, requester: Requester, count: int, priority: Priority) -> list[Job]:
    made = []
    for number in range(count):
        name = f"{requester}-{number:03}"
        source = SourceFile(
            Dcc("4dn"),
            LocalId(name),
            f"{name}.bam",
            formats.BAM,
            "https://example.org/x",
            md5=f"{number:032x}",
        )
        wanted = Submission(JobId(name), WorkflowKey(name), source, RECIPE, priority, requester)
        made.append((await jobs.claim_workflow(wanted)).job)
    return made


async def test_a_third_file_starts_next_beside_500_files_of_one_and_500_slow_ones_of_another(
    tmp_path: Path,
) -> None:
    database = await open_sqlite(tmp_path / "store.sqlite", setting="X")
    jobs, fleet, wakeups = SqlJobs(database), TwoWorkers(), Wakeups()
    limit = WORKERS - 1
    executions = executions_on(fleet, jobs, wakeups)
    dispatcher = Dispatcher(
        jobs=jobs,
        fleet=fleet,
        executions=executions,
        wakeups=wakeups,
        running_limit=limit,
        tick_seconds=0.2,
    )
    queue = QueueStatistics(jobs, running_limit=limit, fresh_seconds=0)
    await submit(jobs, SLOW, FILES, Priority.INTERACTIVE)
    await submit(jobs, MANY, FILES, Priority.BATCH)
    running = asyncio.create_task(dispatcher.loop.run())
    try:
        await _until(lambda: len(fleet.order) >= 10)
        (third,) = await submit(jobs, THIRD, 1, Priority.INTERACTIVE)
        before = len(fleet.order)
        wakeups.work.notify()
        await _until(lambda: third.job_id in fleet.order)
        overtaken_by = fleet.order[before : fleet.order.index(third.job_id)]
        ahead = await jobs.due(40, [SLOW])
        told = {job.job_id: await queue.place(job) for job in ahead}
        blocked = await queue.place((await jobs.due(1))[0])
        await _until(lambda: all(job.job_id in fleet.order for job in ahead))
        order = fleet.order
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await executions.drain(0)
        await database.close()
    # In starts, whatever the machine's pace: a worker promised before it came is not taken back.
    assert len(overtaken_by) <= WORKERS
    # Slow files have one worker and no more, and who waits behind that is told so.
    assert [job_id for job_id in order if job_id.startswith(SLOW)] == ["slow-000"]
    assert blocked is not None
    assert (blocked.at_limit, blocked.wait_seconds) == (True, None)
    # No order is told that did not happen.
    waited = [job_id for job_id, place in told.items() if place is not None]
    assert len(waited) >= 20
    assert sorted(waited, key=order.index) == waited
    positions = [
        place.position for place in told.values() if place is not None and place.position is not None
    ]
    assert positions[0] <= WORKERS
    assert max(positions) < FILES


class ManyWorkers(FleetDouble, WorkersDouble):
    """A hundred; the attempts on them go on."""

    def __init__(self, launch_seconds: float) -> None:
        machine: Machine = {}
        FleetDouble.__init__(self, machine, max_workers=100)
        WorkersDouble.__init__(self, machine, self._script)
        self._launch_seconds = launch_seconds

    def capacity(self) -> Capacity:
        return Capacity(self._launch_seconds)

    async def _script(self, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        yield Event(1, EventKind.ACCEPTED, 0.0)
        await asyncio.Event().wait()


@pytest.mark.parametrize("launch_seconds", [0.0, 60.0])
async def test_with_more_free_workers_than_jobs_that_fit_a_pass_leases_them_and_ends(
    tmp_path: Path, launch_seconds: float
) -> None:
    """Whoever is at the limit was passed over, and the rest of the queue read again and again."""
    database = await open_sqlite(tmp_path / "store.sqlite", setting="X")
    jobs, fleet, wakeups = SqlJobs(database), ManyWorkers(launch_seconds), Wakeups()
    executions = executions_on(fleet, jobs, wakeups)
    dispatcher = Dispatcher(
        jobs=jobs, fleet=fleet, executions=executions, wakeups=wakeups, running_limit=8, tick_seconds=60
    )
    await submit(jobs, MANY, 20, Priority.INTERACTIVE)
    for number in range(40):
        await submit(jobs, Requester(f"other-{number:02}"), 1, Priority.INTERACTIVE)
    try:
        for _ in range(2):  # The second one does not look as far into the queue.
            async with asyncio.timeout(60):
                await dispatcher.loop.run_once()
        running = Counter(job.queued_for for job in await jobs.at_work())
    finally:
        await executions.drain(0)
        await database.close()
    assert running.pop(MANY) == 8
    assert list(running.values()) == [1] * 40


async def test_who_polls_for_a_job_does_not_count_the_queue(tmp_path: Path) -> None:
    """Counting takes the longer the more wait, and every client that waits asks again and again."""
    database = await open_sqlite(tmp_path / "store.sqlite", setting="X")
    jobs = SqlJobs(database)
    first, second = await submit(jobs, MANY, 2, Priority.NORMAL)
    statements: list[str] = []
    event.listen(
        database._engine, "before_cursor_execute", lambda *of_call: statements.append(of_call[2].lower())
    )
    queue = QueueStatistics(jobs)
    places = [await queue.place(job) for job in (first, second)]
    assert [place.position for place in places if place is not None] == [0, 1]
    assert not [statement for statement in statements if "group by" in statement]
    await queue.snapshot()
    assert [statement for statement in statements if "group by" in statement]
    await database.close()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what is looked at has no event of its own
            await asyncio.sleep(0.01)
