"""Workers as processes of this machine, which outlive the API process that started them.

Each leads its own session, listens on a free loopback port and has a file of its own
(worker_records.py); its end is learnt from the kernel (pidfd), whoever its parent is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from gooseherd.blocking import in_thread
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import NotFound, WorkerLost
from gooseherd.domain.failures import Reason
from gooseherd.domain.job import WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle, WorkerHealth, WorkerNeed, WorkerView
from gooseherd.domain.worker_size import Capacity, WorkerResources, WorkerSize
from gooseherd.fleet.acquisitions import AcquiringFleet
from gooseherd.fleet.launch import Launcher
from gooseherd.fleet.local_certificates import LocalCertificates
from gooseherd.fleet.probe import probe
from gooseherd.fleet.worker_processes import WorkerProcesses
from gooseherd.fleet.worker_records import WorkerRecord, WorkerRecords
from gooseherd.processes import ProcessId
from gooseherd.worker.folders import is_draining, live_attempts, sweep

log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.05
_VERDICT_SECONDS: Final = 1.0
"""From a broken connection to the process's end being noticed."""
_RESOURCES: Final = WorkerResources(WorkerSize(0, 0, 0), Capacity.LOCAL)
"""They have no sizes: nothing is paid for them but the machine."""
_BEING_STOPPED: Final = "-"
"""In place of an attempt: taken by a process that leaves, in order to be stopped."""


