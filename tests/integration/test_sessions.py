"""Sessions on a real store, with a fleet and workers that do what they are told; two API processes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.doubles import FleetDouble, Machine, WorkersDouble

from gooseherd.control import reserved_workers
from gooseherd.control.dispatcher import Dispatcher
from gooseherd.control.executions import Executions
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.limits import AttemptBounds, Timing
from gooseherd.control.queue_statistics import QueueStatistics
from gooseherd.control.session_permits import SessionPermits
from gooseherd.control.sessions import Sessions, WantedSession
from gooseherd.control.submission import SubmissionLimits, Submissions
from gooseherd.control.wakeups import Wakeup, Wakeups
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.attempt import AttemptId, Event, EventKind
from gooseherd.domain.errors import LaunchFailed, LimitReached, NotFound, StoreUnavailable, WorkerLost
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import Job, JobId, Owner, Requester, WorkerId
from gooseherd.domain.keys import MANIFEST, Recipe, cache_key
from gooseherd.domain.ports.store import JobQuery, StoreRefused
from gooseherd.domain.reservation import EndReason, ReservationId, ReservationState, ReservedSize
from gooseherd.domain.session import NoteIdle
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import Status
from gooseherd.domain.warm_floor import SpeakTo
from gooseherd.storage.memory import MemoryCache
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.reservations import SqlReservations
from gooseherd.store.sql.sqlite import open_sqlite

pytestmark = pytest.mark.integration

RECIPE = Recipe("bam-index", "1", formats.BAM)
ANNE, BERT = Requester("anne"), Requester("bert")
Script = Callable[["Process", AttemptId], AsyncIterator[Event]]


def source(name: str) -> SourceFile:
    url = f"https://example.org/{name}.bam"
    return SourceFile.from_json({"dcc": "d", "local_id": name, "access_url": url, "md5": uuid.uuid4().hex})


async def as_it_is(entry: SourceFile) -> SourceFile:
    return entry


class Recipes:
    def recipes_on_demand(self, source: SourceFile) -> tuple[Recipe, ...]:
        return ()

    def recipe(self, source: SourceFile) -> Recipe:
        return RECIPE

    def kinds(self, recipe: Recipe) -> frozenset[Kind]:
        return frozenset(Kind)

    def filenames(self, source: SourceFile, recipe: Recipe) -> dict[Kind, str]:
        return {kind: f"{source.filename}.{kind}" for kind in Kind}


class Process(FleetDouble, WorkersDouble):
    """The engine of one API process; its fleet of many workers is the machine's."""

    def __init__(
        self, database: Any, machine: Machine, cache: Any, script: Script, most: int = 3, build: str = "b1",
    ) -> None:  # fmt: skip
        FleetDouble.__init__(self, machine, max_workers=9)
        WorkersDouble.__init__(self, machine, lambda attempt, _: script(self, attempt))
        self.jobs, self.reservations, self.cache = SqlJobs(database), SqlReservations(database), cache
        self.wakeups, wakeup = Wakeups(), Wakeup()
        self.launch_fails = False
        permits = SessionPermits(self.reservations, wakeup, build)
        self.submissions = Submissions(
            jobs=self.jobs, cache=cache, recipes=Recipes(), limits=SubmissionLimits(99, 99),
            wakeups=self.wakeups, new_id=lambda: JobId(uuid.uuid4().hex), poll_seconds=0.05,
        )  # fmt: skip
        self.executions = Executions(
            jobs=self.jobs, fleet=self, workers=self, cache=cache, finalizers=Finalizers(),
            wakeups=self.wakeups, owner=Owner(uuid.uuid4().hex),
            timing=Timing(
                lease=timedelta(seconds=60), heartbeat=timedelta(seconds=0.3),
                attempt_cap=timedelta(seconds=60), silence=timedelta(seconds=30), backoff_scale=0.0,
            ),
            bounds=AttemptBounds(1 << 30, 1 << 30, "b1"), permits=permits,
        )  # fmt: skip
        self.dispatcher = Dispatcher(
            jobs=self.jobs, fleet=self, executions=self.executions, wakeups=self.wakeups, running_limit=9,
            tick_seconds=0.05, permits=permits,
        )  # fmt: skip
        self.sessions = Sessions(
            reservations=self.reservations, jobs=self.jobs, fleet=self, workers=self,
            submissions=self.submissions, wakeups=self.wakeups, wakeup=wakeup, most_sessions=most,
            build=build, tick_seconds=0.05,
        )  # fmt: skip
        self.queue = QueueStatistics(self.jobs, permits=permits, fresh_seconds=0)

    async def acquire(self, need):
        if self.launch_fails and need.reserved:
            raise LaunchFailed("no such image")
        return await super().acquire(need)

    async def submit(self, name: str, owner: Requester = ANNE) -> Job:
        return (await self.submissions.submit(source(name), RECIPE, requester=owner)).job

    async def open(self, owner: Requester = ANNE, idle: float = 60.0) -> ReservationId:
        session, _ = await self.sessions.open(WantedSession(owner, ReservedSize.SMALL, idle, 3600.0))
        return session.reservation_id

    async def ended(self, job: Job) -> Job:
        return await self.submissions.wait(job.job_id, 60)

    async def until(self, session: ReservationId, *states: ReservationState):
        async with asyncio.timeout(60):
            while (now := await self.sessions.session(session)).state not in states:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return now

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Process]:
        loops = [asyncio.create_task(loop.run()) for loop in (self.dispatcher.loop, self.sessions.loop)]
        try:
            yield self
        finally:
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await self.leave()

    async def leave(self) -> None:
        await self.executions.drain(0)
        await self.sessions.close()


