"""The control room on a real store: how jobs end when workers, leases or the store misbehave.

Fleet and workers are played by doubles that do what they are told; the store is the real one.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest
from tests.doubles import FleetDouble, Machine, WorkersDouble

from gooseherd.control import attempt_watcher
from gooseherd.control.dispatcher import Dispatcher
from gooseherd.control.executions import Executions
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.limits import AttemptBounds, Timing
from gooseherd.control.reaper import Reaper, ReaperLimits
from gooseherd.control.submission import SubmissionLimits, Submissions
from gooseherd.control.wakeups import Wakeups
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.attempt import AttemptId, Event, EventKind
from gooseherd.domain.errors import (
    AlreadyFailed,
    LeaseLost,
    LimitReached,
    Misconfigured,
    StoreUnavailable,
    WorkerLost,
)
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import Job, JobId, Owner, Requester, WorkerId
from gooseherd.domain.keys import MANIFEST, CacheKey, Recipe, cache_key, result_name
from gooseherd.domain.ports.cache import StorageRefused, StoredObject
from gooseherd.domain.ports.fleet import Shortage, WorkerHandle, WorkerNeed
from gooseherd.domain.ports.store import Claim, JobQuery
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import Status
from gooseherd.storage.memory import MemoryCache
from gooseherd.store.mongo.connect import Database
from gooseherd.store.mongo.jobs import MongoJobs

pytestmark = pytest.mark.integration

SOURCE = SourceFile.from_json(
    {"dcc": "d", "local_id": "x", "access_url": "https://example.org/x.bam", "md5": "0" * 32}
)
RECIPE = Recipe("bam-index", "1", formats.BAM)
ME = Requester("me")
BODY = b"sorted"
PART = Part(Kind.DATA, cache_key(SOURCE.identity, RECIPE, "data.bam"), len(BODY), "1" * 64, "x.bam")

Script = Callable[["Stage", AttemptId, int], AsyncIterator[Event]]


MACHINES: dict[str, Machine] = {}
"""The workers of a test, by its database's name: what one process launched another one finds."""


class Recipes:
    def recipes_on_demand(self, source: SourceFile) -> tuple[Recipe, ...]:
        return ()

    def recipe(self, source: SourceFile) -> Recipe:
        return RECIPE

    def kinds(self, recipe: Recipe) -> frozenset[Kind]:
        return frozenset(Kind)

    def filenames(self, source: SourceFile, recipe: Recipe) -> dict[Kind, str]:
        return {kind: f"{source.filename}.{kind}" for kind in Kind}


class Stage(FleetDouble, WorkersDouble):
    """One API process's engine, with a fleet of one worker that follows a script."""

    def __init__(self, database: Database, cache: Any, script: Script, owner: str = "one") -> None:
        machine = MACHINES.setdefault(database.name, {})
        FleetDouble.__init__(self, machine)
        WorkersDouble.__init__(self, machine, lambda attempt, from_seq: script(self, attempt, from_seq))
        self.jobs: Any = MongoJobs(database)
        self.cache = cache
        self.wakeups = Wakeups()
        self.finalizers = Finalizers()
        self.timing = Timing(
            lease=timedelta(seconds=60),  # Longer than a busy machine may hold up a heartbeat.
            heartbeat=timedelta(seconds=0.3),
            attempt_cap=timedelta(seconds=60),
            silence=timedelta(seconds=30),
            backoff_scale=0.0,
        )
        self.owner = Owner(owner)

    def build(self) -> Stage:
        self.executions = Executions(
            jobs=self.jobs,
            fleet=self,
            workers=self,
            cache=self.cache,
            finalizers=self.finalizers,
            wakeups=self.wakeups,
            owner=self.owner,
            timing=self.timing,
            bounds=AttemptBounds(1 << 30, 1 << 30, "build"),
        )
        self.dispatcher = Dispatcher(
            jobs=self.jobs,
            fleet=self,
            executions=self.executions,
            wakeups=self.wakeups,
            running_limit=9,
            tick_seconds=0.05,
        )
        self.reaper = Reaper(
            jobs=self.jobs,
            executions=self.executions,
            finalizers=self.finalizers,
            wakeups=self.wakeups,
            limits=ReaperLimits(finalize_grace=timedelta(0)),
            tick_seconds=0.05,
        )
        self.submissions = Submissions(
            jobs=self.jobs,
            cache=self.cache,
            recipes=Recipes(),
            limits=SubmissionLimits(active_jobs=3, pending_per_requester=2),
            wakeups=self.wakeups,
            new_id=lambda: JobId(uuid.uuid4().hex),
            poll_seconds=0.05,
        )
        return self

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Stage]:
        loops = [asyncio.create_task(loop.run()) for loop in (self.dispatcher.loop, self.reaper.loop)]
        try:
            yield self
        finally:
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await self.executions.drain(0)

    async def submit(self, **options: Any) -> Job:
        return (await self.submissions.submit(SOURCE, RECIPE, requester=ME, **options)).job

    async def ended(self, job: Job) -> Job:
        return await self.until(job, lambda now: now.status.terminal)

    async def until(self, job: Job, holds: Callable[[Job], bool]) -> Job:
        async with asyncio.timeout(60):
            while True:
                now: Job | None = await self.jobs.get(job.job_id)
                assert now is not None
                if holds(now):
                    return now
                await asyncio.sleep(0.02)


