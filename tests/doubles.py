"""A fleet, its workers and upstream sources that exist in the test only.

tests/contract asks them what it asks of the real ones.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gooseherd.domain.attempt import AttemptId, AttemptSpec, Event, EventKind, TemporaryCredentials
from gooseherd.domain.errors import NoCapacity, NotFound, WorkerBusy, WorkerLost
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import Fleet, WorkerHandle, WorkerHealth, WorkerNeed, WorkerView
from gooseherd.domain.ports.source import Fetched, Pausing, SourceDetails, Sources, Upstream, ignore_pause
from gooseherd.domain.ports.worker import WorkerLink, Workers
from gooseherd.domain.processing import StepFailed
from gooseherd.domain.source import SourceFile


@dataclass(eq=False)
class WorkerDouble:
    """A worker as all fleets and links of a test see it. `attempt` is who has it, None: idle."""

    handle: WorkerHandle
    attempt: str | None
    owner: FleetDouble
    running: AttemptId | None = None
    known: set[AttemptId] = field(default_factory=set)
    diagnosis: str | None = None
    """Why it ended; None: it lives."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, diagnosis: str) -> None:
        if self.diagnosis is None:
            self.diagnosis = diagnosis
            self.ended.set()


Machine = dict[WorkerId, WorkerDouble]
"""What there is in one test, whichever process launched it. A name is given again after its worker ended."""


class FleetDouble(Fleet):
    """Keeps what the port promises; fails as it is told, and writes down what it was asked for."""

    def __init__(self, machine: Machine | None = None, max_workers: int = 2) -> None:
        self.machine: Machine = {} if machine is None else machine
        self.max_workers = max_workers
        self.needs: list[WorkerNeed] = []
        self.released: list[tuple[WorkerId, bool]] = []
        self.disowned: list[WorkerId] = []
        self.refusals = 0
        """So many acquisitions find no capacity."""
        self.died_of = Reason.WORKER_LOST
        self.limit: str | None = None
        self._closed = False

    def kill(self, worker_id: WorkerId, diagnosis: str = "killed by signal 9") -> None:
        self.machine[worker_id].end(diagnosis)

    async def acquire(self, need: WorkerNeed) -> WorkerHandle:
        self.needs.append(need)
        if self._closed:
            raise NoCapacity("(this process is leaving)")
        if self.refusals:
            self.refusals -= 1
            raise NoCapacity
        attempt = str(need.attempt)
        live = self._live()
        same = next((worker for worker in live if worker.attempt == attempt), None)
        idle = next((worker for worker in live if worker.attempt is None and worker.owner is self), None)
        idle = None if need.reserved else idle
        worker = same or idle
        if worker is None:
            if len(live) >= self.max_workers:
                raise NoCapacity
            worker = self._launch(attempt)
        worker.attempt, worker.owner = attempt, self
        return worker.handle

    def _launch(self, attempt: str) -> WorkerDouble:
        taken = {worker.handle.worker_id for worker in self._live()}
        names = (WorkerId("w" if number == 1 else f"w-{number}") for number in range(1, len(taken) + 2))
        name = next(name for name in names if name not in taken)
        worker = self.machine[name] = WorkerDouble(WorkerHandle(name, "127.0.0.1:1"), attempt, self)
        return worker

    def _live(self) -> list[WorkerDouble]:
        return [worker for worker in self.machine.values() if worker.diagnosis is None]

    async def take(
        self, worker_id: WorkerId, attempt: AttemptId, *, reserved: bool = False
    ) -> WorkerHandle | None:
        worker = self.machine.get(worker_id)
        if worker is None or worker.diagnosis is not None or worker.running not in (None, attempt):
            return None
        worker.attempt, worker.owner = str(attempt), self
        return worker.handle

    async def find(self, worker_id: WorkerId) -> WorkerHandle | None:
        worker = self.machine.get(worker_id)
        return worker.handle if worker is not None and worker.diagnosis is None else None

    async def gone(self, worker_id: WorkerId) -> str:
        worker = self.machine.get(worker_id)
        if worker is None:
            return "the worker ended earlier"
        await worker.ended.wait()
        return worker.diagnosis or ""

    async def verdict(self, worker_id: WorkerId) -> Reason:
        return self.died_of

    def limit_reached(self, need: WorkerNeed) -> str | None:
        return self.limit

    async def release(self, worker_id: WorkerId, *, reusable: bool, attempt: AttemptId | None = None) -> None:
        self.released.append((worker_id, reusable))
        worker = self.machine.get(worker_id)
        if worker is None or (attempt is not None and worker.attempt not in (None, str(attempt))):
            return
        worker.attempt, worker.owner = None, self
        if not reusable:
            worker.end("the worker was stopped: released")

    async def disown(self, worker_id: WorkerId) -> None:
        self.disowned.append(worker_id)
        if (worker := self.machine.get(worker_id)) is not None:
            worker.attempt = "(somebody else's)"

    def slots(self) -> int:
        return self.max_workers - sum(worker.attempt is not None for worker in self._live())

    async def view(self) -> Sequence[WorkerView]:
        return [
            WorkerView(
                worker.handle.worker_id,
                WorkerHealth.HEALTHY if worker.diagnosis is None else WorkerHealth.GONE,
                1.0,
                worker.attempt if worker.diagnosis is None else None,
                worker.diagnosis or "",
                warm=worker.diagnosis is None and worker.attempt is None and worker.owner is self,
                stoppable=worker.diagnosis is None,
            )
            for worker in self.machine.values()
        ]

    async def survey(self, also: Collection[WorkerId] = ()) -> Sequence[WorkerView]:
        return await self.view()

    async def stop(self, worker_id: WorkerId, reason: str) -> None:
        worker = self.machine.get(worker_id)
        if worker is None or worker.diagnosis is not None:
            raise NotFound("worker", worker_id)
        worker.end(f"the worker was stopped: {reason}")

    async def close(self) -> None:
        self._closed = True
        for worker in self._live():
            if worker.attempt is None and worker.owner is self:
                worker.end("the worker was stopped: the process leaves")


