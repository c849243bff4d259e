"""API processes of the real control loops, the real store and the real ECS fleet, in one simulated world."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import insert
from tests.simulation.cloud import BUILD, PORT, Cloud, Pace, Plan, ProcessEcs, ProcessWorkers, publish
from tests.simulation.process import LATENCY_SECONDS, Process, note_owners
from tests.simulation.session_rules import SessionRules
from tests.simulation.store import MemoryDatabase, ProcessDatabase, StoreFaults, virtual_now

from gooseherd.control.batch_loop import BatchLoop, BatchTiming
from gooseherd.control.batches import Batches
from gooseherd.control.dispatcher import Dispatcher
from gooseherd.control.executions import Executions
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.limits import AttemptBounds, Timing
from gooseherd.control.loop import Loop
from gooseherd.control.read_notes import ReadNotes
from gooseherd.control.reaper import Reaper, ReaperLimits
from gooseherd.control.reconciler import Reconciler, ReconcilerLimits
from gooseherd.control.retention import Retention
from gooseherd.control.session_permits import SessionPermits
from gooseherd.control.sessions import Sessions, WantedSession
from gooseherd.control.submission import SubmissionLimits, Submissions
from gooseherd.control.supervisor import Supervisor
from gooseherd.control.wakeups import Wakeup, Wakeups
from gooseherd.control.warm_floor import FloorWorkers, WarmFloor
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind
from gooseherd.domain.attempt import AttemptSpec
from gooseherd.domain.batch import BatchId, NewBatch
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import GooseherdError
from gooseherd.domain.job import Fence, JobId, Owner, Requester
from gooseherd.domain.keys import MANIFEST, CacheKey, Recipe, cache_key, recipe_name
from gooseherd.domain.ports.batches import BatchLimits
from gooseherd.domain.ports.cache import Body, CacheBackend, StoredObject
from gooseherd.domain.queueing import Priority
from gooseherd.domain.reservation import ReservationId, ReservedSize
from gooseherd.domain.retention import RetentionPolicy
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.domain.states import TERMINAL, Status, may
from gooseherd.domain.visibility import Visibility
from gooseherd.fleet.discovery import EcsDiscovery, PollPace
from gooseherd.fleet.ecs_fleet import EcsFleet
from gooseherd.fleet.ecs_rate import TokenBucket
from gooseherd.fleet.provisioner import EcsProvisioner, LaunchTemplate
from gooseherd.storage.memory import MemoryCache
from gooseherd.store.sql.access import SqlAccessTimes
from gooseherd.store.sql.batches import SqlBatches
from gooseherd.store.sql.files import SqlFiles
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.reservations import SqlReservations
from gooseherd.store.sql.schema import access_times

RECIPE: Final = Recipe("bam-index", "1", formats.BAM)
_LOOK: Final = (
    "SELECT id, status, fence, attempt, reason, queued_for, running_slot, workflow_key, lease_owner,"
    " session_id, json_extract(attempts, '$[#-1].worker_id') FROM jobs"
)
_FLOOR: Final = "SELECT count(*) FROM reservations WHERE purpose = 'floor' AND live"

_SESSIONS: Final = "SELECT id FROM reservations WHERE purpose = 'session' AND live"
_BATCHES: Final = "SELECT count(*) FROM batches WHERE ended_at IS NULL"

FENCED: Final = frozenset(
    {"renew", "assign_worker", "record_progress", "record_step_complete"}
    | {"begin_finalize", "finalize", "release_workflow", "requeue"}
)
"""Calls of the job store that take the fence under which they are made."""


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """As an operator sets them; times are in seconds."""

    processes: int = 2
    max_workers: int = 3
    running_limit: int = 2
    floor: int = 0
    sessions: int = 0
    """Sessions at a time."""
    batches: bool = False
    retention: RetentionPolicy | None = None
    lease: float = 60.0
    heartbeat: float = 20.0
    tick: float = 10.0
    dispatch_tick: float | None = None
    """Of the dispatcher, if another one."""
    reconcile: float = 60.0
    finalize_grace: float = 30.0
    queue_ttl: float = 86400.0
    deployments: int = 0
    """Of another build, while it lasts: each may replace a session's worker, and for a while another process
    runs."""
    finalizer_marker: bool = True
    latency: float = LATENCY_SECONDS
    active_jobs: int = 100_000
    pending_per_requester: int = 100_000
    pace: Pace = field(default_factory=Pace)
    poll: PollPace = field(default_factory=PollPace)


class Recipes:
    """One recipe makes everything."""

    def recipes_on_demand(self, source: SourceFile) -> tuple[Recipe, ...]:
        return ()

    def recipe(self, source: SourceFile) -> Recipe:
        return RECIPE

    def kinds(self, recipe: Recipe) -> frozenset[Kind]:
        return frozenset(Kind)

    def filenames(self, source: SourceFile, recipe: Recipe) -> Mapping[Kind, str]:
        return {}


def source(number: int, size_in_bytes: int = 1000) -> SourceFile:
    """The file of that number."""
    return SourceFile(
        Dcc("t"),
        LocalId(f"f{number}"),
        f"f{number}.bam",
        formats.BAM,
        "https://example.org/f.bam",
        md5=f"{number:032x}",
        size_in_bytes=size_in_bytes,
    )


async def _as_it_is(of: SourceFile) -> SourceFile:
    return of


class ProcessCache(CacheBackend):
    """The artifacts as one process reads them."""

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process
        self._shared = world.cache

    async def head(self, key: CacheKey) -> StoredObject | None:
        await self._slowly()
        return await self._process.call(lambda: self._shared.head(key))

    async def _slowly(self) -> None:
        if self._world.cache_seconds:
            await asyncio.sleep(self._world.chance.random() * self._world.cache_seconds)

    async def get(self, key: CacheKey, span: ByteRange | None = None) -> Any:
        async def read() -> bytes:
            return b"".join([chunk async for chunk in self._shared.get(key, span)])

        await self._slowly()

        if data := await self._process.call(read):
            yield data

    async def put_if_absent(self, key: CacheKey, body: Body) -> bool:
        raise AssertionError("an API process writes no artifacts")

    async def delete(self, key: CacheKey) -> bool:
        await self._slowly()
        return await self._process.call(lambda: self._delete(key))

    async def _delete(self, key: CacheKey) -> bool:
        self._world.removed(key)
        return await self._shared.delete(key)

    async def sweep(self, older_than_seconds: float) -> int:
        return 0

    def list(self, prefix: str = "") -> Any:
        return self._shared.list(prefix)

    async def close(self) -> None:
        """What is stored stays."""


class CheckedJobs:
    """A process's store. No write takes effect under a fence that was old before it was asked for."""

    def __init__(self, jobs: Any, world: World) -> None:
        self._jobs, self._world = jobs, world

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._jobs, name)
        if name not in FENCED:
            return real

        async def checked(job_id: JobId, fence: Fence, *arguments: Any) -> Any:
            newer = self._world.fence_of(job_id) > fence
            result = await real(job_id, fence, *arguments)
            if newer:
                self._world.violations.append(f"{name} of job {job_id} took effect under an old fence")
            return result

        return checked