async def eventually(holds: Callable[[], bool]) -> None:
    """Return when it holds; TimeoutError after 60 s."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what is looked at has no event of its own
            await asyncio.sleep(0.02)


async def publish(cache: Any) -> None:
    manifest = Manifest(str(SOURCE.identity), "bam", "bam-index", "1", (PART,))
    await cache.put_if_absent(PART.key, BODY)
    await cache.put_if_absent(cache_key(SOURCE.identity, RECIPE, MANIFEST), manifest.to_bytes())


LONG_LEASE = Timing(
    lease=timedelta(minutes=10),
    heartbeat=timedelta(minutes=1),
    attempt_cap=timedelta(minutes=10),
    silence=timedelta(seconds=30),
    backoff_scale=0.0,
)
"""Nobody takes over what is left lying during a test."""


def event(seq: int, kind: EventKind, **fields: Any) -> Event:
    return Event(seq=seq, kind=kind, at=0.0, **fields)


async def goes_well(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
    yield event(1, EventKind.ACCEPTED)
    yield event(2, EventKind.STEP, step="data")
    yield event(3, EventKind.PROGRESS, step="data", percent=50.0, bytes_in=5)
    await publish(stage.cache)
    part = {**asdict(PART), "kind": str(PART.kind)}
    yield event(4, EventKind.STEP_COMPLETE, step="data", parts=(part,))
    yield event(5, EventKind.DONE, manifest_digest="0" * 64)


async def completes_a_step(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
    """Publishes when the step is on record."""
    if from_seq <= 1:
        yield event(1, EventKind.ACCEPTED)
    if from_seq <= 2:
        with stage.wakeups.listen(attempt.job_id) as wakeup:
            yield event(2, EventKind.STEP_COMPLETE, step="data", percent=90.0)
            while await wakeup.wait(60) and not (await stage.jobs.get(attempt.job_id)).steps_completed:
                pass
    await publish(stage.cache)
    yield event(3, EventKind.DONE, manifest_digest="0" * 64)


async def shows_a_step(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
    """Publishes when people can see the step; says nothing meanwhile."""
    with stage.wakeups.listen(attempt.job_id) as wakeup:
        yield event(1, EventKind.STEP, step="data", percent=10.0)
        while await wakeup.wait(60) and not (await stage.jobs.get(attempt.job_id)).progress.step:
            pass
    await publish(stage.cache)
    yield event(2, EventKind.DONE, manifest_digest="0" * 64)


async def says_done_without_a_manifest(
    stage: Stage, attempt: AttemptId, from_seq: int
) -> AsyncIterator[Event]:
    yield event(1, EventKind.DONE, manifest_digest="0" * 64)


async def hangs(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
    yield event(1, EventKind.ACCEPTED)
    yield event(2, EventKind.PROGRESS, step="data", percent=10.0)
    while True:
        await asyncio.sleep(0.2)
        yield event(2, EventKind.HEARTBEAT)


async def dies(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
    yield event(1, EventKind.ACCEPTED)
    raise WorkerLost("stream closed")


async def publishes_and_dies(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
    yield event(1, EventKind.ACCEPTED)
    await publish(stage.cache)
    raise WorkerLost("stream closed")


async def runs_out_of_memory(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
    yield event(1, EventKind.FAILED, reason=Reason.OUT_OF_MEMORY, detail="sort ran out of memory")


async def refuses_the_source(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
    yield event(1, EventKind.FAILED, reason=Reason.SOURCE_INVALID, detail="line 3: no")


async def test_a_submitted_job_is_followed_to_completion_and_keeps_its_worker_warm(
    database: Database,
) -> None:
    stage = Stage(database, MemoryCache(), goes_well).build()
    async with stage.engine():
        job = await stage.submissions.wait((await stage.submit()).job_id, 60)
    assert job.status is Status.COMPLETED
    assert job.manifest_digest is not None
    assert job.parts == (PART,)
    assert job.steps_completed == ("data",)
    assert [(a.number, a.reason) for a in job.attempts] == [(1, Reason.PUBLISHED)]
    assert stage.released == [(WorkerId("w"), True)]
    manifest = await stage.submissions.published(SOURCE, RECIPE)
    assert manifest is not None
    assert manifest.digest == job.manifest_digest


async def test_who_looked_before_the_artifact_was_published_and_asks_after_gets_the_job_that_made_it(
    database: Database,
) -> None:
    stage = Stage(database, MemoryCache(), goes_well).build()
    assert await stage.submissions.published(SOURCE, RECIPE) is None
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    claim = await stage.submissions.submit(SOURCE, RECIPE, requester=Requester("slower"))
    assert (claim.job.job_id, claim.created) == (job.job_id, False)
    assert await stage.submissions.published(SOURCE, RECIPE) is not None


def submissions_of(stage: Stage, jobs: Any) -> Submissions:
    """What the stage has, on another store."""
    return Submissions(
        jobs=jobs,
        cache=stage.cache,
        recipes=Recipes(),
        limits=SubmissionLimits(active_jobs=3, pending_per_requester=2),
        wakeups=stage.wakeups,
        new_id=lambda: JobId(uuid.uuid4().hex),
    )


class BeforeClaims:
    """A store in front of whose claims something happens, once."""

    def __init__(self, jobs: Any, before: Callable[[], Awaitable[Any]]) -> None:
        self._jobs, self._before = jobs, before
        self.claims = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)

    async def claim_workflow(self, *arguments: Any, **options: Any) -> Claim:
        self.claims += 1
        if self.claims == 1:
            await self._before()
        claim: Claim = await self._jobs.claim_workflow(*arguments, **options)
        return claim


async def test_what_another_job_publishes_between_the_look_and_the_claim_is_not_made_again(
    database: Database,
) -> None:
    stage = Stage(database, MemoryCache(), goes_well).build()
    made: list[Job] = []

    async def publish_meanwhile() -> None:
        made.append(await stage.ended(await stage.submit()))

    async with stage.engine():
        stands_still = BeforeClaims(stage.jobs, publish_meanwhile)
        claim = await submissions_of(stage, stands_still).submit(
            SOURCE, RECIPE, requester=Requester("slower")
        )
    assert (claim.job.job_id, claim.created) == (made[0].job_id, False)
    assert stands_still.claims == 1
    found = await stage.jobs.find(JobQuery())
    assert [job.job_id for job in found.jobs] == [made[0].job_id]


async def test_what_fails_between_the_look_and_the_claim_is_not_tried_again_at_once(
    database: Database,
) -> None:
    stage = Stage(database, MemoryCache(), refuses_the_source).build()

    async def fail_meanwhile() -> None:
        await stage.ended(await stage.submit())

    async with stage.engine():
        stands_still = BeforeClaims(stage.jobs, fail_meanwhile)
        with pytest.raises(AlreadyFailed):
            await submissions_of(stage, stands_still).submit(SOURCE, RECIPE, requester=Requester("slower"))


class BetweenLooks:
    """A store in which something happens after a submitter's attempts to attach, and before its claims."""

    def __init__(self, jobs: Any) -> None:
        self._jobs = jobs
        self.after_attach: list[Callable[[], Awaitable[Any]]] = []
        self.before_claim: list[Callable[[], Awaitable[Any]]] = []
        self.attached = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)

    async def attach(self, *arguments: Any) -> Job | None:
        self.attached += 1
        found: Job | None = await self._jobs.attach(*arguments)
        if self.after_attach:
            await self.after_attach.pop(0)()
        return found

    async def claim_workflow(self, *arguments: Any, **options: Any) -> Claim:
        if self.before_claim:
            await self.before_claim.pop(0)()
        claim: Claim = await self._jobs.claim_workflow(*arguments, **options)
        return claim


