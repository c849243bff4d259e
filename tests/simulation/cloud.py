"""ECS, and workers in its tasks, as documents and coroutines on the virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from tests.simulation.process import Process, outside
from tests.simulation.store import START, virtual_now

from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.attempt import AttemptId, AttemptSpec, Event, EventKind, TemporaryCredentials
from gooseherd.domain.errors import Misconfigured, NotFound, WorkerBusy, WorkerLost
from gooseherd.domain.failures import Reason
from gooseherd.domain.keys import MANIFEST, Recipe, cache_key
from gooseherd.domain.ports.fleet import WorkerHandle
from gooseherd.domain.ports.worker import WorkerLink, Workers
from gooseherd.domain.source import SourceFile
from gooseherd.fleet.ecs_api import BATCH, CloudUnavailable, EcsApi
from gooseherd.fleet.ecs_tasks import ATTEMPT_VARIABLE, KEEP_VARIABLE
from gooseherd.storage.memory import MemoryCache

BUILD: Final = "b1"
"""Of all processes, unless a schedule deploys another one."""
PORT: Final = 1
_SILENCE_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 2.0
"""From SIGTERM to the container's end."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take, in seconds."""

    provisioning: float = 15.0
    """From RunTask until the image is pulled; nothing is paid for yet."""
    starting: float = 35.0
    """Pull, start of the container and of the worker; Fargate's meter runs."""
    idle_timeout: float = 60.0


@dataclass
class CloudFaults:
    """What goes wrong next: counts are used up, shares stay."""

    no_capacity: int = 0
    throttled: int = 0
    dies_at_start: int = 0
    hidden: bool = False
    """Lists and descriptions fail."""


@dataclass(eq=False)
class SimulatedAttempt:
    """An attempt on a worker: its journal grows whether or not anybody watches."""

    spec: AttemptSpec
    journal: list[Event] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        return bool(self.journal) and self.journal[-1].last

    def write(self, kind: EventKind, **fields: Any) -> None:
        if not self.over:
            self.journal.append(Event(len(self.journal) + 1, kind, 0.0, **fields))
            grown, self.grown = self.grown, asyncio.Event()
            grown.set()