class SimulatedApi:
    """One API process in one of its lives."""

    def __init__(self, world: World, name: str, build: str) -> None:
        settings, process = world.settings, Process(name, world.chance, latency=world.settings.latency)
        self.process = process
        clock = asyncio.get_running_loop().time
        jobs = SqlJobs(ProcessDatabase(world.database, process, world.store_faults))
        self.jobs: Any = CheckedJobs(world.jobs_of(jobs), world)
        self.cache = ProcessCache(world, process)
        self.workers = ProcessWorkers(world.cloud, process)
        self.wakeups = Wakeups()
        database = ProcessDatabase(world.database, process, world.store_faults)
        self.reservations = world.reservations_of(SqlReservations(database), name)
        self._world, self._files, self._database = world, world.files, database
        self._access = SqlAccessTimes(database)
        self.read_notes = ReadNotes(self._access, tick_seconds=settings.tick, clock=clock)
        session_wakeup = Wakeup()
        self.permits = SessionPermits(self.reservations, session_wakeup, build) if settings.sessions else None
        self._floor_wakeup = Wakeup()
        floor_workers = FloorWorkers(self.reservations, build, self._floor_wakeup)
        self.finalizers = Finalizers(enabled=settings.finalizer_marker)
        api = ProcessEcs(world.cloud, process, build)
        template = LaunchTemplate(fleet="simulated", task_definition="worker", subnets=("subnet",))
        rate = TokenBucket(20, 20, clock=clock)
        self.fleet = EcsFleet(
            api=api,
            provisioner=EcsProvisioner(api, template, rate=rate),
            discovery=EcsDiscovery(
                api,
                "simulated",
                worker_port=PORT,
                pace=settings.poll,
                probe=self.workers.probe,
                clock=clock,
            ),
            describe=self.workers.describe,
            build=build,
            max_workers=settings.max_workers,
            idle_timeout=settings.pace.idle_timeout,
            floor=floor_workers if settings.floor else None,
            unreserve=self.workers.unreserve,
            clock=clock,
        )
        self.executions = Executions(
            jobs=self.jobs,
            fleet=self.fleet,
            workers=self.workers,
            cache=self.cache,
            finalizers=self.finalizers,
            wakeups=self.wakeups,
            owner=Owner(name),
            permits=self.permits,
            timing=Timing(
                lease=timedelta(seconds=settings.lease),
                heartbeat=timedelta(seconds=settings.heartbeat),
                attempt_cap=timedelta(hours=4),
                silence=timedelta(seconds=60),
                backoff_scale=1.0,
            ),
            bounds=AttemptBounds(1 << 40, 1 << 40, build),
            clock=clock,
        )
        self.submissions = Submissions(
            jobs=self.jobs,
            cache=self.cache,
            recipes=Recipes(),
            limits=SubmissionLimits(settings.active_jobs, settings.pending_per_requester),
            wakeups=self.wakeups,
            new_id=world.new_id,
            on_read=self.read_notes.note,
            clock=clock,
        )
        self.sessions = Sessions(
            reservations=self.reservations,
            jobs=self.jobs,
            fleet=self.fleet,
            workers=self.workers,
            submissions=self.submissions,
            wakeups=self.wakeups,
            wakeup=session_wakeup,
            most_sessions=settings.sessions,
            build=build,
            tick_seconds=settings.tick,
            new_id=lambda: ReservationId(world.new_id()),
        )
        self.batch_loop = BatchLoop(
            batches=SqlBatches(database),
            jobs=self.jobs,
            submissions=self.submissions,
            servable=self._servable,
            described=_as_it_is,
            owner=Owner(name),
            # Seldom, for the same reason as everything is looked at seldom.
            timing=BatchTiming(settings.pending_per_requester, look_again_seconds=5.0),
            tick_seconds=settings.tick,
        )
        self.batches = Batches(
            SqlBatches(database), limits=BatchLimits(100, 10), wakeup=self.batch_loop.wakeup
        )
        self.warm_floor = WarmFloor(
            reservations=self.reservations,
            fleet=self.fleet,
            workers=self.workers,
            floor_workers=floor_workers,
            wakeup=self._floor_wakeup,
            work=self.wakeups.work,
            floor=settings.floor,
            max_workers=settings.max_workers,
            build=build,
            tick_seconds=20.0,
            new_id=lambda: ReservationId(world.new_id()),
        )
        self._supervisor = Supervisor(
            jobs=self.jobs,
            executions=self.executions,
            loops=self._loops(settings),
            wakeups=self.wakeups,
            grace_seconds=20,
        )
        self._life: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self.up = asyncio.Event()

    async def _servable(self, dcc: str, local_id: str, seen_by: Visibility) -> SourceFile:
        return self._files[local_id]

    def _loops(self, settings: WorldSettings) -> list[Loop[Any, Any]]:
        dispatcher = Dispatcher(
            jobs=self.jobs,
            fleet=self.fleet,
            executions=self.executions,
            wakeups=self.wakeups,
            running_limit=settings.running_limit,
            tick_seconds=settings.dispatch_tick or settings.tick,
            permits=self.permits,
        )
        reaper = Reaper(
            jobs=self.jobs,
            executions=self.executions,
            finalizers=self.finalizers,
            wakeups=self.wakeups,
            limits=ReaperLimits(
                finalize_grace=timedelta(seconds=settings.finalize_grace),
                queue_ttl=timedelta(seconds=settings.queue_ttl),
            ),
            tick_seconds=settings.tick,
        )
        reconciler = Reconciler(
            jobs=self.jobs,
            fleet=self.fleet,
            reservations=self.reservations,
            limits=ReconcilerLimits(),
            tick_seconds=settings.reconcile,
            follows=self.executions.follows,
            unowned=self.wakeups.unowned,
        )
        loops: list[Loop[Any, Any]] = [dispatcher.loop, reaper.loop, reconciler.loop]
        if settings.floor:
            loops.append(self.warm_floor.loop)
        if settings.sessions:
            loops.append(self.sessions.loop)
        if settings.batches:
            loops.append(self.batch_loop.loop)
        if settings.retention is not None:
            loops += [self.read_notes.loop, self._retention(settings.retention).loop]
        return loops

    def _retention(self, policy: RetentionPolicy, keep_ended: timedelta | None = None) -> Retention:
        return Retention(
            jobs=self.jobs,
            files=SqlFiles(self._database),
            batches=SqlBatches(self._database),
            access=self._access,
            cache=self.cache,
            recipes={recipe_name(RECIPE)},
            policy=policy,
            keep_ended=keep_ended,
            tick_seconds=60.0,
            forget=self.submissions.forget_manifest,
        )

    def start(self) -> None:
        """Begin; when the store is away it is tried again, as whoever keeps services running does."""
        self._life = self.process.start(self._run())

    async def _run(self) -> None:
        while True:
            try:
                async with self._supervisor:
                    self.up.set()
                    await self._leave.wait()
                break
            except GooseherdError:
                await asyncio.sleep(1.0)
        await self.warm_floor.close()
        await self.sessions.close()
        await self.fleet.close()

    async def stop(self) -> None:
        """As SIGTERM."""
        self._leave.set()
        if self._life is not None:
            await asyncio.wait({self._life})
        await self.process.kill()  # Whatever a process leaves running ends with it.

    async def kill(self) -> None:
        """As SIGKILL."""
        await self.process.kill()

    def submit(self, of: SourceFile, requester: str, priority: Priority) -> asyncio.Task[JobId | None]:
        """Ask for a file; the job that makes it, or None: it is there, or the request failed."""

        async def ask() -> JobId | None:
            with suppress(GooseherdError):
                if await self.submissions.published(of, RECIPE) is None:
                    claim = await self.submissions.submit(
                        of, RECIPE, requester=Requester(requester), priority=priority, retry=True
                    )
                    return claim.job.job_id
            return None

        return self.process.start(ask())

    def open_session(self, owner: str, idle_seconds: float) -> asyncio.Task[None]:
        """A session for that requester, if one is to be had."""

        async def ask() -> None:
            with suppress(GooseherdError):
                await self.sessions.open(WantedSession(Requester(owner), ReservedSize.SMALL, idle_seconds, 0))

        return self.process.start(ask())

    def end_sessions(self) -> asyncio.Task[None]:
        """All of them, as their owners end them."""

        async def ask() -> None:
            with suppress(GooseherdError):
                for session in await self.sessions.sessions():
                    await self.sessions.end(session.reservation_id)

        return self.process.start(ask())

    def ask_for_batch(self, of: Sequence[SourceFile], requester: str) -> asyncio.Task[BatchId | None]:
        """A batch of these files; None: it is not known whether it was taken."""

        async def ask() -> BatchId | None:
            names = tuple((one.dcc, one.local_id) for one in of)
            new = NewBatch(BatchId(self._world.new_id()), Requester(requester), names, "digest")
            with suppress(GooseherdError):
                return (await self.batches.create(new)).batch.batch_id
            return None

        return self.process.start(ask())

    def cancel_batch(self, batch_id: BatchId) -> asyncio.Task[None]:
        """As its requester cancels it."""

        async def ask() -> None:
            with suppress(GooseherdError):
                await self.batches.cancel(batch_id)

        return self.process.start(ask())

    def withdraw(self, job_id: JobId) -> None:
        """As an operator cancels it."""

        async def cancel() -> None:
            with suppress(GooseherdError):
                await self.submissions.withdraw(job_id, None)

        self.process.start(cancel())


