"""One schedule: jobs come, everything fails at random, everything heals; and what must hold then."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, Self

from tests.simulation.cloud import Pace, Plan, seconds_since_start
from tests.simulation.store import MemoryDatabase
from tests.simulation.virtual_time import NothingLeft, VirtualTimeLoop
from tests.simulation.world import RECIPE, World, WorldSettings, source

from gooseherd.domain.attempt import AttemptSpec
from gooseherd.domain.batch import BatchId, MemberState
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import MANIFEST, cache_key
from gooseherd.domain.queueing import Priority
from gooseherd.domain.retention import RetentionPolicy
from gooseherd.domain.source import SourceFile
from gooseherd.domain.states import TERMINAL, Status
from gooseherd.fleet.discovery import PollPace
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.reservations import SqlReservations

TROUBLE_SECONDS: Final = 240.0
FUTURE_SECONDS: Final = 3 * 3600.0
"""After everything has healed no job takes longer; most of it are the longest waits between attempts."""
FLOOR_SECONDS: Final = 1800.0
"""After the last job has ended; a launch may be put off for five minutes by those that failed before."""
GONE_SECONDS: Final = 900.0
"""After the last API process has left no worker lives longer."""

_SLOW_ARTIFACTS: Final = 0.2
"""Of all schedules: finalizing takes longer than a lease, while processes pause and the store is away."""

_DEPLOYMENTS: Final = 0.15
"""Of all schedules: another build is deployed, and perhaps taken back; and what is short is short: how long
jobs wait in the queue, how many of one requester do. There may be a crowd, and workers for all of it."""
_NEXT_BUILD: Final = "b2"
_BESIDE: Final = "new"
"""The process that is started beside the others at a deployment."""
_CROWD: Final = 40
"""Requesters of a file each: more than the dispatcher reads at once."""
_WORKERS_FOR_ALL: Final = 60

SESSIONS_SECONDS: Final = 1200.0
"""After the last job has ended: the longest idle time, and an end whose worker is looked for."""

_PEOPLE: Final = ("anne", "bert", "cleo")
_RETENTION: Final = RetentionPolicy(idle=timedelta(days=3))
"""Of what was there before anything began some is older."""

_ENDS: Final = (None,) * 8 + (Reason.SOURCE_INVALID, Reason.TOOL_FAILED, Reason.OUT_OF_MEMORY)


@dataclass
class Outcome:
    """What happened; `violations` is empty when everything held."""

    seed: int
    violations: list[str] = field(default_factory=list)
    jobs: Counter[str] = field(default_factory=Counter)
    trouble: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Defect:
    """Something wrong on purpose: a test of the checks."""

    jobs_of: Callable[[SqlJobs], Any] = lambda jobs: jobs
    reservations_of: Callable[[SqlReservations, str], Any] = lambda reservations, _: reservations
    finalizer_marker: bool = True


class Schedules:
    """Runs any number of them, one after the other, on one database."""

    def __init__(self, defect: Defect | None = None) -> None:
        self._defect = defect or Defect()
        self._database = MemoryDatabase()
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(self._database.prepare())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.__exit__()

    def run(self, seed: int) -> Outcome:
        """The schedule of that seed, the same each time."""
        outcome = Outcome(seed)
        self._database.after_write = lambda: None
        self._database.forget()
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            try:
                runner.run(self._play(outcome))
            except NothingLeft:
                outcome.violations.append("everybody waits for ever")
        return outcome

    async def _play(self, outcome: Outcome) -> None:
        await _Schedule(outcome, self._database, self._defect).play()


class _Schedule:
    def __init__(self, outcome: Outcome, database: MemoryDatabase, defect: Defect) -> None:
        self._outcome = outcome
        self._chance = chance = random.Random(outcome.seed)
        self._plans: dict[str, Plan] = {}
        self._files: list[SourceFile] = []
        self._promised: set[JobId] = set()
        self._batches: set[BatchId] = set()
        self._slow_artifacts = chance.random() < _SLOW_ARTIFACTS
        self.settings = WorldSettings(
            processes=chance.choice((1, 1, 2) if self._slow_artifacts else (1, 2, 2, 3)),
            max_workers=(workers := chance.randint(1, 4)),
            floor=min(workers, chance.choice((0, 0, 1, 2))),
            sessions=chance.choice((0, 0, 1, 2)),
            batches=chance.random() < 0.3,
            retention=_RETENTION if chance.random() < 0.2 else None,
            running_limit=chance.randint(1, 3),
            lease=30.0,
            heartbeat=10.0,
            tick=15.0,
            finalizer_marker=defect.finalizer_marker,
            # Seldom: most of what a schedule takes would be looking at tasks that have not changed.
            poll=PollPace(young=1.0, starting=4.0, busy=15.0),
            pace=Pace(
                provisioning=chance.uniform(1, 20),
                starting=chance.uniform(1, 40),
                idle_timeout=chance.choice((20.0, 60.0)),
            ),
        )
        # By chances of its own: all other schedules are what they would be without it.
        self._shape = shape = random.Random(f"shape {outcome.seed}")
        self._deploys = shape.random() < _DEPLOYMENTS and not self._slow_artifacts
        self._crowded = self._deploys and shape.random() < 0.2
        if self._deploys:
            self.settings = replace(
                self.settings,
                max_workers=_WORKERS_FOR_ALL if self._crowded else 5,  # A session has one more for a while.
                sessions=max(1, self.settings.sessions),
                batches=True,
                deployments=1,
                queue_ttl=shape.choice((60.0, 86400.0)),
                pending_per_requester=shape.choice((4, 9)),
            )
        self._world = World(
            chance, self.settings, database, self._plan, defect.jobs_of, defect.reservations_of
        )

    def _plan(self, spec: AttemptSpec) -> Plan:
        return self._plans[spec.source.local_id]

    def _trace(self, words: str) -> None:
        self._outcome.trace.append(f"{seconds_since_start():9.2f} {words}")

    async def play(self) -> None:
        world, outcome = self._world, self._outcome
        world.trace = self._trace
        names = [f"api{number}" for number in range(self.settings.processes)]
        if self.settings.retention is not None:
            await self._things_are_old()
        for name in names:
            world.start(name)
        events = [
            asyncio.ensure_future(self._jobs_come()),
            *((asyncio.ensure_future(self._sessions_come()),) if self.settings.sessions else ()),
            *((asyncio.ensure_future(self._batch_comes()),) if self.settings.batches else ()),
            *((asyncio.ensure_future(self._deployment(names)),) if self._deploys else ()),
            *((asyncio.ensure_future(self._crowd_comes()),) if self._crowded else ()),
            *(map(asyncio.ensure_future, self._troubles(names))),
        ]
        await asyncio.wait(events)
        for event in events:
            event.result()
        self._heal(names)
        await self._until(self._all_ended, FUTURE_SECONDS)
        self._check_ends()
        await self._check_batches()
        await self._until(lambda: not self._world.live_sessions(), SESSIONS_SECONDS)
        outcome.violations += [f"session {name} has no end" for name in self._world.live_sessions()]
        await self._until(self._floor_is_held, FLOOR_SECONDS)
        if not self._floor_is_held():
            kept = [task.waits_for_the_floor for task in world.cloud.live()]
            outcome.violations.append(f"the floor is {self.settings.floor}, workers are kept: {kept}")
        for name in names:
            await world.api[name].stop()
        await self._until(lambda: not world.cloud.live(), GONE_SECONDS)
        for task in world.cloud.live():
            outcome.violations.append(f"task {task.name} lives although nobody needs it")
        processes = self.settings.processes + self.settings.deployments
        if world.cloud.most_live > processes * self.settings.max_workers:
            outcome.violations.append(f"{world.cloud.most_live} workers at a time")
        for row in world.rows():
            if row.status is Status.COMPLETED and not await self._is_published(row.job_id):
                outcome.violations.append(f"job {row.job_id} is completed, and nothing is published")
        await self._check_retention()
        outcome.violations += world.violations
        await world.close()

    # -- what happens ------------------------------------------------------------------------

    async def _jobs_come(self) -> None:
        chance = self._chance
        asked: list[asyncio.Task[JobId | None]] = []
        for number in range(chance.randint(1, 7)):
            await asyncio.sleep(chance.expovariate(1 / 25))
            of = self._file(number)
            asked.append(self._ask(of))
            if chance.random() < 0.3:
                asked.append(self._ask(of))
        await asyncio.sleep(chance.uniform(0, TROUBLE_SECONDS / 2))
        if self._files:
            asked.append(self._ask(chance.choice(self._files)))
        await asyncio.wait(asked)
        for task in asked:
            if not task.cancelled() and (job_id := task.result()) is not None:
                self._promised.add(job_id)

    def _file(self, number: int, *, small: bool = False) -> SourceFile:
        """A new one, and what its attempts will do."""
        chance = self._chance
        of = source(number, chance.choice((1000,) if small else (1000, 10**6, 3 * 2**30)))
        seconds = chance.choice((0.3, 2.0) if small else (0.3, 2.0, 30.0, 150.0)) * chance.uniform(0.5, 1.5)
        self._plans[of.local_id] = Plan(seconds, chance.choice(_ENDS))
        self._world.files[of.local_id] = of
        self._files.append(of)
        return of

    async def _things_are_old(self) -> None:
        """Artifacts that nobody has read for days, and for longer it has been noted who is read."""
        await self._world.note_reads_since(days=30)
        for number in range(100, 100 + self._chance.randint(1, 3)):
            await self._world.put_old(self._file(number, small=True), self._chance.choice((1.0, 9.0)))

    async def _sessions_come(self) -> None:
        chance = self._chance
        for _ in range(chance.randint(1, 3)):
            await asyncio.sleep(chance.uniform(0, TROUBLE_SECONDS / 2))
            owner, idle = chance.choice(_PEOPLE), chance.choice((10.0, 60.0, 300.0))
            api = chance.choice(list(self._world.api.values()))
            self._trace(f"{owner} asks {api.process.name} for a session, idle for {idle:.0f} s at most")
            await asyncio.wait({api.open_session(owner, idle)})
        if chance.random() < 0.3:
            await asyncio.sleep(chance.uniform(0, TROUBLE_SECONDS / 4))
            self._trace("sessions are ended")
            await asyncio.wait({chance.choice(list(self._world.api.values())).end_sessions()})

    async def _batch_comes(self) -> None:
        chance = self._chance
        await asyncio.sleep(chance.uniform(0, TROUBLE_SECONDS / 3))
        files = [self._file(number, small=True) for number in range(50, 50 + chance.randint(2, 5))]
        files += chance.sample(self._files[: -len(files)], k=min(1, len(self._files) - len(files)))
        api, owner = chance.choice(list(self._world.api.values())), chance.choice(_PEOPLE)
        self._trace(f"{owner} asks {api.process.name} for {len(files)} files in a batch")
        asked = api.ask_for_batch(files, owner)
        await asyncio.wait({asked})
        batch = None if asked.cancelled() else asked.result()
        if batch is not None:
            self._batches.add(batch)
            if self.settings.queue_ttl < TROUBLE_SECONDS:
                await self._cancel_when_a_job_expired(batch)
            elif chance.random() < 0.25:
                await asyncio.sleep(chance.uniform(0, 60))
                self._trace("the batch is cancelled")
                await asyncio.wait({chance.choice(list(self._world.api.values())).cancel_batch(batch)})

    async def _cancel_when_a_job_expired(self, batch: BatchId) -> None:
        """Before whoever looks after the batch has asked for it again."""
        self._befalls("fleet_trouble (no capacity)")
        self._world.cloud.faults.no_capacity += 30
        expired = Reason.QUEUE_EXPIRED.value
        for _ in range(int(TROUBLE_SECONDS)):
            await asyncio.sleep(1.0)
            if any(row.reason == expired for row in self._world.rows()):
                break
        self._trace("the batch is cancelled")
        await asyncio.wait({self._shape.choice(list(self._world.api.values())).cancel_batch(batch)})

    async def _crowd_comes(self) -> None:
        """One with many files, and many with one each, at the same time."""
        shape = self._shape
        await asyncio.sleep(shape.uniform(0, TROUBLE_SECONDS / 2))
        self._trace(f"{_CROWD} requesters come, and one with many files")
        asked = []
        for number in range(_CROWD + 9):
            of = source(200 + number)
            self._plans[of.local_id] = Plan(shape.uniform(1, 60))
            self._world.files[of.local_id] = of
            self._files.append(of)
            api = shape.choice(list(self._world.api.values()))
            requester = f"one of {number}" if number < _CROWD else "many"
            asked.append(api.submit(of, requester, Priority.INTERACTIVE))
        await asyncio.wait(asked)
        self._promised |= {
            job for task in asked if not task.cancelled() and (job := task.result()) is not None
        }

    async def _deployment(self, names: list[str]) -> None:
        """A process of the next build comes beside the others, and leaves again or replaces them."""
        shape, world = self._shape, self._world
        await asyncio.sleep(shape.uniform(0, TROUBLE_SECONDS / 4))
        owner = shape.choice(_PEOPLE)
        self._trace(f"{owner} asks for a session before the deployment")
        await asyncio.wait({shape.choice(list(world.api.values())).open_session(owner, 600.0)})
        await asyncio.sleep(shape.uniform(10, TROUBLE_SECONDS / 2))
        self._befalls(f"deploy {_NEXT_BUILD}")
        beside = world.start(_BESIDE, _NEXT_BUILD)
        await asyncio.sleep(shape.uniform(60, 200))
        if shape.random() < 0.6:
            self._befalls("take_back the deployment")
            await (beside.kill() if shape.random() < 0.3 else beside.stop())
        else:
            world.build = _NEXT_BUILD
            for name in names:
                api = world.api[name]
                await api.stop()
                if world.api[name] is api:  # Nobody who had killed it started it again meanwhile.
                    world.start(name)
            await beside.stop()
        del world.api[_BESIDE]
        of = source(300)
        self._plans[of.local_id] = Plan(2.0)
        self._trace(f"{owner} asks for {of.local_id} after the deployment")
        asked = shape.choice(list(world.api.values())).submit(of, owner, Priority.INTERACTIVE)
        await asyncio.wait({asked})
        if not asked.cancelled() and (job := asked.result()) is not None:
            self._promised.add(job)

    def _ask(self, of: SourceFile) -> asyncio.Task[JobId | None]:
        chance = self._chance
        api = chance.choice(list(self._world.api.values()))
        requester, priority = chance.choice(_PEOPLE), chance.choice(list(Priority))
        self._trace(f"{requester} asks {api.process.name} for {of.local_id}, {priority.label}")
        return api.submit(of, requester, priority)

    def _troubles(self, names: list[str]) -> list[Any]:
        chance = self._chance
        if self._slow_artifacts:
            self._world.cache_seconds = 150.0
            few = (self._pause_api, self._store_away, self._store_away)
            return [
                chance.choice(few)(chance.uniform(0, TROUBLE_SECONDS), chance.choice(names)) for _ in range(4)
            ]
        kinds = (
            *(self._kill_worker,) * 3,
            *(self._kill_api,) * 2,
            *(self._pause_api,) * 2,
            self._restart_api,
            self._store_away,
            self._store_flaky,
            self._artifacts_slow,
            self._cancel,
            self._fleet_trouble,
        )
        return [
            chance.choice(kinds)(chance.uniform(0, TROUBLE_SECONDS), chance.choice(names))
            for _ in range(chance.randint(0, 8))
        ]

    def _befalls(self, what: str) -> None:
        self._outcome.trouble[what.split(maxsplit=1)[0]] += 1
        self._trace(what)

    async def _kill_worker(self, at: float, name: str) -> None:
        await asyncio.sleep(at)
        if live := self._world.cloud.live():
            task = self._chance.choice(live)
            self._befalls(f"kill_worker {task.name}")
            task.kill()

    async def _kill_api(self, at: float, name: str) -> None:
        await asyncio.sleep(at)
        api, pause = self._world.api[name], self._chance.uniform(0, 40)
        if not api.process.dead:
            self._befalls(f"kill_api {name} for {pause:.0f} s")
            await api.kill()
            await asyncio.sleep(pause)
            # It may have been about to leave for a restart, which has started it by now: never two of a name.
            if self._world.api[name] is api:
                self._world.start(name)

    async def _restart_api(self, at: float, name: str) -> None:
        await asyncio.sleep(at)
        api = self._world.api[name]
        if not api.process.dead and api.up.is_set():
            self._befalls(f"restart_api {name}")
            await api.stop()
            if self._world.api[name] is api:
                self._world.start(name)

    async def _pause_api(self, at: float, name: str) -> None:
        await asyncio.sleep(at)
        api, seconds = self._world.api[name], self._chance.choice((5.0, 30.0, 100.0))
        self._befalls(f"pause_api {name} for {seconds:.0f} s")
        api.process.pause()
        await asyncio.sleep(seconds)
        api.process.go_on()

    async def _store_away(self, at: float, name: str) -> None:
        await asyncio.sleep(at)
        seconds = self._chance.choice((40.0, 80.0) if self._slow_artifacts else (2.0, 15.0, 80.0))
        self._befalls(f"store_away for {seconds:.0f} s")
        self._world.store_faults.away = True
        await asyncio.sleep(seconds)
        self._world.store_faults.away = False

    async def _store_flaky(self, at: float, name: str) -> None:
        await asyncio.sleep(at)
        self._befalls("store_flaky")
        self._world.store_faults.share = self._chance.choice((0.02, 0.2))
        await asyncio.sleep(60)
        self._world.store_faults.share = 0.0

    async def _artifacts_slow(self, at: float, name: str) -> None:
        await asyncio.sleep(at)
        self._befalls("artifacts_slow")
        self._world.cache_seconds = self._chance.choice((5.0, 90.0))
        await asyncio.sleep(120)
        self._world.cache_seconds = 0.0

    async def _cancel(self, at: float, name: str) -> None:
        await asyncio.sleep(at)
        api, rows = self._world.api[name], self._world.rows()
        if rows and not api.process.dead:
            row = self._chance.choice(rows)
            self._befalls(f"cancel {row.job_id}")
            api.withdraw(JobId(row.job_id))

    async def _fleet_trouble(self, at: float, name: str) -> None:
        await asyncio.sleep(at)
        faults, chance = self._world.cloud.faults, self._chance
        self._befalls("fleet_trouble")
        faults.no_capacity += chance.choice((0, 2))
        faults.throttled += chance.choice((0, 5))
        faults.dies_at_start += chance.choice((0, 1, 4))
        if chance.random() < 0.3:
            faults.hidden = True
            await asyncio.sleep(45)
            faults.hidden = False

    # -- what must hold ----------------------------------------------------------------------

    def _heal(self, names: list[str]) -> None:
        world = self._world
        self._trace("everything heals")
        world.store_faults.away, world.store_faults.share, world.cache_seconds = False, 0.0, 0.0
        faults = world.cloud.faults
        faults.no_capacity = faults.throttled = faults.dies_at_start = 0
        faults.hidden = False
        for name in names:
            world.api[name].process.go_on()

    async def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        deadline = seconds_since_start() + seconds
        # What is looked at has no event of its own.
        while not holds() and seconds_since_start() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(10.0)

    def _all_ended(self) -> bool:
        return all(row.status in TERMINAL for row in self._world.rows()) and not self._world.open_batches()

    def _floor_is_held(self) -> bool:
        """Nobody works any more: just the floor's workers are there, unused and ready."""
        live = self._world.cloud.live()
        held = all(task.ready and task.waits_for_the_floor for task in live)
        return held and len(live) == self.settings.floor

    def _check_ends(self) -> None:
        rows, outcome = {row.job_id: row for row in self._world.rows()}, self._outcome
        completed = Counter(row.key for row in rows.values() if row.status is Status.COMPLETED)
        if self.settings.retention is None:  # Nothing that was published has gone.
            outcome.violations += [
                f"{key} was completed {times} times" for key, times in completed.items() if times > 1
            ]
        outcome.violations += [f"job {job} is not in the store" for job in self._promised - rows.keys()]
        for row in rows.values():
            outcome.jobs[row.status.value] += 1
            if row.status not in TERMINAL:
                outcome.violations.append(f"job {row.job_id} is {row.status} and has no future")
            elif row.reason is None:
                outcome.violations.append(f"job {row.job_id} ended without a reason")
            elif row.owner is not None or row.slot is not None:
                outcome.violations.append(f"job {row.job_id} ended and keeps its lease or slot")

    async def _check_batches(self) -> None:
        """Each that was promised is there and has ended, and so has each of its files, with a reason."""
        outcome = self._outcome
        for batch_id in sorted(self._batches):
            batch = await self._world.any_batches.get(batch_id)
            if batch is None:
                outcome.violations.append(f"batch {batch_id} is not in the store")
                continue
            outcome.jobs[f"batch {batch.status}"] += 1
            if batch.open or batch.ended_at is None:
                outcome.violations.append(f"batch {batch_id} has no end: {dict(batch.counts)}")
            for member in await self._world.any_batches.members(batch_id, limit=100):
                if member.state is MemberState.READY:
                    # A read is noted some seconds later: what was old may just have gone.
                    of = self._world.files[member.local_id]
                    if not await self._world.published(of) and not self._world.was_old(of):
                        outcome.violations.append(f"{member.local_id} of a batch is ready, and is not there")
                elif member.reason is None:
                    outcome.violations.append(
                        f"{member.local_id} of a batch is {member.state}, for no reason"
                    )

    async def _check_retention(self) -> None:
        """What nobody has read for days is gone, what was made or read a moment ago is not, all is whole."""
        if self.settings.retention is None:
            return
        outcome, world = self._outcome, self._world
        for of in self._files:
            manifest, data = (cache_key(of.identity, RECIPE, name) for name in (MANIFEST, "data"))
            if await world.cache.head(manifest) is not None and await world.cache.head(data) is None:
                outcome.violations.append(f"the artifact of {of.local_id} lacks a part")
        outcome.jobs["artifacts removed"] += world.removals

    async def _is_published(self, job_id: str) -> bool:
        job = await self._world.any_jobs.get(JobId(job_id))
        return job is not None and await self._world.published(job.source)
