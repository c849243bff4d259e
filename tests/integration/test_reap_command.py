"""`gooseherd reap` as a cron runs it: jobs whose API process has gone, and nobody else's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.doubles import FleetDouble, Machine, WorkerDouble, WorkersDouble
from typer.testing import CliRunner

from gooseherd.cli import app
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.attempt import AttemptId, Event, EventKind
from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.job import Job, JobId, Owner, Requester, Submission, WorkerId
from gooseherd.domain.keys import MANIFEST, Recipe, cache_key, workflow_key
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.domain.queueing import Priority
from gooseherd.domain.reservation import Purpose, Reservation, ReservationId, ReservationState
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.domain.states import Status
from gooseherd.settings import Settings
from gooseherd.storage.local import LocalFsCache
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.reservations import SqlReservations
from gooseherd.store.sql.schema import jobs as jobs_table
from gooseherd.store.sql.sqlite import open_sqlite

pytestmark = pytest.mark.integration

RECIPE = Recipe("bam-index", "1", formats.BAM)
OVER, LONG = timedelta(0), timedelta(hours=1)


@pytest.fixture
def reap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("WORKFLOW_FINALIZE_GRACE_SECONDS", "0")
    monkeypatch.setattr("gooseherd.logs.configure_logging", lambda **_: None)
    return lambda *options: CliRunner().invoke(app, ["reap", "--once", *options], prog_name="gooseherd")


def source(number: int) -> SourceFile:
    url = f"https://example.org/{number}.bam"
    return SourceFile(Dcc("4dn"), LocalId(f"f{number}"), "f.bam", formats.BAM, url, md5=f"{number:032x}")


def with_jobs(state: Path, work: Callable[[SqlJobs, Any], Awaitable[Any]]) -> Any:
    async def call() -> Any:
        database = await open_sqlite(state / "gooseherd.db", setting="X")
        try:
            return await work(SqlJobs(database), database)
        finally:
            await database.close()

    return asyncio.run(call())


async def left_behind(jobs: SqlJobs, number: int, ttl: timedelta = OVER) -> Job:
    """A job whose holder has gone while its attempt ran on a worker that has gone, too."""
    key = workflow_key(source(number).identity, RECIPE)
    wanted = Submission(JobId(f"j{number}"), key, source(number), RECIPE, Priority.NORMAL, Requester("anne"))
    job = (await jobs.claim_workflow(wanted)).job
    held = await jobs.lease(job, Owner("somebody"), ttl)
    assert held is not None
    await jobs.assign_worker(held.job_id, held.fence, WorkerId("w-gone"))
    return held


async def publish(state: Path, number: int) -> None:
    cache = LocalFsCache(state / "artifacts")
    data = cache_key(source(number).identity, RECIPE, "sorted.bam")
    await cache.put_if_absent(data, b"bytes")
    part = Part(Kind.DATA, data, 5, "0" * 64, "sorted.bam")
    manifest = Manifest(str(source(number).identity), "bam", "bam-index", "1", (part,))
    await cache.put_if_absent(cache_key(source(number).identity, RECIPE, MANIFEST), manifest.to_bytes())
    await cache.close()


def test_it_says_first_and_then_ends_what_nobody_owns(reap: Callable[..., Any], tmp_path: Path) -> None:
    async def prepare(jobs: SqlJobs, database: Any) -> None:
        await left_behind(jobs, 1)
        published = await left_behind(jobs, 2)
        await jobs.begin_finalize(published.job_id, published.fence)
        await publish(tmp_path, 2)
        await left_behind(jobs, 3, LONG)
        for number in (4, 5):
            key = workflow_key(source(number).identity, RECIPE)
            await jobs.claim_workflow(
                Submission(JobId(f"j{number}"), key, source(number), RECIPE, Priority.BATCH, Requester("b"))
            )
        old = jobs_table.update().where(jobs_table.c.id == "j4")
        long_ago = (await jobs.now()).replace(year=2020)
        await database.write("age", lambda tx: tx.connection.execute(old.values(created_at=long_ago)).close())

    async def look(jobs: SqlJobs, _: Any) -> dict[str, Job | None]:
        return {f"j{number}": await jobs.get(JobId(f"j{number}")) for number in range(1, 6)}

    with_jobs(tmp_path, prepare)
    before = with_jobs(tmp_path, look)
    dry = reap("--dry-run", "--json")
    assert (dry.exit_code, dry.stderr) == (0, "")
    report = json.loads(dry.stdout)
    assert (report["seen"], report["dry_run"], report["errors"]) == (True, True, 0)
    assert sorted((a["action"], a.get("job_id", "")) for a in report["actions"]) == [
        ("adopt_job", "j1"),
        ("adopt_job", "j2"),
        ("expire_queue", ""),
    ]
    assert with_jobs(tmp_path, look) == before

    done = reap("--wait", "30")
    assert done.exit_code == 0, done.stderr
    assert "adopt job j1: its lease ran out or was handed over" in done.stdout
    after = with_jobs(tmp_path, look)
    assert {name: job.status for name, job in after.items()} == {
        "j1": Status.PENDING,
        "j2": Status.COMPLETED,
        "j3": Status.RUNNING,
        "j4": Status.FAILED,
        "j5": Status.PENDING,
    }
    # Every attempt that ended says why, and who was left alone has the lease that it had.
    attempts = [attempt for job in after.values() for attempt in job.attempts]
    assert all((attempt.ended_at is None) == (attempt.reason is None) for attempt in attempts)
    assert after["j1"].attempts[-1].reason is not None
    assert after["j4"].reason == "queue_expired"
    assert after["j3"] == before["j3"]


def test_a_job_that_is_old_and_waits_anew_is_not_said_to_have_waited_too_long(
    reap: Callable[..., Any], tmp_path: Path
) -> None:
    async def prepare(jobs: SqlJobs, database: Any) -> None:
        job = await left_behind(jobs, 1, LONG)
        await jobs.requeue(job.job_id, job.fence, Failure(Reason.WORKER_LOST, "gone"), timedelta(0))
        long_ago = (await jobs.now()).replace(year=2020)
        old = jobs_table.update().values(created_at=long_ago)
        await database.write("age", lambda tx: tx.connection.execute(old).close())

    with_jobs(tmp_path, prepare)
    for options in (["--dry-run"], []):
        done = reap("--json", *options)
        assert (done.exit_code, json.loads(done.stdout)["actions"]) == (0, [])
    job = with_jobs(tmp_path, lambda jobs, _: jobs.get(JobId("j1")))
    assert job.status is Status.PENDING


def test_a_sessions_worker_is_left_to_its_session(
    reap: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped when its job had ended: the process that followed the job to its end leaves at once."""
    machine: Machine = {}
    fleet, worker = FleetDouble(machine), WorkerId("of-anne")

    async def ends(attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        yield Event(1, EventKind.FAILED, 0.0, reason=Reason.SOURCE_INVALID, detail="no reads")

    async def of_doubles(*_: Any) -> Any:
        return fleet, WorkersDouble(machine, ends)

    async def prepare(jobs: SqlJobs, database: Any) -> None:
        now, reservations = await jobs.now(), SqlReservations(database)
        wanted = Reservation(
            ReservationId("s"), Purpose.SESSION, Requester("anne"), 0, ReservationState.RESERVING, "b1",
            now, now, now,
        )  # fmt: skip
        made = await reservations.reserve(wanted, 1)
        assert made is not None
        ready = replace(made, state=ReservationState.READY, worker_id=worker, ready_at=now)
        assert await reservations.change(made, ready) is not None
        key = workflow_key(source(1).identity, RECIPE)
        wanted_job = Submission(JobId("j1"), key, source(1), RECIPE, Priority.NORMAL, Requester("anne"))
        job = (await jobs.claim_workflow(wanted_job)).job
        held = await jobs.lease(job, Owner("somebody"), OVER, 9, "s")
        assert held is not None
        await jobs.assign_worker(held.job_id, held.fence, worker)
        attempt = AttemptId(held.job_id, held.attempt)
        machine[worker] = WorkerDouble(
            WorkerHandle(worker, "127.0.0.1:1"), str(attempt), FleetDouble(machine), attempt, {attempt}
        )

    monkeypatch.setattr("gooseherd.wiring.reaping.open_fleet", of_doubles)
    with_jobs(tmp_path, prepare)
    done = reap("--wait", "30")
    assert done.exit_code == 0, done.stderr
    job = with_jobs(tmp_path, lambda jobs, _: jobs.get(JobId("j1")))
    assert (job.status, job.reason) == (Status.FAILED, Reason.SOURCE_INVALID)
    assert (fleet.released, fleet.disowned, machine[worker].diagnosis) == ([], [worker], None)


def test_nothing_to_do_is_said_and_is_no_failure(reap: Callable[..., Any]) -> None:
    result = reap()
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "nothing to do\n")


def test_a_job_over_the_hard_ceiling_is_failed_with_its_reason(
    reap: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKFLOW_HARD_CEILING_SECONDS", "0.001")
    with_jobs(tmp_path, lambda jobs, _: left_behind(jobs, 1))
    result = reap("--json")
    (action,) = json.loads(result.stdout)["actions"]
    assert (action["action"], action["job_id"]) == ("end_job", "j1")
    job = with_jobs(tmp_path, lambda jobs, _: jobs.get(JobId("j1")))
    assert (job.status, job.reason, job.attempts[-1].reason) == (
        Status.FAILED,
        "deadline_exceeded",
        "deadline_exceeded",
    )


def test_beside_a_service_on_the_same_folder_it_is_refused(
    reap: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Found:
        url = "http://127.0.0.1:1"

    monkeypatch.setattr("gooseherd.client.local_service.find_local", lambda _: Found())
    result = reap()
    assert result.exit_code == 2
    assert "reaps its own jobs" in result.stderr


def test_where_processing_is_off_there_are_no_jobs_to_reap(
    reap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gooseherd.wiring.reaping.open_cache", lambda _: None)
    result = reap()
    assert result.exit_code == 1
    assert "processing is off" in result.stderr