@dataclass(frozen=True, slots=True)
class Seen:
    """Of a job's row, what is looked at after each write."""

    job_id: str
    status: Status
    fence: int
    attempt: int
    reason: str | None
    queued_for: str
    slot: int | None
    key: str
    owner: str | None
    session: str | None
    worker: str | None

    @property
    def in_flight(self) -> str | None:
        """The session under whose permit it is leased now."""
        return self.session if self.status in (Status.RUNNING, Status.FINALIZING) else None


class Violation(AssertionError):
    """Something that must never happen did."""


class World:
    """A store, a cloud and artifacts that all processes share, and what must hold of them.

    `jobs_of` and `reservations_of` may put something between each process (by name) and its store: a defect,
    for a test of the checks.
    """

    def __init__(
        self,
        chance: random.Random,
        settings: WorldSettings,
        database: MemoryDatabase,
        plan: Callable[[AttemptSpec], Plan],
        jobs_of: Callable[[SqlJobs], Any] = lambda jobs: jobs,
        reservations_of: Callable[[SqlReservations, str], Any] = lambda reservations, _: reservations,
        *,
        watch: bool = True,
    ) -> None:
        self.chance = chance
        self.settings = settings
        self.database = database
        self.jobs_of = jobs_of
        self.reservations_of = reservations_of
        self.cache = MemoryCache(lambda: virtual_now().timestamp())
        self.files: dict[str, SourceFile] = {}
        """What the catalog has, by local id."""
        self.old: set[CacheKey] = set()
        """Manifests that were there before anything began, and that retention may remove."""
        self.store_faults = StoreFaults(chance)
        self.cache_seconds = 0.0
        """The longest that a read of an artifact takes."""
        self.violations: list[str] = []
        self.cloud = Cloud(chance, plan, settings.pace, self.cache, self.violations.append)
        self.api: dict[str, SimulatedApi] = {}
        self.lives = 0
        self.build = BUILD
        """That is deployed."""
        self.trace: Callable[[str], None] = lambda words: None
        self.any_jobs = SqlJobs(database)
        """The store as somebody reads it who never dies."""
        self.any_batches = SqlBatches(database)
        self.removals = 0
        """Artifacts that retention has removed."""
        self._before: dict[str, Seen] = {}
        self._sessions = SessionRules(
            self.violations.append, lambda words: self.trace(words), settings.deployments
        )
        database.after_write = self._look if watch else lambda: None
        note_owners(asyncio.get_running_loop())

    def new_id(self) -> JobId:
        """Of a job, by chance and therefore by the seed."""
        return JobId(uuid.UUID(int=self.chance.getrandbits(128)).hex)

    def start(self, name: str, build: str | None = None) -> SimulatedApi:
        """A new life of the process of that name, of the build that is deployed or of another one."""
        self.lives += 1
        api = self.api[name] = SimulatedApi(self, name, build or self.build)
        api.start()
        return api

    def rows(self) -> list[Seen]:
        """All jobs."""
        return [
            Seen(row[0], Status(row[1]), *row[2:]) for row in self.database.driver.execute(_LOOK).fetchall()
        ]

    def live_sessions(self) -> list[str]:
        """Those that have not ended."""
        return [name for (name,) in self.database.driver.execute(_SESSIONS).fetchall()]

    def open_batches(self) -> int:
        """How many have not ended."""
        (count,) = self.database.driver.execute(_BATCHES).fetchone()
        return int(count)

    def fence_of(self, job_id: JobId) -> int:
        """The job's fence now."""
        found = self.database.driver.execute("SELECT fence FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return int(found[0]) if found else 0

    def _look(self) -> None:
        now = {row.job_id: row for row in self.rows()}
        for job_id, row in now.items():
            before = self._before.get(job_id)
            if before != row:
                self.trace(f"{row.key[:36]} {row}" if before is None else str(row))
                if before is not None:
                    self._compare(before, row)
        active = [row.key for row in now.values() if row.status not in TERMINAL]
        if len(active) != len(set(active)):
            self.violations.append("two active jobs have one key")
        for row in now.values():
            limit = self.settings.running_limit
            if row.slot is not None and row.status not in TERMINAL and not 0 <= row.slot < limit:
                self.violations.append(f"job {row.job_id} has slot {row.slot}, the limit is {limit}")
        if self.settings.sessions:
            self._sessions.look(self.database.driver, self._before, now)
        self._before = now
        if (sessions := len(self.live_sessions())) > self.settings.sessions:
            self.violations.append(f"there are {sessions} sessions, the limit is {self.settings.sessions}")
        (reserved,) = self.database.driver.execute(_FLOOR).fetchone()
        if reserved > self.settings.floor:
            self.violations.append(f"{reserved} workers are reserved, the floor is {self.settings.floor}")

    def _compare(self, before: Seen, row: Seen) -> None:
        if before.status in TERMINAL and (row.status, row.reason) != (before.status, before.reason):
            self.violations.append(f"job {row.job_id} was {before.status} and is {row.status}")
        elif before.status is not row.status and not may(before.status, row.status):
            self.violations.append(f"job {row.job_id} went from {before.status} to {row.status}")
        if row.fence < before.fence:
            self.violations.append(f"the fence of job {row.job_id} fell")
        adopted = row.fence > before.fence and before.status is not Status.PENDING
        if adopted and row.owner is not None:
            holder = self.api.get(row.owner)
            if holder is not None and JobId(row.job_id) in holder.finalizers._since:
                self.violations.append(f"{row.owner} adopted job {row.job_id}, which it is finalizing")

    def removed(self, key: CacheKey) -> None:
        """An object of an artifact is being removed."""
        self.removals += key.endswith(MANIFEST)
        if key.removesuffix(MANIFEST).removesuffix("data") + MANIFEST not in self.old:
            self.violations.append(f"{key} is removed, and was made a moment ago")

    async def note_reads_since(self, days: float) -> None:
        """As a service that has run for so long."""
        at = virtual_now() - timedelta(days=days)
        row = {"name": "reads noted", "at": at}
        await self.database.write("a long time", lambda tx: tx.connection.execute(insert(access_times), row))

    async def put_old(self, of: SourceFile, days: float) -> None:
        """Publish it as of so many days ago."""
        cache = MemoryCache(lambda: virtual_now().timestamp() - days * 86400)
        cache._objects = self.cache._objects
        await publish(cache, of, RECIPE)
        self.old.add(cache_key(of.identity, RECIPE, MANIFEST))

    def was_old(self, of: SourceFile) -> bool:
        """Whether its artifact was there before anything began."""
        return cache_key(of.identity, RECIPE, MANIFEST) in self.old

    async def published(self, of: SourceFile) -> bool:
        """Whether the artifact is there."""
        return await self.cache.head(cache_key(of.identity, RECIPE, MANIFEST)) is not None

    async def close(self) -> None:
        """End everything."""
        for api in self.api.values():
            await api.kill()
        await self.cloud.close()
