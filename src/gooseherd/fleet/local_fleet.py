"""Workers as processes of this machine, which outlive the API process that started them.

Each leads its own session, listens on a free loopback port and has a file in the registry;
its end is learnt from the kernel (pidfd), whoever its parent is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from gooseherd.blocking import in_thread
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import LaunchFailed, NoCapacity, NotFound, WorkerLost
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle, WorkerHealth, WorkerNeed, WorkerView
from gooseherd.fleet.acquisitions import Acquisitions
from gooseherd.fleet.launch import Launcher
from gooseherd.fleet.wool_workers import probe
from gooseherd.fleet.worker_records import WorkerRecord, WorkerRecords
from gooseherd.processes import ProcessId, describe_exit, end_session
from gooseherd.worker.folders import is_draining, live_attempts, sweep
from gooseherd.worker.resources import oom_kills

log = logging.getLogger(__name__)

T = TypeVar("T")

_STOP_SECONDS: Final = 11.0
"""From SIGTERM to SIGKILL: a worker needs nine at most, for its attempt and its watchers."""
_LOOK_SECONDS: Final = 0.05
_VERDICT_SECONDS: Final = 1.0
"""From a broken connection to the process's end being noticed."""
_REMEMBERED: Final = 256
_LEAVING: Final = "-"
"""In place of an attempt: taken by a process that leaves, in order to be stopped."""


