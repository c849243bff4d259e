"""kill -9 of writers and of the server in mid-write: what was acknowledged is there, and nothing is torn."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from gooseherd.devcloud.postgres import PostgresServer
from gooseherd.domain.errors import Misconfigured, StoreUnavailable
from gooseherd.domain.job import JobId
from gooseherd.domain.source import Dcc, LocalId
from gooseherd.domain.states import Status
from gooseherd.store.sql.connect import open_database
from gooseherd.store.sql.database import SqlDatabase, Transaction, ping
from gooseherd.store.sql.files import SqlFiles
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.schema import job_requesters, jobs

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(240)]

WRITER = """
import asyncio, sys
from datetime import timedelta
from gooseherd.domain import formats
from gooseherd.domain.errors import LeaseLost, StoreUnavailable
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import JobId, Owner, Requester, Submission, WorkerId
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.domain.states import Status
from gooseherd.store.sql.connect import open_database
from gooseherd.store.sql.files import SqlFiles
from gooseherd.store.sql.jobs import SqlJobs

URL, ME = sys.argv[1], sys.argv[2]
LONG = timedelta(hours=1)

def entry(name):
    return SourceFile(Dcc("4dn"), LocalId(name), f"reads_{name}.bam", formats.BAM, "https://example.org/f")

def tell(*words):
    print(*words, flush=True)

async def write(jobs, files, number):
    name = f"{ME}-{number}"
    await files.put([entry(f"{name}-{n}") for n in range(3)])
    tell("file", f"{name}-2")
    recipe = Recipe("bam", "1", formats.BAM)
    claim = await jobs.claim_workflow(
        Submission(JobId(name), WorkflowKey(name), entry(name), recipe, Priority.NORMAL, Requester(ME)))
    tell("job", name, "pending", 0)
    held = await jobs.lease(claim.job, Owner(ME), LONG)
    tell("job", name, "running", held.fence)
    await jobs.assign_worker(held.job_id, held.fence, WorkerId(name))
    await jobs.begin_finalize(held.job_id, held.fence, ["sort"])
    tell("job", name, "finalizing", held.fence)
    await jobs.finalize(held.job_id, held.fence, "d" * 64, [])
    tell("job", name, "completed", held.fence)

async def main():
    while True:
        try:
            database = await open_database(URL, "any")
            break
        except StoreUnavailable:
            await asyncio.sleep(0.1)
    jobs, files = SqlJobs(database), SqlFiles(database)
    async def lane(which):
        number = 0
        while True:
            number += 1
            try:
                await write(jobs, files, f"{which}-{number}")
            except (StoreUnavailable, LeaseLost, AttributeError):
                await asyncio.sleep(0.05)
    await asyncio.gather(*(lane(which) for which in range(3)))