Script = Callable[[AttemptId, int], AsyncIterator[Event]]
"""The events of an attempt that is watched from that position; what lies before it may be yielded again."""


class WorkersDouble(Workers):
    """Links to the workers of a machine, whose attempts do what `script` says."""

    def __init__(self, machine: Machine, script: Script) -> None:
        self.worked_on = machine
        self.play = script
        self.started: list[AttemptId] = []
        self.specs: list[AttemptSpec] = []
        self.renewed: list[tuple[AttemptId, TemporaryCredentials]] = []
        self.watched_from: list[int] = []
        self.cancelled: list[AttemptId] = []
        self.stopping = asyncio.Event()
        """An attempt was told to end."""
        self.may_stop = asyncio.Event()
        """Cleared: attempts take until it is set to end."""
        self.may_stop.set()

    @asynccontextmanager
    async def connect(self, worker: WorkerHandle) -> AsyncIterator[WorkerLink]:
        yield LinkDouble(self, worker)


class LinkDouble(WorkerLink):
    def __init__(self, workers: WorkersDouble, worker: WorkerHandle) -> None:
        self._workers = workers
        self._handle = worker

    def _worker(self) -> WorkerDouble:
        worker = self._workers.worked_on.get(self._handle.worker_id)
        if worker is None or worker.diagnosis is not None:
            raise WorkerLost("nothing listens")
        return worker

    async def renew_credentials(self, attempt: AttemptId, credentials: TemporaryCredentials) -> None:
        if attempt not in self._worker().known:
            raise NotFound("attempt", str(attempt))
        self._workers.renewed.append((attempt, credentials))

    async def start_attempt(self, spec: AttemptSpec) -> None:
        worker = self._worker()
        if spec.attempt in worker.known:
            return
        if worker.running is not None:
            raise WorkerBusy(str(worker.running))
        self._workers.started.append(spec.attempt)
        self._workers.specs.append(spec)
        worker.running = spec.attempt
        worker.known.add(spec.attempt)

    async def watch_attempt(self, attempt: AttemptId, from_seq: int) -> AsyncIterator[Event]:
        worker = self._worker()
        if attempt not in worker.known:
            raise NotFound("attempt", str(attempt))
        self._workers.watched_from.append(from_seq)
        async for event in self._workers.play(attempt, from_seq):
            if event.last and worker.running == attempt:
                worker.running = None
            if event.seq >= from_seq or event.last or event.kind is EventKind.HEARTBEAT:
                yield event
            if event.last:
                return

    async def cancel_attempt(self, attempt: AttemptId) -> None:
        worker = self._worker()
        self._workers.cancelled.append(attempt)
        self._workers.stopping.set()
        await self._workers.may_stop.wait()
        if worker.running == attempt:
            worker.running = None

    async def keep(self, seconds: float) -> Mapping[str, Any]:
        return await self.describe()

    async def describe(self) -> Mapping[str, Any]:
        worker = self._worker()
        attempts = [] if worker.running is None else [str(worker.running)]
        return {"build": "b1", "uptime_seconds": 1.0, "attempts": attempts, "draining": False}


class SourcesDouble(Sources):
    """One file under every URL, counted how often it was fetched."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.fetched = 0
        self.failure: Exception | None = None
        self.asked = asyncio.Event()
        self.hang = False
        self.let_go = 0

    def judge(self, url: str) -> None:
        return None

    @asynccontextmanager
    async def open(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Upstream]:
        yield Upstream(200, {"content-length": str(len(self.content))}, self._body())

    async def _body(self) -> AsyncIterator[bytes]:
        yield self.content

    async def details(self, url: str) -> SourceDetails:
        return SourceDetails(len(self.content), None)

    async def fetch(
        self,
        source: SourceFile,
        into: Path,
        *,
        limit: int,
        report: Callable[[int, int | None], None],
        pausing: Pausing = ignore_pause,
    ) -> Fetched:
        self.fetched += 1
        self.asked.set()
        if self.hang:
            try:
                await asyncio.Event().wait()
            finally:
                self.let_go += 1
        if self.failure is not None:
            raise self.failure
        size, md5 = len(self.content), hashlib.md5(self.content).hexdigest()
        if size > limit:
            raise StepFailed.because(Reason.SOURCE_TOO_LARGE, f"at least {size} bytes, the limit is {limit}")
        if source.md5 not in (None, md5):
            raise StepFailed.because(Reason.SOURCE_CHANGED, "md5 differs from the catalog's")
        with into.open("wb") as file:
            for done in range(size + 1):
                report(done, size)
                file.write(self.content[done : done + 1])
                file.flush()
        return Fetched(into, size, md5)

    async def close(self) -> None:
        return None