async def publish(process: Process, attempt: AttemptId) -> None:
    job = await process.jobs.get(attempt.job_id)
    assert job is not None
    part = Part(Kind.DATA, cache_key(job.source.identity, RECIPE, "data.bam"), 6, "1" * 64, "x.bam")
    manifest = Manifest(str(job.source.identity), "bam", "bam-index", "1", (part,))
    await process.cache.put_if_absent(part.key, b"sorted")
    await process.cache.put_if_absent(cache_key(job.source.identity, RECIPE, MANIFEST), manifest.to_bytes())


def event(seq: int, kind: EventKind, **fields: Any) -> Event:
    return Event(seq=seq, kind=kind, at=0.0, **fields)


async def goes_well(process: Process, attempt: AttemptId) -> AsyncIterator[Event]:
    yield event(1, EventKind.ACCEPTED)
    await publish(process, attempt)
    yield event(2, EventKind.DONE, manifest_digest="0" * 64)


def lasts_until(may_end: asyncio.Event) -> Script:
    async def script(process: Process, attempt: AttemptId) -> AsyncIterator[Event]:
        yield event(1, EventKind.ACCEPTED)
        await may_end.wait()
        await publish(process, attempt)
        yield event(2, EventKind.DONE, manifest_digest="0" * 64)

    return script


def fails_first(reason: Reason, times: int = 9) -> Script:
    """Attempts end so, the first of each job."""

    async def script(process: Process, attempt: AttemptId) -> AsyncIterator[Event]:
        if attempt.number > times:
            async for one in goes_well(process, attempt):
                yield one
        else:
            yield event(1, EventKind.FAILED, reason=reason, detail="as it was told")

    return script


async def connection_breaks_first(process: Process, attempt: AttemptId) -> AsyncIterator[Event]:
    yield event(1, EventKind.ACCEPTED)
    if attempt.number == 1:
        raise WorkerLost("connection refused")
    await publish(process, attempt)
    yield event(2, EventKind.DONE, manifest_digest="0" * 64)


@pytest.fixture
async def make(tmp_path) -> AsyncIterator[Callable[..., Process]]:
    """API processes over one store and one fleet."""
    database = await open_sqlite(tmp_path / "store.sqlite", setting="X")
    machine: Machine = {}
    cache = MemoryCache()
    yield lambda script=goes_well, **options: Process(database, machine, cache, script, **options)
    await database.close()


@pytest.fixture
def open_ready(make) -> Callable[..., Awaitable[tuple[Process, ReservationId]]]:
    """A process without loops, and a session of it whose worker is there."""

    async def open_one(script: Script = goes_well) -> tuple[Process, ReservationId]:
        process = make(script)
        session = await process.open()
        await process.until(session, ReservationState.READY)
        return process, session

    return open_one