asyncio.run(main())
"""

ORDER = [Status.PENDING, Status.RUNNING, Status.FINALIZING, Status.COMPLETED]


class Writers:
    """Processes that write and tell what was acknowledged, line by line."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.acknowledged: list[tuple[str, ...]] = []
        self._processes: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []
        self._started = 0
        self._news = asyncio.Condition()

    async def start(self) -> asyncio.subprocess.Process:
        self._started += 1
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WRITER, self.url, f"w{self._started}"), stdout=asyncio.subprocess.PIPE
        )
        self._processes.append(process)
        self._readers.append(asyncio.create_task(self._read(process)))
        return process

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.endswith(b"\n"):  # the last one may be half a line
                self.acknowledged.append(tuple(line.decode().split()))
                async with self._news:
                    self._news.notify_all()

    async def more(self, count: int) -> None:
        """Until so many more writes were acknowledged."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(100), self._news:
            await self._news.wait_for(lambda: len(self.acknowledged) >= wanted)

    async def kill_all(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await asyncio.gather(*self._readers)


@pytest.fixture
async def writers() -> AsyncIterator[Callable[[str], Writers]]:
    made: list[Writers] = []

    def make(url: str) -> Writers:
        made.append(Writers(url))
        return made[-1]

    yield make
    for one in made:
        await one.kill_all()


async def check(database: SqlDatabase, acknowledged: list[tuple[str, ...]]) -> None:
    """Everything acknowledged is there, or something later; every job is whole."""
    store, catalog = SqlJobs(database), SqlFiles(database)
    reached: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    names = set()
    for kind, name, *rest in acknowledged:
        if kind == "file":
            names.add(name)
        else:
            reached[name] = max(reached[name], (ORDER.index(Status(rest[0])), int(rest[1])))
    assert len(reached) > 10
    for name, (step, fence) in reached.items():
        job = await store.get(JobId(name))
        assert job is not None, name
        assert ORDER.index(job.status) >= step, name
        assert job.fence >= fence
    for name in names:
        assert await catalog.get(Dcc("4dn"), LocalId(name)) is not None, name

    def whole(tx: Transaction) -> None:
        requesters = {row.job_id: row for row in tx.connection.execute(select(job_requesters))}
        for row in tx.connection.execute(select(jobs)):
            ended = row.status == Status.COMPLETED
            assert row.active is not ended
            assert requesters[row.id].waiting is not ended
            assert (row.lease_owner is not None) == (row.status in (Status.RUNNING, Status.FINALIZING))
            assert len(row.attempts) == row.attempt == row.fence
            assert (row.finished_at is not None) == ended == bool(row.manifest_digest)
            assert row.steps_completed == (
                ["sort"] if row.status in (Status.FINALIZING, Status.COMPLETED) else []
            )
        if tx.dialect == "sqlite":
            assert tx.connection.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
            assert tx.connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
            check = "INSERT INTO file_words(file_words, rank) VALUES('integrity-check', 1)"
            tx.connection.execute(text(check))
        # Three entries of a batch are there, or none.
        count = tx.connection.scalar(text("SELECT count(*) FROM files"))
        assert count is not None
        assert count % 3 == 0

    await database.write("check", whole)


async def test_killed_writers_lose_nothing_and_tear_nothing(tmp_path: Path, writers):
    chance = random.Random(1)
    alive = writers(f"sqlite:///{tmp_path}/store.sqlite")
    for _ in range(6):
        doomed, other = await alive.start(), await alive.start()
        await alive.more(30 + chance.randrange(30))
        doomed.kill()
        await alive.more(10)  # the other one goes on, whatever the dead one held
        other.kill()
    await alive.kill_all()
    database = await open_database(alive.url, "any")
    await check(database, alive.acknowledged)
    await database.close()


@pytest.fixture
def server(needs: Any) -> Any:
    try:
        server = PostgresServer()
    except Misconfigured as error:
        needs.missing(str(error))
        raise
    server.start()
    yield server
    server.stop()


async def test_a_killed_server_loses_nothing_and_its_clients_go_on_when_it_is_back(server, writers):
    server.sql("CREATE DATABASE killed")
    alive = writers(server.url("killed"))
    await alive.start()
    doomed = await alive.start()
    for _ in range(3):
        await alive.more(60)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.start)
    await alive.more(30)
    doomed.kill()
    await alive.more(30)
    await alive.kill_all()
    database = await open_database(alive.url, "any")
    await check(database, alive.acknowledged)
    await database.close()


async def test_a_client_whose_server_was_restarted_does_not_notice(server):
    server.sql("CREATE DATABASE restarted")
    database = await open_database(server.url("restarted"), "any")
    await asyncio.gather(*(ping(database) for _ in range(8)))
    for _ in range(2):
        await asyncio.to_thread(server.kill)
        with pytest.raises(StoreUnavailable, match="ping"):
            await ping(database)
        await asyncio.to_thread(server.start)
        await SqlJobs(database).counts()
        assert await SqlFiles(database).put([]) == 0
        assert await SqlFiles(database).remove(Dcc("4dn"), LocalId("none")) is None
    await database.close()


async def test_a_primary_that_became_a_standby_is_left_for_the_new_one(server):
    server.sql("CREATE DATABASE demoted")
    database = await open_database(server.url("demoted"), "any")
    await ping(database)
    catalog = SqlFiles(database)
    server.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    server.sql("SELECT pg_reload_conf()")
    async with asyncio.timeout(30):
        with pytest.raises(StoreUnavailable, match="remove"):
            while True:  # until the open connections have heard of it
                await catalog.remove(Dcc("4dn"), LocalId("none"))
    server.sql("ALTER SYSTEM RESET default_transaction_read_only")
    server.sql("SELECT pg_reload_conf()")
    async with asyncio.timeout(30):
        while True:
            with suppress(StoreUnavailable):
                assert await catalog.remove(Dcc("4dn"), LocalId("none")) is None
                break
    await database.close()


async def test_a_server_that_hangs_is_unavailable_after_a_while(server, monkeypatch):
    monkeypatch.setattr("gooseherd.store.sql.postgres.COMMAND_SECONDS", 0.5)
    monkeypatch.setattr("gooseherd.store.sql.postgres.CONNECT_SECONDS", 0.5)
    server.sql("CREATE DATABASE hung")
    database = await open_database(server.url("hung"), "any")
    await ping(database)
    stopped = [server.pid, *_children(server.pid)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable, match="ping"):
            async with asyncio.timeout(60):
                await ping(database)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(60):
        while True:
            with suppress(StoreUnavailable):
                await ping(database)
                break
    await database.close()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