@pytest.mark.parametrize("script", [goes_well, refuses_the_source])
async def test_a_job_that_began_between_two_looks_is_attached_to_and_no_second_one_made(
    database: Database, script: Script
) -> None:
    """It may end before the claim: what it published is not made again, what it failed at not tried again."""
    stage = Stage(database, MemoryCache(), script).build()
    others: list[Job] = []

    async def begin() -> None:
        others.append(await stage.submit())

    async def run_to_its_end() -> None:
        async with stage.engine():
            await stage.ended(others[0])

    store = BetweenLooks(stage.jobs)
    store.after_attach, store.before_claim = [begin], [run_to_its_end]
    claim = await submissions_of(stage, store).submit(SOURCE, RECIPE, requester=Requester("slower"))
    assert (claim.job.job_id, claim.created) == (others[0].job_id, False)
    assert claim.job.requesters == (ME, Requester("slower"))
    found = await stage.jobs.find(JobQuery())
    assert [job.job_id for job in found.jobs] == [others[0].job_id]


async def test_who_has_used_up_a_limit_attaches_to_a_job_that_began_between_two_looks(
    database: Database,
) -> None:
    stage = Stage(database, MemoryCache(), hangs).build()
    for digit in "12":
        source = SourceFile.from_json({**SOURCE.to_json(), "local_id": digit, "md5": digit * 32})
        await stage.submissions.submit(source, RECIPE, requester=Requester("slower"))
    store = BetweenLooks(stage.jobs)
    store.after_attach = [stage.submit]
    claim = await submissions_of(stage, store).submit(SOURCE, RECIPE, requester=Requester("slower"))
    assert not claim.created


async def test_looks_at_jobs_that_come_and_go_come_to_an_end(database: Database) -> None:
    stage = Stage(database, MemoryCache(), hangs).build()
    others: list[Job] = []

    async def another_begins() -> None:
        others.append(await stage.submit())

    class ComeAndGo(BetweenLooks):
        async def attach(self, *arguments: Any) -> Job | None:
            if others:
                await stage.submissions.withdraw(others[-1].job_id, None)
            return await super().attach(*arguments)

    store = ComeAndGo(stage.jobs)
    store.after_attach = [another_begins] * 9
    with pytest.raises(StoreUnavailable):
        await submissions_of(stage, store).submit(SOURCE, RECIPE, requester=Requester("slower"))
    assert store.attached == len(others) == 5


@pytest.mark.parametrize("key", [PART.key, cache_key(SOURCE.identity, RECIPE, MANIFEST)])
async def test_an_artifact_that_has_lost_an_object_since_is_made_by_a_new_job(
    database: Database, key: CacheKey
) -> None:
    stage = Stage(database, MemoryCache(), goes_well).build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
        await stage.cache.delete(key)
        again = await stage.submissions.submit(SOURCE, RECIPE, requester=ME)
        assert again.created
        assert again.job.job_id != job.job_id


async def _nothing_is_released(*_: Any, **__: Any) -> None:
    return None


class ReadOnly:
    """A cache as the API's role has it: it may not write."""

    def __init__(self, cache: MemoryCache) -> None:
        self.head, self.get, self.list, self.close = cache.head, cache.get, cache.list, cache.close

    async def put_if_absent(self, key: CacheKey, body: object) -> bool:
        raise AssertionError(f"wrote {key}")

    async def delete(self, key: CacheKey) -> bool:
        raise AssertionError(f"deleted {key}")


async def test_an_api_process_writes_no_artifacts(database: Database) -> None:
    cache = MemoryCache()

    async def publishes(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        yield event(1, EventKind.ACCEPTED)
        await publish(cache)
        yield event(2, EventKind.DONE, manifest_digest="0" * 64)

    stage = Stage(database, ReadOnly(cache), publishes).build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert job.status is Status.COMPLETED
    assert await stage.submissions.published(SOURCE, RECIPE)


class CountsProgress:
    """The store, which counts what it is told while an attempt goes on."""

    def __init__(self, jobs: Any) -> None:
        self._jobs = jobs
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)

    async def record_progress(self, *args: Any) -> None:
        self.writes += 1
        await self._jobs.record_progress(*args)

    async def record_step_complete(self, *args: Any) -> None:
        self.writes += 1
        await self._jobs.record_step_complete(*args)