@pytest.fixture
async def left_session(make) -> ReservationId:
    """Its worker is of the build b1, all of whose processes have left."""
    old = make(build="b1")
    session: ReservationId = await old.open()
    async with old.engine():
        await old.until(session, ReservationState.READY)
    await asyncio.sleep(0.01)
    return session


async def test_the_owners_jobs_wait_for_the_worker_and_run_on_it_in_their_order(make) -> None:
    process = make()
    jobs = [await process.submit(f"f{number}") for number in range(4)]
    session = await process.open()
    async with process.engine():
        done = [await process.ended(job) for job in jobs]
    assert {job.status for job in done} == {Status.COMPLETED}
    worker = (await process.sessions.session(session)).worker_id
    assert {job.worker_id for job in done} == {worker}
    assert {job.session_id for job in done} == {session}
    assert [attempt.job_id for attempt in process.started] == [job.job_id for job in jobs]
    assert [need.reserved for need in process.needs] == [True], "one worker for all of it"


async def test_a_session_that_is_not_ready_holds_its_owners_jobs_and_nobody_elses(make) -> None:
    process = make()
    arrives = asyncio.Event()
    acquire = process.acquire

    async def slowly(need):
        if need.reserved:
            await arrives.wait()
        return await acquire(need)

    process.acquire = slowly
    session = await process.open()
    hers, his = await process.submit("hers"), await process.submit("his", BERT)
    async with process.engine():
        assert (await process.ended(his)).status is Status.COMPLETED
        assert (await process.jobs.get(hers.job_id)).status is Status.PENDING
        place = await process.queue.place(await process.jobs.get(hers.job_id))
        assert place is not None
        assert place.position == 0
        arrives.set()
        assert (await process.ended(hers)).session_id == session


async def test_two_processes_run_one_job_of_a_session_at_a_time(make) -> None:
    running, most = 0, 0

    async def counted(process: Process, attempt: AttemptId) -> AsyncIterator[Event]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        yield event(1, EventKind.ACCEPTED)
        await asyncio.sleep(0.05)
        await publish(process, attempt)
        running -= 1
        yield event(2, EventKind.DONE, manifest_digest="0" * 64)

    one, other = make(counted), make(counted)
    await one.open()
    jobs = [await (one, other)[number % 2].submit(f"f{number}") for number in range(6)]
    async with one.engine(), other.engine():
        done = [await one.ended(job) for job in jobs]
    assert {job.status for job in done} == {Status.COMPLETED}
    assert most == 1


async def test_a_launch_that_fails_ends_the_session_and_its_owners_jobs_go_to_any_worker(make) -> None:
    process = make()
    process.launch_fails = True
    session = await process.open()
    job = await process.submit("f")
    async with process.engine():
        over = await process.until(session, ReservationState.ENDED)
        done = await process.ended(job)
    assert (over.reason, over.detail) == (EndReason.LAUNCH_FAILED, "worker did not start: no such image")
    assert (done.status, done.session_id) == (Status.COMPLETED, None)


@pytest.mark.parametrize(
    ("reason", "attempts", "status"),
    [
        (Reason.SOURCE_INVALID, 1, Status.FAILED),
        (Reason.TOOL_FAILED, 1, Status.FAILED),
        (Reason.SOURCE_UNAVAILABLE, 2, Status.FAILED),
    ],
)
async def test_an_error_of_source_or_tool_leaves_the_session_its_worker(
    make, reason, attempts, status
) -> None:
    process = make(fails_first(reason))
    session = await process.open()
    async with process.engine():
        done = await process.ended(await process.submit("f"))
        now = await process.until(session, ReservationState.READY)
    assert (done.status, len(done.attempts)) == (status, attempts)
    assert {attempt.worker_id for attempt in done.attempts} == {now.worker_id}
    assert now.launches == 1
    assert process.released == []


async def test_what_runs_out_of_memory_is_tried_again_outside_of_the_session(make) -> None:
    process = make(fails_first(Reason.OUT_OF_MEMORY, times=1))
    session = await process.open()
    async with process.engine():
        done = await process.ended(await process.submit("f"))
        now = await process.until(session, ReservationState.READY)
    assert done.status is Status.COMPLETED
    first, second = done.attempts
    assert first.worker_id == now.worker_id
    assert second.worker_id != now.worker_id
    assert done.session_id is None