class LocalFleet:
    """Fleet of at most `max_workers` processes; files live in `state_dir`/fleet.

    `environment` is the workers' whole environment (PATH included): what they may know is
    for the caller to choose. `build` names the code they run; warm workers of another
    build are not reused.
    """

    def __init__(
        self,
        *,
        state_dir: Path,
        max_workers: int,
        environment: Mapping[str, str],
        build: str,
        start_timeout: float = 60.0,
        idle_timeout: float = 60.0,
    ) -> None:
        me = ProcessId.of(os.getpid())
        assert me is not None
        self._me = me
        self._registry = WorkerRecords(state_dir.absolute() / "fleet")
        self._work = state_dir.absolute() / "work"
        self._max = max_workers
        self._build = build
        idle = {"WORKER_IDLE_TIMEOUT_SECONDS": f"{idle_timeout:g}"}
        self._launcher = Launcher(self._registry, {**environment, **idle}, start_timeout)
        self._children: dict[WorkerId, subprocess.Popen[bytes]] = {}
        self._acquisitions = Acquisitions(self._acquire, self.release)
        self._swept = False
        self._watching: dict[WorkerId, asyncio.Task[str]] = {}
        self._burying: dict[WorkerId, asyncio.Task[str]] = {}
        self._diagnoses: dict[WorkerId, str] = {}
        self._kills: dict[WorkerId, int] = {}
        """What `oom_kills` said when the worker was launched."""
        self._starved: set[WorkerId] = set()

    # -- the port --------------------------------------------------------------------------

    async def acquire(self, need: WorkerNeed) -> WorkerHandle:
        """As the port says; concurrent calls for one attempt get one worker."""
        return await self._acquisitions.get(need)

    async def find(self, worker_id: WorkerId) -> WorkerHandle | None:
        """As the port says; from now on it is held by this process."""
        entry = await self._locked(lambda: self._registry.get(worker_id))
        if entry is None or entry.address is None:
            return None
        if not entry.alive:
            await self._bury(entry)
            return None
        await in_thread(self._registry.change, worker_id, holder=self._me)
        self._watch(entry)
        return WorkerHandle(worker_id, entry.address)

    async def gone(self, worker_id: WorkerId) -> str:
        """As the port says: killed by which signal, or exited with which status, where that can be known."""
        while (watching := self._watching.get(worker_id)) is None:
            entry = await self._locked(lambda: self._registry.get(worker_id))
            if entry is None:
                return self._diagnoses.get(worker_id, "the worker ended earlier")
            if not entry.alive:
                return await self._bury(entry)
            self._watch(entry)
            if entry.process is None:  # It is just being started.
                await asyncio.sleep(_LOOK_SECONDS)
        return await asyncio.shield(watching)

    async def verdict(self, worker_id: WorkerId) -> Reason:
        """As the port says; known when the kernel counted such a kill while the worker ran as our child."""
        if (watching := self._watching.get(worker_id)) is not None:
            await asyncio.wait({watching}, timeout=_VERDICT_SECONDS)
        return Reason.OUT_OF_MEMORY if worker_id in self._starved else Reason.WORKER_LOST

    def limit_reached(self, need: WorkerNeed) -> str | None:
        """As the port says: there are no sizes here, but next time other programs may leave more room."""
        return None

    async def release(self, worker_id: WorkerId, *, reusable: bool, attempt: AttemptId | None = None) -> None:
        """As the port says; not reusable: returns when the worker and all it ran are gone."""
        mine = None if attempt is None else str(attempt)
        try:
            entry = await self._locked(lambda: self._let_go(worker_id, mine, idle=reusable))
            if entry is not None and not reusable:
                await self._stop(entry)
        except OSError as error:
            log.warning("worker could not be released", extra={"worker": worker_id, "error": str(error)})

    async def disown(self, worker_id: WorkerId) -> None:
        """As the port says; it is idle again when nothing runs on it, or when its user says so."""
        try:
            await in_thread(self._registry.change, worker_id, holder=None)
        except OSError as error:
            log.warning("worker could not be disowned", extra={"worker": worker_id, "error": str(error)})

    def slots(self) -> int:
        """As the port says; those that this process is just acquiring are not counted as taken yet.

        Reads a handful of small files.
        """
        acquiring = self._acquisitions.attempts()
        return self._max - sum(
            entry.alive and entry.attempt not in acquiring and not self._is_idle(entry)
            for entry in self._registry.entries()
        )

    async def view(self) -> Sequence[WorkerView]:
        """As the port says."""
        return await in_thread(lambda: [self._view(entry) for entry in self._registry.entries()])

    async def survey(self, also: Collection[WorkerId] = ()) -> Sequence[WorkerView]:
        """As the port says; those that ended are those whose end this process has seen."""
        views = await self.view()
        known = {view.worker_id for view in views}
        ended = [
            WorkerView(worker_id, WorkerHealth.GONE, 0.0, detail=diagnosis, stoppable=False)
            for worker_id, diagnosis in self._diagnoses.items()
            if worker_id not in known
        ]
        return [*views, *ended]

    async def stop(self, worker_id: WorkerId, reason: str) -> None:
        """As the port says; returns when the worker and all it ran are gone."""
        entry = await in_thread(self._registry.get, worker_id)
        if entry is None or not entry.alive:
            raise NotFound("worker", worker_id)
        self._diagnoses[worker_id] = f"the worker was stopped: {reason}"
        await self._stop(entry)

    async def close(self) -> None:
        """As the port says."""
        await self._acquisitions.close()
        await asyncio.gather(*(self._stop(entry) for entry in await self._locked(self._take_idle)))
        watching = list(self._watching.values())
        for watch in watching:
            watch.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await asyncio.gather(*self._burying.values(), return_exceptions=True)
        for child in self._children.values():
            if child.poll() is None:
                child.returncode = 0  # It goes on without us; Popen would complain that nobody waited.

    # -- getting one -----------------------------------------------------------------------

    async def _acquire(self, need: WorkerNeed) -> WorkerHandle:
        attempt = str(need.attempt)
        if not self._swept:
            self._swept = True
            await in_thread(self._sweep_strays)
        await self._acquisitions.released()  # They may be the ones to reuse.
        while True:
            for dead in [entry for entry in await in_thread(self._registry.entries) if not entry.alive]:
                await self._bury(dead)
            entry, fresh = await self._locked(lambda: self._reserve(attempt))
            if fresh:
                return await self._launch(entry)
            self._watch(entry)
            if entry.address is None:  # Another API process is launching it for the same attempt.
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            try:
                await probe(entry.address)
            except WorkerLost:
                await self._stop(entry)
                continue
            return WorkerHandle(entry.worker_id, entry.address)

    def _sweep_strays(self) -> None:
        """Remove work folders of workers that nobody knows any more; an entry is older than its folder."""
        folders = list(self._work.glob("w-*"))
        known = {entry.worker_id for entry in self._registry.entries()}
        for folder in folders:
            if folder.name not in known:
                sweep(folder)

    def _reserve(self, attempt: str) -> tuple[WorkerRecord, bool]:
        entries = [entry for entry in self._registry.entries() if entry.alive]
        mine = [entry for entry in entries if entry.attempt == attempt]
        warm = [entry for entry in entries if self._is_warm(entry)]
        for entry in (*mine, *reversed(warm)):
            taken = replace(entry, attempt=attempt, holder=self._me)
            self._registry.put(taken)
            return taken, False
        if len(entries) >= self._max:
            raise NoCapacity(f"({len(entries)} of {self._max} local workers in use)")
        worker_id = WorkerId(f"w-{uuid.uuid4().hex[:12]}")
        entry = WorkerRecord(
            worker_id=worker_id,
            work=self._work / worker_id,
            build=self._build,
            started_at=time.time(),
            launcher=self._me,
            attempt=attempt,
            holder=self._me,
        )
        self._registry.put(entry)
        return entry, True

    def _let_go(self, worker_id: WorkerId, attempt: str | None, *, idle: bool) -> WorkerRecord | None:
        """The entry, if nobody else has it by now; marked as idle or not."""
        entry = self._registry.get(worker_id)
        if entry is None or (attempt is not None and entry.attempt not in (None, attempt)):
            return None
        if idle:
            entry = replace(entry, attempt=None, holder=None)
            self._registry.put(entry)
        return entry

    def _take_idle(self) -> list[WorkerRecord]:
        """All idle workers, taken so that no other process is given one while it is being stopped."""
        idle = [entry for entry in self._registry.entries() if entry.alive and entry.attempt is None]
        taken = [replace(entry, attempt=_LEAVING, holder=self._me) for entry in idle]
        for entry in taken:
            self._registry.put(entry)
        return taken

    def _is_idle(self, entry: WorkerRecord) -> bool:
        if entry.address is None or is_draining(entry.work):
            return False
        # Held for an API process that died, with nothing running: nobody will come and release it.
        orphaned = entry.holder is None or not entry.holder.alive
        return entry.attempt is None or (orphaned and not live_attempts(entry.work))

    def _is_warm(self, entry: WorkerRecord) -> bool:
        return entry.build == self._build and self._is_idle(entry)

    async def _launch(self, entry: WorkerRecord) -> WorkerHandle:
        worker_id = entry.worker_id
        try:
            self._kills[worker_id] = oom_kills()
            child = await in_thread(self._spawn, worker_id, entry.work)
            entry = replace(entry, process=ProcessId.of_child(child.pid))
            await self._locked(lambda: self._registry.put(entry))
            announced = await self._launcher.announced(worker_id, child)
            entry = replace(entry, address=announced["address"], runtime=Path(announced["runtime"]))
            await self._locked(lambda: self._registry.put(entry))
            await probe(announced["address"])
        except BaseException as error:
            tail = await in_thread(self._launcher.last_lines, worker_id)
            if entry.process is None and worker_id in self._children:
                entry = replace(entry, process=ProcessId.of_child(self._children[worker_id].pid))
            await asyncio.shield(self._stop(entry))
            if isinstance(error, OSError | LaunchFailed | WorkerLost | KeyError | ValueError):
                reason = str(error) if isinstance(error, LaunchFailed) else type(error).__name__
                raise LaunchFailed(f"{reason.removeprefix('worker did not start: ')}{tail}") from error
            raise
        self._watch(entry)
        log.info("worker launched", extra={"worker": worker_id, "address": entry.address})
        return WorkerHandle(worker_id, announced["address"])

    def _spawn(self, worker_id: WorkerId, work: Path) -> subprocess.Popen[bytes]:
        """Noted down in the same thread: a caller that is cancelled meanwhile does not hear of it."""
        child = self._children[worker_id] = self._launcher.spawn(worker_id, work)
        return child

    # -- losing one ------------------------------------------------------------------------

    def _watch(self, entry: WorkerRecord) -> None:
        if entry.worker_id not in self._watching and entry.process is not None:
            task = asyncio.create_task(self._see_off(entry, entry.process), name=f"watch {entry.worker_id}")
            self._watching[entry.worker_id] = task

    async def _see_off(self, entry: WorkerRecord, process: ProcessId) -> str:
        try:
            await process.ended()
            diagnosis = await self._bury(entry)
        finally:
            self._watching.pop(entry.worker_id, None)
        log.info("worker ended", extra={"worker": entry.worker_id, "how": diagnosis})
        return diagnosis

    async def _stop(self, entry: WorkerRecord) -> None:
        if entry.process is not None and entry.process.signal(signal.SIGTERM):
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await entry.process.ended()
        await self._bury(entry)

    async def _bury(self, entry: WorkerRecord) -> str:
        """Kill what is left of a worker, remove its files, reap it; again changes nothing.

        One at a time for each: who comes second would miss what the first has found out.
        """
        burying = self._burying.get(entry.worker_id)
        if burying is None:
            burying = asyncio.create_task(self._remove(entry), name=f"bury {entry.worker_id}")
            self._burying[entry.worker_id] = burying
            burying.add_done_callback(lambda _: self._burying.pop(entry.worker_id, None))
        return await asyncio.shield(burying)

    async def _remove(self, entry: WorkerRecord) -> str:
        child = self._children.get(entry.worker_id)
        await in_thread(_clear_away, entry, child, self._registry)
        self._children.pop(entry.worker_id, None)
        known = describe_exit(child.returncode) if child is not None else "ended"
        before = self._kills.pop(entry.worker_id, None)
        killed = child is not None and child.returncode == -signal.SIGKILL
        if killed and before is not None and await in_thread(oom_kills) > before:
            self._starved.add(entry.worker_id)
            known = f"{known} (out of memory)"
        diagnosis = self._diagnoses.setdefault(entry.worker_id, f"worker process {known}")
        while len(self._diagnoses) > _REMEMBERED:
            forgotten = next(iter(self._diagnoses))
            self._diagnoses.pop(forgotten)
            self._starved.discard(forgotten)
        return diagnosis

    # -- small things ----------------------------------------------------------------------

    async def _locked(self, call: Callable[[], T]) -> T:
        def alone() -> T:
            with self._registry.locked():
                return call()

        return await in_thread(alone)

    def _view(self, entry: WorkerRecord) -> WorkerView:
        """Looks at files."""
        alive = entry.alive
        if not alive:
            health, detail = WorkerHealth.GONE, "worker process ended"
        else:
            detail = f"pid {entry.process.pid}" if entry.process else ""
            if entry.address is None:
                health = WorkerHealth.STARTING
            else:
                health = WorkerHealth.DRAINING if is_draining(entry.work) else WorkerHealth.HEALTHY
        return WorkerView(
            worker_id=entry.worker_id,
            health=health,
            started_at=entry.started_at,
            attempt=entry.attempt if alive else None,
            detail=detail,
            launched_for=entry.attempt if entry.address is None else None,
            warm=alive and self._is_idle(entry),
            stoppable=alive,
        )


def _clear_away(entry: WorkerRecord, child: subprocess.Popen[bytes] | None, registry: WorkerRecords) -> None:
    known = registry.get(entry.worker_id) or entry  # It may have become known since `entry` was read.
    process, runtime = entry.process or known.process, entry.runtime or known.runtime
    if process is not None:
        end_session(process)
    if child is not None:
        child.wait()
    sweep(entry.work)
    if runtime is not None:
        shutil.rmtree(runtime, ignore_errors=True)
    with registry.locked():
        registry.remove(entry.worker_id)