class LocalFleet(AcquiringFleet):
    """Fleet of at most `max_workers` processes; files live in `state_dir`/fleet.

    `environment` is the workers' whole environment (PATH included): what they may know is
    for the caller to choose. `build` names the code they run; warm workers of another
    build are not reused. Without `certificates` their ports are open to all users of the machine.
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
        certificates: LocalCertificates | None = None,
    ) -> None:
        super().__init__(max_workers, kind="local workers")
        me = ProcessId.of(os.getpid())
        assert me is not None
        self._me = me
        self._records = WorkerRecords(state_dir.absolute() / "fleet")
        self._work = state_dir.absolute() / "work"
        self._build = build
        idle = {"WORKER_IDLE_TIMEOUT_SECONDS": f"{idle_timeout:g}"}
        self._processes = WorkerProcesses(
            self._records, Launcher(self._records, {**environment, **idle}, start_timeout, certificates)
        )
        self._swept = False

    async def find(self, worker_id: WorkerId) -> WorkerHandle | None:
        """The worker by that name if it lives; from now on it is held by this process."""
        record = await self._read(worker_id)
        if record is None or record.address is None:
            return None
        if not record.alive:
            await self._processes.clean_up(record)
            return None
        await in_thread(self._records.change, worker_id, owner=self._me)
        self._processes.watch(record)
        return WorkerHandle(worker_id, record.address)

    async def take(
        self, worker_id: WorkerId, attempt: AttemptId, *, reserved: bool = False
    ) -> WorkerHandle | None:
        """Held by this process from now on."""
        record = await self._records.under_lock(lambda: self._take(worker_id, str(attempt), reserved))
        if record is None or record.address is None:
            return None
        self._processes.watch(record)
        try:
            await probe(record.address)
        except WorkerLost:
            return None
        return WorkerHandle(worker_id, record.address)

    async def gone(self, worker_id: WorkerId) -> str:
        """Killed by which signal, or exited with which status, where that can be known."""
        while (watching := self._processes.watching(worker_id)) is None:
            record = await self._read(worker_id)
            if record is None:
                return self._processes.diagnoses().get(worker_id, "the worker ended earlier")
            if not record.alive:
                return await self._processes.clean_up(record)
            self._processes.watch(record)
            if record.process is None:  # It is just being started.
                await asyncio.sleep(_POLL_SECONDS)
        return await asyncio.shield(watching)

    async def verdict(self, worker_id: WorkerId) -> Reason:
        """Known when the kernel counted such a kill while the worker ran as our child."""
        if (watching := self._processes.watching(worker_id)) is not None:
            await asyncio.wait({watching}, timeout=_VERDICT_SECONDS)
        return Reason.OUT_OF_MEMORY if self._processes.ran_out_of_memory(worker_id) else Reason.WORKER_LOST

    def known(self, worker_id: WorkerId) -> WorkerView | None:
        """Reads nothing: what is paid for is known of all alike."""
        return WorkerView(worker_id, WorkerHealth.HEALTHY, 0.0, resources=_RESOURCES)

    def limit_reached(self, need: WorkerNeed) -> str | None:
        """None: there are no sizes here, but next time other programs may leave more room."""
        return None

    async def release(self, worker_id: WorkerId, *, reusable: bool, attempt: AttemptId | None = None) -> None:
        """Not reusable: returns when the worker and all it ran are gone."""
        name = None if attempt is None else str(attempt)
        try:
            record = await self._records.under_lock(lambda: self._let_go(worker_id, name, idle=reusable))
            if record is not None and not reusable:
                await self._processes.stop(record)
        except OSError as error:
            log.warning("worker could not be released", extra={"worker": worker_id, "error": str(error)})

    async def disown(self, worker_id: WorkerId) -> None:
        """It is idle again when nothing runs on it, or its user says so; a reserved one is given back."""
        try:
            await self._records.under_lock(lambda: self._disown(worker_id))
        except OSError as error:
            log.warning("worker could not be disowned", extra={"worker": worker_id, "error": str(error)})

    def slots(self) -> int:
        """Reads a handful of small files."""
        return self._free_slots(
            record.attempt for record in self._records.entries() if record.alive and not self._is_idle(record)
        )

    async def view(self) -> Sequence[WorkerView]:
        """Every worker that has a record, whoever launched it."""
        return await in_thread(lambda: [self._view(record) for record in self._records.entries()])

    async def survey(self, also: Collection[WorkerId] = ()) -> Sequence[WorkerView]:
        """Those that ended are those whose end this process has seen."""
        views = await self.view()
        known = {view.worker_id for view in views}
        ended = [
            WorkerView(worker_id, WorkerHealth.GONE, 0.0, detail=diagnosis, stoppable=False)
            for worker_id, diagnosis in self._processes.diagnoses().items()
            if worker_id not in known
        ]
        return [*views, *ended]

    async def stop(self, worker_id: WorkerId, reason: str) -> None:
        """Returns when the worker and all it ran are gone."""
        record = await in_thread(self._records.get, worker_id)
        if record is None or not record.alive:
            raise NotFound("worker", worker_id)
        await self._processes.stop(record, reason)

    async def close(self) -> None:
        """Busy workers go on, to be found again by the next process over the same folder."""
        await self._acquisitions.close()
        idle = await self._records.under_lock(self._take_idle)
        await asyncio.gather(*(self._processes.stop(record) for record in idle))
        await self._processes.close()

    # -- handing out -----------------------------------------------------------------------

    async def _acquire(self, need: WorkerNeed) -> WorkerHandle:
        attempt = str(need.attempt)
        if not self._swept:
            self._swept = True
            await in_thread(self._sweep_strays)
        await self._acquisitions.released()  # They may be the ones to reuse.
        while True:
            for dead in [record for record in await in_thread(self._records.entries) if not record.alive]:
                await self._processes.clean_up(dead)
            record, fresh = await self._records.under_lock(lambda: self._reserve(attempt, need.reserved))
            if fresh:
                record = await self._processes.launch(record)
                assert record.address is not None
                return WorkerHandle(record.worker_id, record.address)
            self._processes.watch(record)
            if record.address is None:  # Another API process is launching it for the same attempt.
                await asyncio.sleep(_POLL_SECONDS)
                continue
            try:
                await probe(record.address)
            except WorkerLost:
                await self._processes.stop(record)
                continue
            return WorkerHandle(record.worker_id, record.address)

    def _sweep_strays(self) -> None:
        """Remove work folders of workers that nobody knows any more; a record is older than its folder."""
        folders = list(self._work.glob("w-*"))
        known = {record.worker_id for record in self._records.entries()}
        for folder in folders:
            if folder.name not in known:
                sweep(folder)

    def _disown(self, worker_id: WorkerId) -> None:
        record = self._records.get(worker_id)
        if record is not None:
            attempt = None if record.reserved else record.attempt
            self._records.put(replace(record, attempt=attempt, owner=None))

    def _take(self, worker_id: WorkerId, attempt: str, reserved: bool) -> WorkerRecord | None:
        """The record of a reserved worker on which nothing runs, now held for the attempt."""
        record = self._records.get(worker_id)
        if (
            record is None
            or not record.alive
            or record.address is None
            or record.build != self._build
            or is_draining(record.work)
        ):
            return None
        # Given back it is idle, although the process of an attempt that is over may still be there.
        if record.attempt not in (None, attempt) and set(live_attempts(record.work)) - {attempt}:
            return None
        record = replace(record, attempt=attempt, owner=self._me, reserved=reserved)
        self._records.put(record)
        return record

    def _reserve(self, attempt: str, reserved: bool) -> tuple[WorkerRecord, bool]:
        """The worker of the attempt, else a warm one, else a record to launch one for (True)."""
        records = [record for record in self._records.entries() if record.alive]
        same = [record for record in records if record.attempt == attempt]
        warm = [] if reserved else [record for record in records if self._is_warm(record)]
        for record in (*same, *reversed(warm)):
            taken = replace(record, attempt=attempt, owner=self._me)
            self._records.put(taken)
            return taken, False
        if len(records) >= self._max_workers:
            raise self._no_capacity(len(records))
        worker_id = WorkerId(f"w-{uuid.uuid4().hex[:12]}")
        record = WorkerRecord(
            worker_id=worker_id,
            work=self._work / worker_id,
            build=self._build,
            started_at=time.time(),
            launcher=self._me,
            attempt=attempt,
            reserved=reserved,
            owner=self._me,
        )
        self._records.put(record)
        return record, True

    def _let_go(self, worker_id: WorkerId, attempt: str | None, *, idle: bool) -> WorkerRecord | None:
        """The record, if nobody else has the worker by now; marked as idle or not."""
        record = self._records.get(worker_id)
        if record is None or (attempt is not None and record.attempt not in (None, attempt)):
            return None
        if idle:
            record = replace(record, attempt=None, owner=None)
            self._records.put(record)
        return record

    def _take_idle(self) -> list[WorkerRecord]:
        """All idle workers, taken so that no other process is given one while it is being stopped."""
        idle = [
            record
            for record in self._records.entries()
            if record.alive and record.attempt is None and not record.reserved
        ]
        taken = [replace(record, attempt=_BEING_STOPPED, owner=self._me) for record in idle]
        for record in taken:
            self._records.put(record)
        return taken

    def _is_idle(self, record: WorkerRecord) -> bool:
        if record.reserved or record.address is None or is_draining(record.work):
            return False
        # Held for an API process that died, with nothing running: nobody will come and release it.
        orphaned = record.owner is None or not record.owner.alive
        return record.attempt is None or (orphaned and not live_attempts(record.work))

    def _is_warm(self, record: WorkerRecord) -> bool:
        return record.build == self._build and self._is_idle(record)

    async def _read(self, worker_id: WorkerId) -> WorkerRecord | None:
        return await self._records.under_lock(lambda: self._records.get(worker_id))

    def _view(self, record: WorkerRecord) -> WorkerView:
        """Reads files."""
        alive = record.alive
        if not alive:
            health, detail = WorkerHealth.GONE, "worker process ended"
        else:
            detail = f"pid {record.process.pid}" if record.process else ""
            if record.address is None:
                health = WorkerHealth.STARTING
            else:
                health = WorkerHealth.DRAINING if is_draining(record.work) else WorkerHealth.HEALTHY
        return WorkerView(
            worker_id=record.worker_id,
            health=health,
            started_at=record.started_at,
            attempt=record.attempt if alive else None,
            detail=detail,
            launched_for=record.attempt if record.address is None else None,
            warm=alive and self._is_idle(record),
            stoppable=alive,
            resources=_RESOURCES,
            paid_from=record.started_at if alive else 0.0,
        )