async def test_a_session_does_not_wait_for_a_job_that_needs_its_place_for_a_larger_worker(make) -> None:
    process = make(fails_first(Reason.OUT_OF_MEMORY, times=1))
    process.max_workers = 1
    session = await process.open(idle=0.2)
    async with process.engine():
        done = await process.ended(await process.submit("f"))
        over = await process.until(session, ReservationState.ENDED)
    assert (done.status, done.session_id) == (Status.COMPLETED, None)
    assert over.reason is EndReason.IDLE_TIMEOUT


async def test_a_connection_that_breaks_while_the_task_runs_keeps_the_session(make) -> None:
    process = make(connection_breaks_first)
    session = await process.open()
    async with process.engine():
        job = await process.submit("f")
        # The double's worker still has the attempt it was given: it is cancelled as a real one's would be.
        async with asyncio.timeout(60):
            while (worker := process.machine.get(WorkerId("w"))) is None or worker.running is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        worker.running = None
        done = await process.ended(job)
        now = await process.until(session, ReservationState.READY)
    assert [attempt.reason for attempt in done.attempts] == [Reason.WORKER_LOST, Reason.PUBLISHED]
    assert {attempt.worker_id for attempt in done.attempts} == {now.worker_id}
    assert now.launches == 1


async def test_an_idle_session_ends_and_its_worker_is_stopped(make) -> None:
    process = make()
    session = await process.open(idle=0.2)
    async with process.engine():
        await process.ended(await process.submit("f"))
        over = await process.until(session, ReservationState.ENDED)
    assert over.reason is EndReason.IDLE_TIMEOUT
    assert process.machine[over.worker_id].diagnosis is not None


async def test_a_job_that_is_leased_while_the_session_is_looked_at_does_not_find_it_idle(open_ready) -> None:
    may_end = asyncio.Event()
    process, session = await open_ready(lasts_until(may_end))
    ready = await process.sessions.session(session)
    assert await process.reservations.change(ready, replace(ready, idle_since=None)) is not None
    read = process.jobs.at_work

    async def then_a_job_comes():
        process.jobs.at_work = read
        before = await read()
        await process.submit("f")
        await process.dispatcher.loop.run_once()
        return before

    process.jobs.at_work = then_a_job_comes
    try:
        report = await process.sessions.loop.run_once()
        assert [type(action) for action in report.planned] == [NoteIdle]
        assert [job.session_id for job in await read()] == [session]
        assert (await process.sessions.session(session)).idle_since is None
    finally:
        may_end.set()
        await process.leave()


async def test_a_job_that_goes_from_waiting_to_work_while_the_session_is_looked_at_is_seen(
    open_ready,
) -> None:
    may_end = asyncio.Event()
    process, session = await open_ready(lasts_until(may_end))
    await process.submit("f")
    reads = process.jobs.at_work, process.jobs.queued_for

    def then_it_is_leased(read):
        async def reading(*args):
            process.jobs.at_work, process.jobs.queued_for = reads
            before = await read(*args)
            await process.dispatcher.loop.run_once()
            return before

        return reading

    ready = await process.sessions.session(session)
    assert await process.reservations.change(ready, replace(ready, idle_since=None)) is not None
    process.jobs.at_work, process.jobs.queued_for = map(then_it_is_leased, reads)
    try:
        report = await process.sessions.loop.run_once(dry_run=True)
        assert [job.session_id for job in await process.jobs.at_work()] == [session]
        assert report.planned == []
    finally:
        may_end.set()
        await process.leave()


async def test_a_session_whose_worker_was_replaced_under_a_job_is_not_idle_as_long_as_that_runs(make) -> None:
    may_end = asyncio.Event()
    process = make(lasts_until(may_end))
    session = await process.open()
    async with process.engine():
        await process.submit("f")
        async with asyncio.timeout(60):
            while not process.started:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            # As the launch writes that brings another worker.
            now = await process.sessions.session(session)
            await process.reservations.change(now, replace(now, idle_since=await process.reservations.now()))
            while (await process.sessions.session(session)).idle_since is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        may_end.set()