def patient(database: Database, script: Script, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """One that counts writes of progress, and waits for longer than any attempt before it makes one."""
    monkeypatch.setattr(attempt_watcher, "_GATHER_SECONDS", 60)
    stage = Stage(database, MemoryCache(), script)
    stage.jobs = CountsProgress(stage.jobs)
    return stage.build()


async def breaks_at_once(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
    yield event(1, EventKind.ACCEPTED)
    yield event(2, EventKind.STEP, step="fetch")
    yield event(3, EventKind.STEP, step="data", percent=20.0)
    yield event(4, EventKind.FAILED, reason=Reason.SOURCE_INVALID, detail="line 3: no")


async def dies_at_once(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
    yield event(1, EventKind.ACCEPTED)
    yield event(2, EventKind.STEP, step="data", percent=20.0)
    raise WorkerLost("stream closed")


@pytest.mark.parametrize("script", [breaks_at_once, dies_at_once])
async def test_where_an_attempt_was_when_it_failed_is_written_down_however_fast_it_was(
    database: Database, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = patient(database, script, monkeypatch)
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert job.status is Status.FAILED
    assert (job.progress.step, job.progress.percent) == ("data", 20.0)
    assert stage.jobs.writes == len(job.attempts)


async def test_what_is_overtaken_by_the_end_is_written_with_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = patient(database, goes_well, monkeypatch)
    async with stage.engine():
        job = await stage.submissions.wait((await stage.submit()).job_id, 60)
        assert job.status is Status.COMPLETED
        assert job.progress.percent == 100.0
        assert job.steps_completed == ("data",)
        await eventually(lambda: not any(t.get_name().startswith("progress") for t in asyncio.all_tasks()))
    assert stage.jobs.writes == 0


async def test_leaving_while_a_worker_is_given_back_gives_it_back(database: Database) -> None:
    stage = Stage(database, MemoryCache(), goes_well)
    begun, given_back = asyncio.Event(), asyncio.Event()

    async def slowly(worker_id: WorkerId, **how: Any) -> None:
        begun.set()
        await asyncio.sleep(0.3)
        given_back.set()

    stage.release = slowly  # type: ignore[method-assign]
    stage.build()
    async with stage.engine():
        await stage.submit()
        async with asyncio.timeout(60):
            await begun.wait()
    assert given_back.is_set()


async def test_done_without_a_manifest_is_not_believed(database: Database) -> None:
    stage = Stage(database, MemoryCache(), says_done_without_a_manifest).build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert (job.status, job.reason) == (Status.FAILED, Reason.TOOL_FAILED)
    assert len(job.attempts) == 2


async def test_a_part_cut_short_is_not_believed(database: Database) -> None:
    cache = MemoryCache()
    await cache.put_if_absent(PART.key, BODY[:2])
    stage = Stage(database, cache, goes_well).build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert (job.status, job.reason) == (Status.FAILED, Reason.TOOL_FAILED)


class Refuses(MemoryCache):
    """Storage that refuses the next calls of one kind, until the right is given back."""

    def __init__(self, operation: str, times: int) -> None:
        super().__init__()
        self._operation, self.times = operation, times

    def _may(self, operation: str) -> None:
        if operation == self._operation and self.times > 0:
            self.times -= 1
            raise StorageRefused("WORKFLOW_S3_BUCKET", f"S3 refuses {operation} to these credentials")

    async def head(self, key: CacheKey) -> StoredObject | None:
        self._may("head")
        return await super().head(key)

    async def put_if_absent(self, key: CacheKey, body: Any) -> bool:
        if key.endswith("/" + MANIFEST):
            self._may("put_if_absent")
        return await super().put_if_absent(key, body)


async def writes_its_result(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
    """As a worker does: the manifest lies under the attempt's own name."""
    yield event(1, EventKind.ACCEPTED)
    part = replace(PART, sha256=hashlib.sha256(BODY).hexdigest())
    manifest = Manifest(str(SOURCE.identity), "bam", "bam-index", "1", (part,))
    await stage.cache.put_if_absent(PART.key, BODY)
    key = cache_key(SOURCE.identity, RECIPE, result_name(str(attempt)))
    await stage.cache.put_if_absent(key, manifest.to_bytes())
    yield event(2, EventKind.DONE, manifest_digest=manifest.digest)


@pytest.mark.parametrize("operation", ["head", "put_if_absent"])
async def test_what_is_made_waits_while_the_storage_refuses_to_publish_it(
    database: Database, operation: str
) -> None:
    cache = Refuses(operation, 2)
    stage = Stage(database, cache, writes_its_result).build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert (job.status, cache.times) == (Status.COMPLETED, 0)
    assert [(a.number, a.reason) for a in job.attempts] == [(1, Reason.PUBLISHED)]


async def test_what_is_published_counts_even_if_the_worker_dies_before_saying_so(database: Database) -> None:
    stage = Stage(database, MemoryCache(), publishes_and_dies).build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert job.status is Status.COMPLETED
    assert len(job.attempts) == 1


async def test_what_ran_out_of_memory_is_tried_once_more_and_the_fleet_is_told_why(
    database: Database,
) -> None:
    stage = Stage(database, MemoryCache(), runs_out_of_memory).build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert (job.status, job.reason) == (Status.FAILED, Reason.OUT_OF_MEMORY)
    assert [need.shortages for need in stage.needs] == [
        (),
        (Shortage(Reason.OUT_OF_MEMORY, WorkerId("w")),),
    ]
    assert job.detail == "sort ran out of memory"


async def test_where_no_larger_worker_can_be_had_it_fails_at_once_and_names_the_limit(
    database: Database,
) -> None:
    stage = Stage(database, MemoryCache(), runs_out_of_memory).build()
    stage.limit = "no worker may have more memory than its 2048 MiB (ECS_WORKER_MAX_MEMORY_MIB)"
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert len(job.attempts) == 1
    assert (job.status, job.reason) == (Status.FAILED, Reason.OUT_OF_MEMORY)
    assert job.detail == f"sort ran out of memory; {stage.limit}"


async def test_a_worker_killed_for_want_of_memory_is_out_of_memory(database: Database) -> None:
    stage = Stage(database, MemoryCache(), dies).build()
    stage.died_of = Reason.OUT_OF_MEMORY
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert job.reason is Reason.OUT_OF_MEMORY
    assert len(job.attempts) == 2


async def test_what_is_published_counts_even_if_memory_ran_out_after_it(database: Database) -> None:
    stage = Stage(database, MemoryCache(), publishes_and_dies).build()
    stage.died_of = Reason.OUT_OF_MEMORY
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert job.status is Status.COMPLETED


async def test_a_lost_worker_is_tried_again_three_times_and_then_named(database: Database) -> None:
    stage = Stage(database, MemoryCache(), dies).build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert (job.status, job.reason) == (Status.FAILED, Reason.WORKER_LOST)
    assert [a.reason for a in job.attempts] == [Reason.WORKER_LOST] * 3
    assert {reusable for _, reusable in stage.released} == {False}


async def test_workers_that_end_before_they_begin_cost_the_job_no_try(database: Database) -> None:
    async def vanishes(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        if attempt.number <= 7:
            raise WorkerLost("connection refused")
        async for event in goes_well(stage, attempt, from_seq):
            yield event

    stage = Stage(database, MemoryCache(), vanishes).build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert job.status is Status.COMPLETED
    assert [a.reason for a in job.attempts] == [Reason.LAUNCH_FAILED] * 7 + [Reason.PUBLISHED]
    assert "before the attempt began" in job.attempts[0].detail


async def test_a_setting_that_no_worker_can_be_launched_with_ends_no_job(database: Database) -> None:
    stage = Stage(database, MemoryCache(), goes_well).build()
    acquire, trouble = stage.acquire, list[str | None]()

    async def refused(need: WorkerNeed) -> WorkerHandle:
        trouble.append(stage.executions.breaker.trouble)
        if len(trouble) <= 4:
            raise Misconfigured("AWS credentials", "run_task was refused: AccessDeniedException")
        return await acquire(need)

    stage.acquire = refused  # type: ignore[method-assign]
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert job.status is Status.COMPLETED
    assert [a.reason for a in job.attempts] == [Reason.LAUNCH_FAILED] * 4 + [Reason.PUBLISHED]
    assert job.attempts[0].detail == "AWS credentials: run_task was refused: AccessDeniedException"
    assert trouble == [None, None, None, job.attempts[0].detail, job.attempts[0].detail]
    assert stage.executions.breaker.trouble is None


async def test_a_size_that_cannot_be_had_ends_the_job_that_needs_it_and_stops_no_others(
    database: Database,
) -> None:
    """It was tried again for a day, and each time the launches of all jobs paused."""
    stage = Stage(database, MemoryCache(), goes_well).build()

    async def refused(need: WorkerNeed) -> WorkerHandle:
        raise Misconfigured("ECS_WORKER_MAX_CPU", "No Fargate configuration exists", of_request=True)

    stage.acquire = refused  # type: ignore[method-assign]
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert (job.reason, len(job.attempts)) == (Reason.MISCONFIGURED, 1)
    assert stage.executions.breaker.allows(4, 0) == 4


async def test_a_setting_that_the_attempt_finds_wrong_is_the_jobs_own_and_ends_it(database: Database) -> None:
    async def refuses(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        yield Event(1, EventKind.ACCEPTED, 0.0)
        yield Event(2, EventKind.FAILED, 0.0, reason=Reason.MISCONFIGURED, detail="no role for this bucket")

    stage = Stage(database, MemoryCache(), refuses).build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert (job.reason, len(job.attempts)) == (Reason.MISCONFIGURED, 1)
    assert stage.executions.breaker.trouble is None


async def test_no_capacity_waits_and_loses_nothing(database: Database) -> None:
    stage = Stage(database, MemoryCache(), goes_well).build()
    stage.refusals = 3
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert job.status is Status.COMPLETED
    assert [a.reason for a in job.attempts] == [Reason.NO_CAPACITY] * 3 + [Reason.PUBLISHED]


async def test_waiting_for_capacity_takes_no_tries_from_a_lost_worker(database: Database) -> None:
    async def dies_once(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        async for result in (dies if attempt.number == 5 else goes_well)(stage, attempt, from_seq):
            yield result

    stage = Stage(database, MemoryCache(), dies_once).build()
    stage.refusals = 4
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert job.status is Status.COMPLETED
    assert [a.reason for a in job.attempts[4:]] == [Reason.WORKER_LOST, Reason.PUBLISHED]


async def test_a_job_that_has_its_worker_no_longer_counts_as_launching(database: Database) -> None:
    stage = Stage(database, MemoryCache(), hangs).build()
    async with stage.engine():
        job = await stage.until(await stage.submit(), lambda now: now.progress.percent > 0)
        assert (stage.executions.following, stage.executions.launching) == (1, 0)
        await stage.submissions.withdraw(job.job_id, ME)
        await stage.ended(job)


async def test_a_worker_that_comes_for_a_lost_lease_is_given_back(database: Database) -> None:
    stage = Stage(database, MemoryCache(), hangs).build()

    async def taken_over(job_id: JobId, fence: Any, worker_id: WorkerId) -> None:
        raise LeaseLost(job_id, fence)

    stage.jobs.assign_worker = taken_over
    async with stage.engine():
        await stage.submit()
        await eventually(lambda: bool(stage.released))
    assert stage.released[0] == (WorkerId("w"), True)
    assert stage.started == []


async def test_cancelling_ends_the_attempt_then_the_job(database: Database) -> None:
    stage = Stage(database, MemoryCache(), hangs).build()
    async with stage.engine():
        job = await stage.until(await stage.submit(), lambda now: now.progress.percent > 0)
        await stage.submissions.withdraw(job.job_id, ME)
        job = await stage.ended(job)
    assert (job.status, job.reason) == (Status.CANCELLED, Reason.CANCELLED)
    assert stage.cancelled == [AttemptId(job.job_id, 1)]


async def test_who_asks_while_the_last_requester_leaves_gets_what_they_asked_for(database: Database) -> None:
    async def hangs_once(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        async for result in (hangs if attempt.number == 1 else goes_well)(stage, attempt, from_seq):
            yield result

    stage = Stage(database, MemoryCache(), hangs_once)
    stage.may_stop.clear()
    stage.build()
    async with stage.engine():
        job = await stage.until(await stage.submit(), lambda now: now.progress.percent > 0)
        await stage.submissions.withdraw(job.job_id, ME)
        await asyncio.wait_for(stage.stopping.wait(), 60)
        claim = await stage.submissions.submit(SOURCE, RECIPE, requester=Requester("somebody else"))
        assert claim.job.job_id == job.job_id
        stage.may_stop.set()
        job = await stage.ended(job)
    assert job.status is Status.COMPLETED
    assert [a.reason for a in job.attempts] == [Reason.CANCELLED, Reason.PUBLISHED]


async def test_the_duration_cap_ends_the_attempt_and_the_job(database: Database) -> None:
    stage = Stage(database, MemoryCache(), hangs)
    stage.timing = Timing(
        lease=timedelta(seconds=60),
        heartbeat=timedelta(seconds=0.3),
        attempt_cap=timedelta(seconds=0.5),
        silence=timedelta(seconds=30),
    )
    stage.build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert (job.status, job.reason) == (Status.FAILED, Reason.DEADLINE_EXCEEDED)
    assert stage.cancelled == [AttemptId(job.job_id, 1)]


async def test_another_process_adopts_from_where_the_job_record_stands(database: Database) -> None:
    cache = MemoryCache()
    first = Stage(database, cache, hangs, "first").build()
    async with first.engine():
        job = await first.submit()
        await first.until(job, lambda now: now.progress.seq >= 1)
    await first.jobs.hand_over(first.owner)
    standing = await first.jobs.get(job.job_id)
    second = Stage(database, cache, goes_well, "second").build()
    async with second.engine():
        job = await second.ended(job)
    assert job.status is Status.COMPLETED
    assert second.started == []
    assert second.watched_from == [standing.progress.seq + 1]
    assert [(a.number, a.reason) for a in job.attempts] == [(1, Reason.PUBLISHED)]


async def test_an_attempt_that_was_never_started_is_started_by_whoever_adopts_it(database: Database) -> None:
    cache = MemoryCache()
    first = Stage(database, cache, goes_well, "first")
    assign = first.jobs.assign_worker
    assigned = asyncio.Event()

    async def as_it_dies(*what: Any) -> None:
        await assign(*what)
        assigned.set()
        await asyncio.Event().wait()

    first.jobs.assign_worker = as_it_dies
    first.build()
    async with first.engine():
        job = await first.submit()
        await assigned.wait()
        assert first.started == []
        # Killed: the worker stays its own, and nothing of it runs any more.
        first.release = _nothing_is_released  # type: ignore[method-assign]
    await first.jobs.hand_over(first.owner)
    second = Stage(database, cache, goes_well, "second").build()
    async with second.engine():
        job = await second.ended(job)
    assert job.status is Status.COMPLETED
    assert second.started == [AttemptId(job.job_id, 1)]
    assert [(a.number, a.reason) for a in job.attempts] == [(1, Reason.PUBLISHED)]


async def test_a_step_that_is_not_recorded_is_heard_again_by_whoever_adopts_the_job(
    database: Database,
) -> None:
    cache = MemoryCache()
    first = Stage(database, cache, completes_a_step, "first")
    flaky = Flaky(first.jobs, "record_step_complete", 1 << 30, after=False)
    first.jobs = flaky
    first.build()
    async with first.engine():
        job = await first.submit()
        await eventually(lambda: flaky.failed >= 2)
    await first.jobs.hand_over(first.owner)
    second = Stage(database, cache, completes_a_step, "second").build()
    async with second.engine():
        job = await second.ended(job)
    assert second.watched_from <= [2]
    assert job.steps_completed == ("data",)
    assert len(job.attempts) == 1


async def test_a_superseded_holder_stops_and_changes_nothing(database: Database) -> None:
    cache = MemoryCache()
    first = Stage(database, cache, hangs, "first").build()
    async with first.engine():
        job = await first.submit()
        running = await first.until(job, lambda now: now.worker_id is not None)
        await first.jobs.hand_over(first.owner)
        taken = await first.jobs.adopt(job.job_id, running.fence, Owner("second"), timedelta(seconds=60))
        assert taken is not None
        await eventually(lambda: not first.executions.following)
        now = await first.jobs.get(job.job_id)
    assert (now.status, now.fence, now.lease.owner) == (Status.RUNNING, taken.fence, "second")
    assert first.cancelled == []
    assert first.released == []


async def test_a_process_that_adopts_its_own_job_follows_it_once_and_leaves_nothing_behind(
    database: Database,
) -> None:
    watching: list[int] = []

    async def watched(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        watching.append(from_seq)
        try:
            async for event in hangs(stage, attempt, from_seq):
                yield event
        finally:
            watching.remove(from_seq)

    stage = Stage(database, MemoryCache(), watched)
    stage.timing = LONG_LEASE  # The first to follow does not learn of it by its heartbeat.
    stage.build()
    async with stage.engine():
        job = await stage.until(await stage.submit(), lambda now: now.progress.percent > 0)
        assert await stage.jobs.shorten_lease(job.job_id, job.fence, job.worker_id, "it was held up")
        job = await stage.until(job, lambda now: now.fence == 2)
        await eventually(lambda: len(stage.watched_from) == 2 and watching == stage.watched_from[1:])
        assert stage.executions.following == 1
    assert watching == []
    assert (stage.released, stage.cancelled) == ([], [])


async def test_a_job_whose_worker_is_gone_when_adopted_is_done_again(database: Database) -> None:
    cache = MemoryCache()
    first = Stage(database, cache, hangs, "first").build()
    async with first.engine():
        job = await first.submit()
        await first.until(job, lambda now: now.worker_id is not None)
    await first.jobs.hand_over(first.owner)
    second = Stage(database, cache, goes_well, "second").build()
    second.kill(WorkerId("w"), "killed by signal 9")
    async with second.engine():
        job = await second.until(job, lambda now: now.attempt == 2)
    assert job.attempts[0].reason is Reason.WORKER_LOST
    assert job.attempts[0].detail == "killed by signal 9"


async def test_jobs_whose_workers_were_being_launched_as_their_process_left_go_on_soon(
    database: Database,
) -> None:
    """No worker is known to have ended: leasing went on after two minutes, and an alert was logged.

    And each time later: a job whose launch ends its API process ended one after every restart.
    """
    first = Stage(database, MemoryCache(), hangs, "first").build()
    second = Stage(database, MemoryCache(), goes_well, "second")
    second.timing = replace(second.timing, backoff_scale=0.05)
    second.build()
    job = await first.submit()
    for number in range(1, 5):
        while (held := await first.jobs.lease(job, first.owner, timedelta(seconds=60))) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await first.jobs.hand_over(first.owner)
        await second.executions.adopt(job.job_id, held.fence)
        job = await second.until(job, lambda now: now.status is Status.PENDING)
        await eventually(lambda: not second.executions.following)
        assert [a.reason for a in job.attempts] == [Reason.LEASE_EXPIRED] * number
    assert "the API process left" in job.attempts[-1].detail
    assert second.executions.breaker.allows(4, 0) == 4
    assert job.not_before is not None
    assert (job.not_before - job.updated_at).total_seconds() == pytest.approx(0.05 * 8, abs=0.01)
    async with second.engine():
        job = await second.ended(job)
    assert job.status is Status.COMPLETED


async def test_a_worker_that_ended_before_it_was_assigned_counts_against_the_fleet(
    database: Database,
) -> None:
    first = Stage(database, MemoryCache(), hangs, "first").build()
    second = Stage(database, MemoryCache(), goes_well, "second").build()
    job = await first.submit()
    for _ in range(3):
        held = await first.jobs.lease(job, first.owner, timedelta(seconds=60))
        assert await first.jobs.shorten_lease(job.job_id, held.fence, None, "the image was not found")
        await second.executions.adopt(job.job_id, held.fence)
        job = await second.until(job, lambda now: now.status is Status.PENDING)
        await eventually(lambda: not second.executions.following)
    assert (job.attempts[-1].reason, second.executions.breaker._failures) == (Reason.LAUNCH_FAILED, 3)
    assert "the image was not found" in job.attempts[-1].detail


class Flaky:
    """A store that is away for the next calls of one name; `after` of them take effect all the same."""

    def __init__(self, jobs: Any, name: str, times: int, *, after: bool) -> None:
        self._jobs = jobs
        self._name = name
        self._times = times
        self._after = after
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._jobs, name)
        if name != self._name:
            return real

        async def sometimes(*args: Any, **kwargs: Any) -> Any:
            if self._times <= 0:
                return await real(*args, **kwargs)
            self._times -= 1
            self.failed += 1
            if self._after:
                await real(*args, **kwargs)
            raise StoreUnavailable(name)

        return sometimes


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
@pytest.mark.parametrize(
    "name",
    ["assign_worker", "record_step_complete", "begin_finalize", "finalize", "renew", "record_progress"],
)
async def test_a_store_that_is_away_for_a_moment_costs_nothing(
    database: Database, name: str, after: bool
) -> None:
    stage = Stage(database, MemoryCache(), completes_a_step)
    stage.jobs = Flaky(stage.jobs, name, 2, after=after)
    stage.build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert job.status is Status.COMPLETED
    assert job.steps_completed == ("data",)
    assert len(job.attempts) == 1


async def test_progress_that_nothing_follows_is_shown_when_the_store_is_back(database: Database) -> None:
    stage = Stage(database, MemoryCache(), shows_a_step)
    stage.jobs = Flaky(stage.jobs, "record_progress", 2, after=False)
    stage.build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert job.status is Status.COMPLETED
    assert stage.jobs.failed == 2


async def test_a_lease_whose_answer_got_lost_is_followed_long_before_it_runs_out(database: Database) -> None:
    stage = Stage(database, MemoryCache(), goes_well)
    stage.jobs = Flaky(stage.jobs, "lease", 1, after=True)
    stage.timing = LONG_LEASE
    stage.build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert job.status is Status.COMPLETED
    assert [a.reason for a in job.attempts] == [Reason.PUBLISHED]


async def test_an_adoption_whose_answer_got_lost_is_followed_long_before_it_runs_out(
    database: Database,
) -> None:
    cache = MemoryCache()
    first = Stage(database, cache, hangs, "first").build()
    async with first.engine():
        job = await first.submit()
        await first.until(job, lambda now: now.progress.seq >= 1)
    await first.jobs.hand_over(first.owner)
    second = Stage(database, cache, goes_well, "second")
    second.jobs = Flaky(second.jobs, "adopt", 1, after=True)
    second.timing = LONG_LEASE
    second.build()
    async with second.engine():
        job = await second.ended(job)
    assert job.status is Status.COMPLETED
    assert second.started == []
    assert len(job.attempts) == 1


async def test_a_worker_whose_job_is_over_is_given_back_although_we_are_told_to_leave(
    database: Database,
) -> None:
    stage = Stage(database, MemoryCache(), goes_well)
    finalize = stage.jobs.finalize
    drains: list[asyncio.Task[None]] = []

    async def as_we_leave(job_id: JobId, *what: Any) -> None:
        await finalize(job_id, *what)
        for _ in range(2):  # As a process that leaves may do it once more than the drain.
            drains.append(asyncio.create_task(stage.executions.drain(0)))
            await asyncio.sleep(0.02)

    stage.jobs.finalize = as_we_leave
    stage.timing = LONG_LEASE
    stage.build()
    async with stage.engine():
        await stage.ended(await stage.submit())
    assert stage.released == [(WorkerId("w"), True)]


@pytest.mark.parametrize("marker", [True, False], ids=["marker", "no marker"])
async def test_who_finalizes_as_we_are_told_to_leave_has_the_grace_for_it(
    database: Database, marker: bool
) -> None:
    stage = Stage(database, MemoryCache(), goes_well)
    stage.finalizers = Finalizers(enabled=marker)
    stage.timing = LONG_LEASE
    begin_finalize = stage.jobs.begin_finalize
    drains: list[asyncio.Task[None]] = []

    async def as_we_leave(job_id: JobId, *what: Any) -> None:
        drains.append(asyncio.create_task(stage.executions.drain(60)))
        await asyncio.sleep(0.05)
        await begin_finalize(job_id, *what)

    stage.jobs.begin_finalize = as_we_leave
    stage.build()
    async with stage.engine():
        job = await stage.submit()
        await eventually(lambda: bool(drains) and drains[0].done())
        now = await stage.jobs.get(job.job_id)
    assert now is not None
    assert now.status is Status.COMPLETED


@pytest.mark.parametrize("edge", ["begin_finalize", "requeue"])
async def test_a_worker_goes_with_a_lease_that_is_lost_at_the_end(database: Database, edge: str) -> None:
    stage = Stage(database, MemoryCache(), goes_well if edge == "begin_finalize" else dies)

    async def taken_over(job_id: JobId, fence: Any, *more: Any) -> None:
        raise LeaseLost(job_id, fence)

    setattr(stage.jobs, edge, taken_over)
    stage.timing = LONG_LEASE
    stage.build()
    async with stage.engine():
        await stage.until(await stage.submit(), lambda now: now.worker_id is not None)
        await eventually(lambda: not stage.executions.following)
    assert (stage.released, stage.disowned) == ([], [])


async def test_a_worker_that_works_for_somebody_else_is_left_to_it(database: Database) -> None:
    stage = Stage(database, MemoryCache(), goes_well)
    acquire = stage.acquire

    async def busy_at_first(need: WorkerNeed) -> WorkerHandle:
        worker = await acquire(need)
        if need.attempt.number == 1:
            stage.machine[worker.worker_id].running = AttemptId(JobId("else"), 1)
        return worker

    stage.acquire = busy_at_first  # type: ignore[method-assign]
    stage.build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert [a.reason for a in job.attempts] == [Reason.LAUNCH_FAILED, Reason.PUBLISHED]
    assert stage.disowned == [WorkerId("w")]
    assert stage.released == [(WorkerId("w-2"), True)]


async def test_a_worker_that_comes_as_we_are_told_to_leave_is_given_back(database: Database) -> None:
    stage = Stage(database, MemoryCache(), goes_well).build()
    acquire = stage.acquire
    drains: list[asyncio.Task[None]] = []

    async def as_we_leave(need: WorkerNeed) -> WorkerHandle:
        worker = await acquire(need)
        # Its first step is after this return: the worker is there when who waits for it is cancelled.
        drains.append(asyncio.create_task(stage.executions.drain(0)))
        return worker

    stage.acquire = as_we_leave  # type: ignore[method-assign]
    async with stage.engine():
        await stage.submit()
        await eventually(lambda: bool(stage.released))
    assert stage.released[0] == (WorkerId("w"), True)
    assert stage.started == []


async def test_a_worker_nobody_here_has_seen_is_looked_up_before_it_is_given_back(database: Database) -> None:
    cache = SlowToLook()
    first = Stage(database, cache, goes_well, "first").build()
    async with first.engine():
        job = await first.submit()
        await asyncio.wait_for(cache.looked.wait(), 60)
        running = await first.jobs.get(job.job_id)
        await first.jobs.begin_finalize(job.job_id, running.fence)
    await first.jobs.hand_over(first.owner)
    cache.go_on.set()
    second = Stage(database, cache, goes_well, "second").build()
    found: list[WorkerId] = []
    find = second.find

    async def finding(worker_id: WorkerId) -> WorkerHandle | None:
        assert second.released == []
        found.append(worker_id)
        return await find(worker_id)

    second.find = finding  # type: ignore[method-assign]
    async with second.engine():
        job = await second.ended(job)
        await eventually(lambda: bool(second.released))
    assert job.status is Status.COMPLETED
    assert found == [WorkerId("w")]
    assert (first.released, second.released) == ([], [(WorkerId("w"), True)])


async def test_a_heart_that_stumbles_goes_on_beating(database: Database) -> None:
    stage = Stage(database, MemoryCache(), hangs)
    renew, beats = stage.jobs.renew, 0

    async def stumbles(*what: Any) -> Any:
        nonlocal beats
        beats += 1
        if beats < 3:
            raise Misconfigured("DATABASE_URL", "the document store refuses the credentials")
        return await renew(*what)

    stage.jobs.renew = stumbles
    stage.timing = replace(LONG_LEASE, heartbeat=timedelta(seconds=0.1))
    stage.build()
    async with stage.engine():
        job = await stage.submit()
        await eventually(lambda: beats > 3)
        await stage.submissions.withdraw(job.job_id, ME)
        assert (await stage.ended(job)).status is Status.CANCELLED


async def test_a_worker_that_cannot_be_watched_is_heard_all_the_same(database: Database) -> None:
    stage = Stage(database, MemoryCache(), goes_well)

    async def fails(worker_id: WorkerId) -> str:
        raise OSError("too many open files")

    stage.gone = fails  # type: ignore[method-assign]
    stage.build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
    assert job.status is Status.COMPLETED
    assert len(job.attempts) == 1


class SlowToLook(MemoryCache):
    """A cache whose parts take long to be looked at, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.looked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def head(self, key: CacheKey) -> StoredObject | None:
        self.looked.set()
        await self.go_on.wait()
        return await super().head(key)


async def test_a_live_finalizer_is_left_alone_even_when_its_lease_has_run_out(database: Database) -> None:
    cache = SlowToLook()
    stage = Stage(database, cache, goes_well)
    stage.timing = LONG_LEASE
    stage.build()
    async with stage.engine():
        job = await stage.submit()
        await asyncio.wait_for(cache.looked.wait(), 60)
        running = await stage.jobs.get(job.job_id)
        assert await stage.jobs.shorten_lease(job.job_id, running.fence, running.worker_id, "it ended")
        await eventually(lambda: stage.finalizers.defers_total > 0)
        now = await stage.jobs.get(job.job_id)
        assert now.fence == 1
        assert len(now.attempts) == 1
        cache.go_on.set()
        job = await stage.ended(job)
    assert job.status is Status.COMPLETED
    assert len(job.attempts) == 1


async def test_a_failure_is_remembered_until_somebody_asks_to_retry(database: Database) -> None:
    stage = Stage(database, MemoryCache(), refuses_the_source).build()
    async with stage.engine():
        job = await stage.ended(await stage.submit())
        assert (job.reason, job.detail) == (Reason.SOURCE_INVALID, "line 3: no")
        with pytest.raises(AlreadyFailed) as result:
            await stage.submit()
        assert (result.value.job_id, result.value.reason) == (job.job_id, "source_invalid")
        again = await stage.submit(retry=True)
        assert again.job_id != job.job_id
        await stage.ended(again)


async def test_a_full_queue_and_a_full_share_are_answers_with_numbers(database: Database) -> None:
    stage = Stage(database, MemoryCache(), goes_well).build()

    async def ask(number: int, who: str) -> Job:
        source = SourceFile.from_json({**SOURCE.to_json(), "md5": f"{number:032x}"})
        return (await stage.submissions.submit(source, RECIPE, requester=Requester(who))).job

    await ask(1, "a")
    await ask(2, "a")
    with pytest.raises(LimitReached) as share:
        await ask(3, "a")
    assert (share.value.allowed, share.value.current) == (2, 2)
    await ask(3, "b")
    with pytest.raises(LimitReached) as queue:
        await ask(4, "c")
    assert (queue.value.allowed, queue.value.current) == (3, 3)
    assert (await ask(1, "c")).requesters == ("a", "c")


async def test_what_an_attempt_waits_for_is_in_the_record_until_it_goes_on(database: Database) -> None:
    answers, ends = asyncio.Event(), asyncio.Event()

    async def waits_for_its_source(stage: Stage, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        yield event(1, EventKind.STEP, step="fetch")
        problem = "upstream answered 503"
        yield event(2, EventKind.PROGRESS, step="fetch", detail=problem, until=2_000_000_000.0)
        await answers.wait()
        yield event(3, EventKind.PROGRESS, step="fetch", percent=5.0)
        await ends.wait()
        yield event(4, EventKind.FAILED, reason=Reason.SOURCE_INVALID, detail="line 3: no")

    stage = Stage(database, MemoryCache(), waits_for_its_source).build()
    async with stage.engine():
        job = await stage.submit()
        job = await stage.until(job, lambda job: job.progress.waiting != "")
        assert job.progress.waiting == "upstream answered 503"
        assert job.progress.waiting_until == 2_000_000_000.0
        answers.set()
        job = await stage.until(job, lambda job: job.progress.waiting == "")
        assert (job.progress.waiting_until, job.progress.percent) == (None, 5.0)
        ends.set()
        await stage.ended(job)