class SimulatedTask:
    """A FleetTask and the worker in it."""

    def __init__(self, cloud: Cloud, number: int, request: Mapping[str, Any], build: str) -> None:
        self._cloud = cloud
        self.build = build
        self.name = f"{number:032x}"
        now = virtual_now()
        overrides = request["overrides"]
        environment = {
            item["name"]: item["value"] for item in overrides["containerOverrides"][0]["environment"]
        }
        self.launched_for = environment.get(ATTEMPT_VARIABLE)
        self.keep_seconds = float(environment.get(KEEP_VARIABLE, 0))
        """Of a reserved worker: as it was launched, or as it was told last."""
        self.kept_until = 0.0
        self.document: dict[str, Any] = {
            "taskArn": f"arn:aws:ecs:us-east-1:0:task/cluster/{self.name}",
            "startedBy": request["startedBy"],
            "lastStatus": "PROVISIONING",
            "desiredStatus": "RUNNING",
            "healthStatus": "UNKNOWN",
            "version": 1,
            "createdAt": now,
            "cpu": overrides["cpu"],
            "memory": overrides["memory"],
            "ephemeralStorage": overrides.get("ephemeralStorage", {}),
            "overrides": overrides,
            "attachments": [
                {
                    "type": "ElasticNetworkInterface",
                    "details": [{"name": "privateIPv4Address", "value": self.name}],
                }
            ],
            "containers": [{"name": "worker"}],
        }
        self.paid_since: float | None = None
        self.paid = 0.0
        self.worked = 0.0
        self.standby = 0.0
        """Seconds for which it was kept for the floor, and idle."""
        self.ready = False
        self.draining = False
        self.ended = asyncio.Event()
        self.attempts: dict[AttemptId, SimulatedAttempt] = {}
        self._stop = asyncio.Event()
        self._work = asyncio.Event()
        self._life = outside(self._live())

    def paid_until(self, end: float) -> float:
        """Seconds for which it had to be paid, up to then by the virtual clock."""
        if self.paid_since is None:
            return 0.0
        return self.paid if self.stopped else end - self.paid_since

    # -- life --------------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        return self.ended.is_set()

    async def _live(self) -> None:
        pace = self._cloud.pace
        if await self._told_to_stop(pace.provisioning * self._cloud.chance.uniform(0.5, 1.5)):
            self._end("UserInitiated", "stopped before it ran")
            return
        self.paid_since = asyncio.get_running_loop().time()
        self._change(lastStatus="PENDING")
        if await self._told_to_stop(pace.starting * self._cloud.chance.uniform(0.7, 1.3)):
            self._end("UserInitiated", "stopped before it ran")
            return
        self._change(lastStatus="RUNNING")
        if self._cloud.faults.dies_at_start:
            self._cloud.faults.dies_at_start -= 1
            self._end("EssentialContainerExited", "Essential container in task exited", exit_code=137)
            return
        self.ready = True
        self.keep(self.keep_seconds)
        healthy = asyncio.get_running_loop().call_later(10.0, self._be_healthy)
        while True:
            if self.running is not None:
                self._work.clear()
                await self._first(self._stop, self._work)
            else:
                idle_since = asyncio.get_running_loop().time()
                kept = self.kept_until - idle_since
                needed = await self._first(self._stop, self._work, timeout=max(pace.idle_timeout, kept))
                if kept > pace.idle_timeout:
                    self.standby += asyncio.get_running_loop().time() - idle_since
                if not needed:
                    break  # Nobody needs it.
            self._work.clear()
            if self._stop.is_set():
                break
        healthy.cancel()
        self.draining = True
        if (attempt := self.running) is not None:
            await self._end_attempt(attempt, Reason.WORKER_DRAINED)
        if self._stop.is_set():
            await asyncio.sleep(_STOP_SECONDS)
        self._end(
            "UserInitiated" if self._stop.is_set() else "EssentialContainerExited",
            self.document.get("stoppedReason", "Essential container in task exited"),
            exit_code=0,
        )

    async def _first(self, *events: asyncio.Event, timeout: float | None = None) -> bool:
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            done, _ = await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            return bool(done)
        finally:
            for wait in waits:
                wait.cancel()

    async def _told_to_stop(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        return self._stop.is_set()

    def _be_healthy(self) -> None:
        if self.document["lastStatus"] == "RUNNING":
            self._change(healthStatus="HEALTHY")

    def _change(self, **fields: Any) -> None:
        self.document.update(fields, version=self.document["version"] + 1)

    def _end(self, code: str, reason: str, exit_code: int | None = None) -> None:
        if self.stopped:
            return
        if self.paid_since is not None:
            self.paid = asyncio.get_running_loop().time() - self.paid_since
        for attempt in self.attempts.values():
            if attempt.running is not None:
                attempt.running.cancel()
        self.ready = False
        containers = [{"name": "worker", **({} if exit_code is None else {"exitCode": exit_code})}]
        self._change(
            lastStatus="STOPPED",
            desiredStatus="STOPPED",
            stopCode=code,
            stoppedReason=reason,
            containers=containers,
            stoppedAt=virtual_now(),
        )
        self.ended.set()

    def stop(self, reason: str) -> None:
        """StopTask."""
        if not self.stopped and not self._stop.is_set():
            self._change(desiredStatus="STOPPED", stopCode="UserInitiated", stoppedReason=reason)
            self._stop.set()

    def kill(self) -> None:
        """The container is killed."""
        if not self.stopped:
            self._life.cancel()
            self._end("EssentialContainerExited", "Essential container in task exited", exit_code=137)

    async def close(self) -> None:
        """The simulation is over."""
        tasks = [self._life, *(a.running for a in self.attempts.values() if a.running is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- attempts ----------------------------------------------------------------------------

    @property
    def running(self) -> SimulatedAttempt | None:
        return next((attempt for attempt in self.attempts.values() if not attempt.over), None)

    def keep(self, seconds: float) -> None:
        """For so long from now on it does not end for being idle."""
        self.kept_until = asyncio.get_running_loop().time() + seconds
        self._work.set()

    @property
    def waits_for_the_floor(self) -> bool:
        """Idle, and told to stay."""
        kept = self.kept_until - asyncio.get_running_loop().time()
        return kept > self._cloud.pace.idle_timeout and self.running is None and not self.stopped

    def start(self, spec: AttemptSpec) -> None:
        if spec.attempt in self.attempts:
            return
        if self.running is not None:
            raise WorkerBusy(str(self.running.spec.attempt))
        if self.draining:
            raise WorkerLost("the worker is stopping")
        self._cloud.started(self, spec)
        attempt = self.attempts[spec.attempt] = SimulatedAttempt(spec)
        attempt.running = outside(self._run(attempt))
        self._work.set()

    async def _run(self, attempt: SimulatedAttempt) -> None:
        began = asyncio.get_running_loop().time()
        plan = self._cloud.plan(attempt.spec)
        try:
            attempt.write(EventKind.ACCEPTED)
            attempt.write(EventKind.STEP, step="data")
            await asyncio.sleep(plan.seconds / 2)
            attempt.write(EventKind.PROGRESS, step="data", percent=50.0)
            await asyncio.sleep(plan.seconds / 2)
            if plan.ends is not None:
                attempt.write(EventKind.FAILED, reason=plan.ends, detail="as it was planned")
                return
            await self._publish(attempt)
            attempt.write(EventKind.DONE, manifest_digest="0" * 64)
        finally:
            self.worked += asyncio.get_running_loop().time() - began
            self._work.set()

    async def _publish(self, attempt: SimulatedAttempt) -> None:
        await publish(self._cloud.cache, attempt.spec.source, attempt.spec.recipe)
        attempt.write(EventKind.STEP_COMPLETE, step="data", percent=90.0)

    async def _end_attempt(self, attempt: SimulatedAttempt, reason: Reason | None) -> None:
        if attempt.running is not None:
            attempt.running.cancel()
            await asyncio.wait({attempt.running})
        if reason is not None:
            attempt.write(EventKind.FAILED, reason=reason, detail="")

    async def cancel(self, name: AttemptId) -> None:
        if (attempt := self.attempts.get(name)) is not None:
            await self._end_attempt(attempt, Reason.CANCELLED)
            self.attempts.pop(name, None)
            self._work.set()


async def publish(cache: MemoryCache, of: SourceFile, recipe: Recipe) -> None:
    """The artifact of the file: its part, then its manifest."""
    key = cache_key(of.identity, recipe, "data")
    await cache.put_if_absent(key, b"data")
    part = Part(Kind.DATA, key, 4, "1" * 64, "data")
    manifest = Manifest(str(of.identity), recipe.source_format.name, recipe.processor, "1", (part,))
    await cache.put_if_absent(cache_key(of.identity, recipe, MANIFEST), manifest.to_bytes())


@dataclass(frozen=True, slots=True)
class Plan:
    """What an attempt will do: work so long, then publish, or end so."""

    seconds: float
    ends: Reason | None = None


class Cloud:
    """All tasks of all API processes, and what is checked of them as it happens."""

    def __init__(
        self,
        chance: random.Random,
        plan: Callable[[AttemptSpec], Plan],
        pace: Pace,
        cache: MemoryCache,
        violation: Callable[[str], None],
    ) -> None:
        self.chance = chance
        self.plan = plan
        self.pace = pace
        self.cache = cache
        self.faults = CloudFaults()
        self.tasks: dict[str, SimulatedTask] = {}
        self.calls: Counter[str] = Counter()
        self.most_live = 0
        """Workers at a time, without those that were told to end."""
        self._violation = violation
        self._tokens: dict[str, str] = {}

    def live(self) -> list[SimulatedTask]:
        return [task for task in self.tasks.values() if not task.stopped]

    def started(self, on: SimulatedTask, spec: AttemptSpec) -> None:
        """An attempt begins. No other one of its job lives, wherever."""
        for task in self.live():
            other = task.running
            if other is not None and other.spec.attempt.job_id == spec.attempt.job_id:
                self._violation(f"attempts {other.spec.attempt} and {spec.attempt} run at the same time")

    def run_task(self, request: Mapping[str, Any], build: str) -> dict[str, Any]:
        """The task definition of a process has the worker of its build."""
        known = self._tokens.get(request["clientToken"])
        if known is not None:
            return {"tasks": [dict(self.tasks[known].document)], "failures": []}
        if self.faults.no_capacity:
            self.faults.no_capacity -= 1
            return {"tasks": [], "failures": [{"reason": "Capacity is unavailable at this time."}]}
        task = SimulatedTask(self, len(self.tasks) + 1, request, build)
        self.tasks[task.name] = task
        self._tokens[request["clientToken"]] = task.name
        wanted = sum(task.document["desiredStatus"] == "RUNNING" for task in self.live())
        self.most_live = max(self.most_live, wanted)
        return {"tasks": [dict(task.document)], "failures": []}

    def stop_task(self, name: str, reason: str) -> None:
        task = self.tasks.get(name)
        if task is None:
            raise NotFound("worker", name)
        if task.running is not None and "orphan" in reason:
            self._violation(f"{name} was stopped as an orphan while {task.running.spec.attempt} ran on it")
        task.stop(reason)

    async def close(self) -> None:
        for task in self.tasks.values():
            await task.close()


class ProcessEcs(EcsApi):
    """The cluster as one process reaches it: the real paging and reading, made-up answers."""

    def __init__(self, cloud: Cloud, process: Process, build: str) -> None:
        super().__init__("cluster", region="us-east-1")
        self._cloud, self._process, self._build = cloud, process, build

    async def _call(self, operation: str, tries: int, **request: Any) -> Mapping[str, Any]:
        for attempt in range(tries):
            try:
                return await self._process.call(lambda: self._answer(operation, request))
            except CloudUnavailable:
                if attempt == tries - 1:
                    raise
                await asyncio.sleep(min(0.25 * 2**attempt, 8.0))
        raise AssertionError("tries is at least 1")

    async def _answer(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        cloud = self._cloud
        cloud.calls[operation] += 1
        if cloud.faults.throttled:
            cloud.faults.throttled -= 1
            raise CloudUnavailable(operation, "ThrottlingException")
        if cloud.faults.hidden and operation in ("list_tasks", "describe_tasks"):
            raise CloudUnavailable(operation, "ServerException")
        match operation:
            case "run_task":
                return cloud.run_task(request, self._build)
            case "stop_task":
                cloud.stop_task(request["task"], request["reason"])
                return {}
            case "describe_tasks":
                shown = [cloud.tasks[name] for name in request["tasks"] if name in cloud.tasks]
                missing = [name for name in request["tasks"] if name not in cloud.tasks]
                return {
                    "tasks": [dict(task.document) for task in shown],
                    "failures": [{"arn": name, "reason": "MISSING"} for name in missing],
                }
            case "list_tasks":
                wanted = [t for t in cloud.live() if t.document["desiredStatus"] == "RUNNING"]
                start = int(request.get("nextToken", 0))
                page = [task.document["taskArn"] for task in wanted[start : start + BATCH]]
                more = {"nextToken": str(start + BATCH)} if start + BATCH < len(wanted) else {}
                return {"taskArns": page, **more}
        raise AssertionError(operation)

    async def close(self) -> None:
        """Nothing was opened."""


class ProcessWorkers(Workers):
    """The same workers as one process reaches them."""

    def __init__(self, cloud: Cloud, process: Process) -> None:
        self._cloud, self._process = cloud, process

    @asynccontextmanager
    async def connect(self, worker: WorkerHandle) -> AsyncIterator[WorkerLink]:
        yield _Link(self._cloud.tasks.get(worker.worker_id), self._process)

    async def describe(self, worker: WorkerHandle) -> Mapping[str, Any]:
        """What EcsFleet asks of a warm worker."""
        async with self.connect(worker) as link:
            return await link.describe()

    async def unreserve(self, worker: WorkerHandle) -> Mapping[str, Any]:
        """The same of one of the floor, which is an ordinary one from then on."""
        async with self.connect(worker) as link:
            return await link.keep(self._cloud.pace.idle_timeout)

    async def probe(self, address: str) -> bool:
        """Whether the worker there is ready; a question to one that starts waits a while."""

        async def look() -> bool:
            task = self._cloud.tasks.get(address)
            for _ in range(5):
                if task is None or task.stopped or task.ready:
                    break
                await asyncio.sleep(1.0)
            return task is not None and task.ready

        return await self._process.call(look)


class _Link(WorkerLink):
    def __init__(self, task: SimulatedTask | None, process: Process) -> None:
        self._task, self._process = task, process

    def _live(self) -> SimulatedTask:
        if self._task is None or not self._task.ready:
            raise WorkerLost("nothing listens")
        return self._task

    async def start_attempt(self, spec: AttemptSpec) -> None:
        async def start() -> None:
            if spec.build != self._live().build:
                raise Misconfigured("build", "another one")
            self._live().start(spec)

        await self._process.call(start)

    async def renew_credentials(self, attempt: AttemptId, credentials: TemporaryCredentials) -> None:
        self._live()

    async def watch_attempt(self, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        async def find() -> SimulatedAttempt:
            found = self._live().attempts.get(attempt)
            if found is None:
                raise NotFound("attempt", str(attempt))
            return found

        watched = await self._process.call(find)
        task, read = self._live(), 0
        ended = asyncio.ensure_future(task.ended.wait())
        try:
            while True:
                grown = watched.grown
                news, read = watched.journal[read:], len(watched.journal)
                for event in news:
                    if event.seq >= from_seq or event.last:
                        yield event
                    if event.last:
                        return
                growing = asyncio.ensure_future(grown.wait())
                try:
                    done, _ = await asyncio.wait(
                        {growing, ended}, timeout=_SILENCE_SECONDS / 4, return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    growing.cancel()
                await self._process.call(_nothing)
                if ended in done and read == len(watched.journal):
                    raise WorkerLost("connection broke (UNAVAILABLE)")
                if not done:
                    yield Event(read, EventKind.HEARTBEAT, 0.0)
        finally:
            ended.cancel()

    async def cancel_attempt(self, attempt: AttemptId) -> None:
        await self._process.call(lambda: self._live().cancel(attempt))

    async def keep(self, seconds: float) -> Mapping[str, Any]:
        async def tell() -> None:
            self._live().keep(seconds)

        await self._process.call(tell)
        return await self.describe()

    async def describe(self) -> Mapping[str, Any]:
        async def look() -> Mapping[str, Any]:
            task = self._live()
            running = task.running
            return {
                "build": task.build,
                "uptime_seconds": 1.0,
                "attempts": [] if running is None else [str(running.spec.attempt)],
                "draining": task.draining,
            }

        return await self._process.call(look)


async def _nothing() -> None:
    return None


def seconds_since_start() -> float:
    """By the virtual clock."""
    return (virtual_now() - START) / timedelta(seconds=1)