@pytest.mark.parametrize("writes", [1, 9])
async def test_a_job_is_dispatched_although_somebody_writes_to_the_session_at_that_moment(
    open_ready, writes
) -> None:
    process, session = await open_ready()
    job = await process.submit("f")
    get, left = process.reservations.get, writes

    async def then_another_writes(reservation_id):
        nonlocal left
        seen = await get(reservation_id)
        if left and seen is not None and seen.live:
            left -= 1
            await process.reservations.change(seen, replace(seen, kept_at=seen.changed_at))
        return seen

    process.reservations.get = then_another_writes
    process.dispatcher.loop._tick_seconds = process.sessions.loop._tick_seconds = 3600
    await process.wakeups.work.wait(0)
    async with process.engine():
        done = await process.ended(job)
    assert (done.session_id, left) == (session, 0)


async def test_a_worker_that_answered_is_noted_although_a_job_was_dispatched_meanwhile(open_ready) -> None:
    process, session = await open_ready()
    seen = await process.sessions.session(session)
    now = await process.reservations.now()
    long_ago = now - timedelta(minutes=5)
    assert (
        await process.reservations.change(seen, replace(seen, kept_at=long_ago, idle_since=now)) is not None
    )
    connect = process.connect

    def meanwhile_dispatched(handle):
        @asynccontextmanager
        async def link():
            async with connect(handle) as there:
                now = await process.sessions.session(session)
                await process.reservations.change(now, replace(now, idle_since=None))
                yield there

        return link()

    process.connect = meanwhile_dispatched
    report = await process.sessions.loop.run_once()
    assert [type(action) for action in report.planned] == [SpeakTo]
    after = await process.sessions.session(session)
    assert after.kept_at > long_ago
    assert after.idle_since is None
    await process.leave()


async def test_one_session_an_owner_and_a_limit_in_all(make) -> None:
    one, other = make(most=2), make(most=2)
    first, again = await asyncio.gather(one.open(), other.open())
    assert first == again
    await one.open(BERT)
    with pytest.raises(LimitReached):
        await one.open(Requester("carol"))
    await one.sessions.close()


async def test_ending_is_asked_for_once_and_the_reason_stands(make) -> None:
    process = make()
    session = await process.open()
    async with process.engine():
        await process.until(session, ReservationState.READY)
        assert (await process.sessions.end(session)).reason is EndReason.EXPLICIT
        over = await process.until(session, ReservationState.ENDED)
        assert await process.sessions.end(session) == over
        with pytest.raises(NotFound):
            await process.sessions.dispatch(session, source("f"), as_it_is)
        with pytest.raises(NotFound):
            await process.sessions.end(ReservationId("none"))
    assert [one.reservation_id for one in await process.sessions.sessions(ended=True)] == [session]
    assert await process.sessions.sessions() == []


async def test_who_leaves_while_it_launches_holds_nobody_up(make) -> None:
    process = make()
    process.acquire = lambda need: asyncio.Event().wait()
    session = await process.open()
    await asyncio.sleep(0.05)
    await process.sessions.close()
    over = await process.sessions.session(session)
    assert (over.state, over.reason) == (ReservationState.ENDED, EndReason.LAUNCH_FAILED)


async def test_a_session_whose_process_was_killed_while_it_launched_is_found_stale(make) -> None:
    process = make()
    made = await process.reservations.reserve(
        replace(
            await process.sessions.session(await process.open()),
            reservation_id=ReservationId("lost"), owner=BERT, state=ReservationState.RESERVING,
            worker_id=None,
            kept_at=await process.reservations.now() - timedelta(minutes=2),
        ),
        9,
    )  # fmt: skip
    assert made is not None
    async with process.engine():
        over = await process.until(ReservationId("lost"), ReservationState.ENDED)
    assert over.reason is EndReason.RECONCILE_STALE


async def test_a_deployment_replaces_a_sessions_worker_and_no_job_runs_on_another_build(make) -> None:
    old = make(build="b1")
    session = await old.open()
    async with old.engine():
        await old.until(session, ReservationState.READY)
        await asyncio.sleep(0.01)
        new = make(build="b2")
        async with new.engine():
            async with asyncio.timeout(60):
                while (now := await new.sessions.session(session)).build != "b2" or now.worker_id is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            done = await new.ended(await old.submit("f"))
    assert (now.launches, now.lost) == (2, 0), "replaced, and not lost"
    assert done.session_id == session
    assert (len(new.started), old.started) == (1, [])


