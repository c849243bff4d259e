"""Worker processes of this machine: launched, watched to their end, stopped, their files removed."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from gooseherd.blocking import in_thread
from gooseherd.domain.errors import LaunchFailed, WorkerLost
from gooseherd.domain.job import WorkerId
from gooseherd.domain.reservation import KEEP_SECONDS
from gooseherd.fleet.launch import Launcher
from gooseherd.fleet.probe import probe
from gooseherd.fleet.worker_records import WorkerRecord, WorkerRecords
from gooseherd.processes import ProcessId, describe_exit, end_session
from gooseherd.worker.folders import sweep
from gooseherd.worker.resources import oom_kills

log = logging.getLogger(__name__)

_STOP_SECONDS: Final = 11.0
"""From SIGTERM to SIGKILL: a worker needs nine at most, for its attempt and its watchers."""
_REMEMBERED: Final = 256
"""Ended workers whose diagnosis is kept."""


class WorkerProcesses:
    """Those of all API processes over one folder of records, as far as this process has to do with them."""

    def __init__(self, records: WorkerRecords, launcher: Launcher) -> None:
        self._records = records
        self._launcher = launcher
        self._children: dict[WorkerId, subprocess.Popen[bytes]] = {}
        self._watching: dict[WorkerId, asyncio.Task[str]] = {}
        self._clean_ups: dict[WorkerId, asyncio.Task[str]] = {}
        self._diagnoses: dict[WorkerId, str] = {}
        self._oom_kills_before: dict[WorkerId, int] = {}
        """What `oom_kills` counted when the worker was launched."""
        self._out_of_memory: set[WorkerId] = set()

    async def launch(self, record: WorkerRecord) -> WorkerRecord:
        """Start the worker of a reserved record; the record with its process and address.

        Raises:
            LaunchFailed: it ended or was not ready in time; nothing is left of it.
        """
        worker_id = record.worker_id
        try:
            self._oom_kills_before[worker_id] = oom_kills()
            child = await in_thread(self._spawn, worker_id, record.work, record.reserved)
            record = replace(record, process=ProcessId.of_child(child.pid))
            await self._put(record)
            announced = await self._launcher.announced(worker_id, child)
            record = replace(record, address=announced["address"], runtime=Path(announced["runtime"]))
            await self._put(record)
            await probe(announced["address"])
        except BaseException as error:
            tail = await in_thread(self._launcher.last_lines, worker_id)
            if record.process is None and worker_id in self._children:
                record = replace(record, process=ProcessId.of_child(self._children[worker_id].pid))
            await asyncio.shield(self.stop(record))
            if isinstance(error, OSError | LaunchFailed | WorkerLost | KeyError | ValueError):
                reason = str(error) if isinstance(error, LaunchFailed) else type(error).__name__
                raise LaunchFailed(f"{reason.removeprefix('worker did not start: ')}{tail}") from error
            raise
        self.watch(record)
        log.info("worker launched", extra={"worker": worker_id, "address": record.address})
        return record

    def _spawn(self, worker_id: WorkerId, work: Path, reserved: bool) -> subprocess.Popen[bytes]:
        """Kept in the same thread: a caller that is cancelled meanwhile gets no answer."""
        kept = {"WORKER_KEEP_SECONDS": f"{KEEP_SECONDS:g}"} if reserved else {}
        child = self._children[worker_id] = self._launcher.spawn(worker_id, work, kept)
        return child

    async def _put(self, record: WorkerRecord) -> None:
        await self._records.under_lock(lambda: self._records.put(record))

    def watch(self, record: WorkerRecord) -> None:
        """Learn of the worker's end when it comes; again changes nothing."""
        if record.worker_id not in self._watching and record.process is not None:
            task = asyncio.create_task(
                self._to_its_end(record, record.process), name=f"watch {record.worker_id}"
            )
            self._watching[record.worker_id] = task

    def watching(self, worker_id: WorkerId) -> asyncio.Task[str] | None:
        """Ends with the worker and has its diagnosis; None: it is not watched."""
        return self._watching.get(worker_id)

    async def _to_its_end(self, record: WorkerRecord, process: ProcessId) -> str:
        try:
            await process.ended()
            diagnosis = await self.clean_up(record)
        finally:
            self._watching.pop(record.worker_id, None)
        log.info("worker ended", extra={"worker": record.worker_id, "how": diagnosis})
        return diagnosis

    async def stop(self, record: WorkerRecord, reason: str | None = None) -> None:
        """Return when the worker and all it ran are gone. `reason` goes into its diagnosis."""
        if reason is not None:
            self._diagnoses[record.worker_id] = f"the worker was stopped: {reason}"
        if record.process is not None and record.process.signal(signal.SIGTERM):
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await record.process.ended()
        await self.clean_up(record)

    async def clean_up(self, record: WorkerRecord) -> str:
        """Kill what is left of a worker, remove its files, reap it; its diagnosis. Again changes nothing.

        One at a time for each: who comes second would miss what the first has found out.
        """
        cleaning = self._clean_ups.get(record.worker_id)
        if cleaning is None:
            cleaning = asyncio.create_task(self._clean_up(record), name=f"clean up {record.worker_id}")
            self._clean_ups[record.worker_id] = cleaning
            cleaning.add_done_callback(lambda _: self._clean_ups.pop(record.worker_id, None))
        return await asyncio.shield(cleaning)

    async def _clean_up(self, record: WorkerRecord) -> str:
        child = self._children.get(record.worker_id)
        await in_thread(_remove, record, child, self._records)
        self._children.pop(record.worker_id, None)
        how = describe_exit(child.returncode) if child is not None else "ended"
        before = self._oom_kills_before.pop(record.worker_id, None)
        killed = child is not None and child.returncode == -signal.SIGKILL
        if killed and before is not None and await in_thread(oom_kills) > before:
            self._out_of_memory.add(record.worker_id)
            how = f"{how} (out of memory)"
        diagnosis = self._diagnoses.setdefault(record.worker_id, f"worker process {how}")
        while len(self._diagnoses) > _REMEMBERED:
            forgotten = next(iter(self._diagnoses))
            self._diagnoses.pop(forgotten)
            self._out_of_memory.discard(forgotten)
        return diagnosis

    def diagnoses(self) -> dict[WorkerId, str]:
        """Of workers whose end this process has seen, or brought about, the last few hundred."""
        return dict(self._diagnoses)

    def ran_out_of_memory(self, worker_id: WorkerId) -> bool:
        """Whether the kernel killed that worker, a child of ours, for want of memory."""
        return worker_id in self._out_of_memory

    async def close(self) -> None:
        """Stop watching; workers go on."""
        watching = list(self._watching.values())
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await asyncio.gather(*self._clean_ups.values(), return_exceptions=True)
        for child in self._children.values():
            if child.poll() is None:
                child.returncode = 0  # It goes on without us; Popen would complain that nobody waited.


def _remove(record: WorkerRecord, child: subprocess.Popen[bytes] | None, records: WorkerRecords) -> None:
    known = records.get(record.worker_id) or record  # It may have become known since `record` was read.
    process, runtime = record.process or known.process, record.runtime or known.runtime
    if process is not None:
        end_session(process)
    if child is not None:
        child.wait()
    sweep(record.work)
    if runtime is not None:
        shutil.rmtree(runtime, ignore_errors=True)
    with records.locked():
        records.remove(record.worker_id)