async def test_in_a_full_fleet_a_deployment_replaces_a_sessions_worker_when_there_is_room(
    make, left_session
) -> None:
    """The old worker counted until it had stopped, and the session ended: launch_failed."""
    new = make(build="b2")
    new.max_workers, new.refusals = 1, 1
    async with new.engine():
        async with asyncio.timeout(60):
            while (now := await new.sessions.session(left_session)).build != "b2" or now.worker_id is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        done = await new.ended(await new.submit("f"))
    assert (now.launches, now.lost, now.state) == (2, 0, ReservationState.READY)
    assert done.session_id == left_session


async def test_a_session_that_is_ended_while_its_replacement_waits_for_room_ends(
    make, left_session, monkeypatch
) -> None:
    monkeypatch.setattr(reserved_workers, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(reserved_workers, "_ROOM_PAUSE_SECONDS", 0.05)
    new = make(build="b2")
    new.max_workers = 0
    async with new.engine():
        await new.until(left_session, ReservationState.STARTING)
        await new.sessions.end(left_session)
        ended = await new.until(left_session, ReservationState.ENDED)
    assert ended.reason is EndReason.EXPLICIT


async def test_after_a_deployment_was_taken_back_a_sessions_jobs_run_on_the_build_that_stays(make) -> None:
    stays, leaves = make(build="b1"), make(build="b2")
    stays.sessions._deployed_at = await stays.reservations.now() - timedelta(hours=1)
    session = await leaves.open()
    async with leaves.engine():
        await leaves.until(session, ReservationState.READY)
    ready = await stays.sessions.session(session)  # kept once more, maybe, since it was seen ready
    silent = replace(ready, kept_at=await stays.reservations.now() - timedelta(minutes=4))
    assert await stays.reservations.change(ready, silent) is not None
    stays.sessions._silent = {session: silent.kept_at + timedelta(minutes=3)}
    async with stays.engine():
        done = await stays.ended(await stays.submit("f"))
        now = await stays.sessions.session(session)
    assert (done.status, done.session_id) == (Status.COMPLETED, session)
    assert (now.build, now.launches, now.lost) == ("b1", 2, 0)
    assert (len(stays.started), leaves.started) == (1, [])


async def test_a_store_that_refuses_as_a_sessions_worker_comes_costs_it_no_launch(make) -> None:
    process = make()
    get, refusals = process.reservations.get, 2

    async def sometimes(reservation_id: ReservationId) -> Any:
        nonlocal refusals
        if refusals and process.machine:
            refusals -= 1
            raise StoreRefused("DATABASE_URL", "the server refuses the password")
        return await get(reservation_id)

    process.reservations.get = sometimes
    session, _ = await process.sessions.open(WantedSession(ANNE, ReservedSize.SMALL, 60.0, 3600.0))
    async with asyncio.timeout(60):
        while process.sessions._reserved._launching:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert refusals == 0
    assert (await process.sessions.session(session.reservation_id)).state is ReservationState.READY


async def test_the_record_of_a_job_keeps_what_it_was_dispatched_with(make) -> None:
    process = make()
    session = await process.open()
    entry = source("f")
    async with process.engine():
        await process.ended(await process.sessions.dispatch(session, entry, as_it_is))
        job = (await process.jobs.find(JobQuery(requester=ANNE))).jobs[0]
    assert (job.source, job.recipe, job.session_id) == (entry, RECIPE, session)
    dispatched = job.attempts[0].dispatched
    assert dispatched is not None
    assert (dispatched["build"], dispatched["session_id"]) == ("b1", session)
    assert dispatched["limits"] == {"source_bytes": 1 << 30, "scratch_bytes": 1 << 30, "wall_seconds": 60.0}


async def test_a_store_that_is_away_as_a_sessions_job_begins_costs_it_no_attempt(make) -> None:
    process = make()
    session = await process.open()
    get, away = process.reservations.get, 2

    async def sometimes(reservation_id: ReservationId) -> Any:
        nonlocal away
        if away and await process.jobs.at_work():
            away -= 1
            raise StoreUnavailable("get")
        return await get(reservation_id)

    process.reservations.get = sometimes
    async with process.engine():
        done = await process.ended(await process.submit("f"))
    assert (away, done.session_id) == (0, session)
    assert [attempt.reason for attempt in done.attempts] == [Reason.PUBLISHED]
