"""The files by which one API process finds the workers that another one started.

One JSON file a worker, changed only under an exclusive lock of the folder, so that two
processes (an old one that is leaving and a new one) never hand out one worker twice.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from gooseherd.blocking import in_thread
from gooseherd.domain.job import WorkerId
from gooseherd.processes import ProcessId

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """One worker. `process` is None until it was started, `address` until it was healthy."""

    worker_id: WorkerId
    work: Path
    build: str
    started_at: float
    launcher: ProcessId
    """Who starts it; an entry without a process whose launcher ended was never started."""
    process: ProcessId | None = None
    address: str | None = None
    runtime: Path | None = None
    """Folder of the worker's sockets, outside of everything else because paths of sockets are short."""
    attempt: str | None = None
    """Who uses it; None: idle."""
    reserved: bool = False
    """For a session: nobody else is handed it."""
    owner: ProcessId | None = None
    """On whose behalf: the API process that acquired or found it."""

    @property
    def alive(self) -> bool:
        """Whether its process lives or is just being started."""
        return self.launcher.alive if self.process is None else self.process.alive

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "worker_id": self.worker_id,
            "work": str(self.work),
            "build": self.build,
            "started_at": self.started_at,
            "launcher": self.launcher.to_json(),
            "process": self.process and self.process.to_json(),
            "address": self.address,
            "runtime": self.runtime and str(self.runtime),
            "attempt": self.attempt,
            "reserved": self.reserved,
            "holder": self.owner and self.owner.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; KeyError, TypeError or ValueError when it is not one."""
        process, owner, runtime = data["process"], data["holder"], data["runtime"]
        return cls(
            worker_id=WorkerId(data["worker_id"]),
            work=Path(data["work"]),
            build=data["build"],
            started_at=float(data["started_at"]),
            launcher=ProcessId.from_json(data["launcher"]),
            process=ProcessId.from_json(process) if process else None,
            address=data["address"],
            runtime=Path(runtime) if runtime else None,
            attempt=data["attempt"],
            reserved=bool(data.get("reserved", False)),
            owner=ProcessId.from_json(owner) if owner else None,
        )


class WorkerRecords:
    """The folder of entries. Methods block briefly unless they are coroutines; files are small and few."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the entries, among all processes. Not reentrant."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    async def under_lock(self, call: Callable[[], T]) -> T:
        """`call` in a thread, alone with the entries."""

        def alone() -> T:
            with self.locked():
                return call()

        return await in_thread(alone)

    def entries(self) -> list[WorkerRecord]:
        """All entries, oldest first. What is no entry is left alone and not listed."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(WorkerRecord.from_json(json.loads(path.read_bytes())))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return sorted(found, key=lambda entry: entry.started_at)

    def get(self, worker_id: WorkerId) -> WorkerRecord | None:
        """The entry by that name."""
        return next((entry for entry in self.entries() if entry.worker_id == worker_id), None)

    def put(self, entry: WorkerRecord) -> None:
        """Add or replace. Hold the lock."""
        path = self._path(entry.worker_id)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(entry.to_json()))
        draft.replace(path)

    def change(self, worker_id: WorkerId, **fields: Any) -> WorkerRecord | None:
        """Replace fields of an entry under the lock; None when there is none (any more)."""
        with self.locked():
            entry = self.get(worker_id)
            if entry is not None:
                entry = replace(entry, **fields)
                self.put(entry)
            return entry

    def remove(self, worker_id: WorkerId) -> None:
        """Forget it, with its announcement and its log. Hold the lock."""
        for path in (self._path(worker_id), self.announcement(worker_id), self.log(worker_id)):
            path.unlink(missing_ok=True)

    def announcement(self, worker_id: WorkerId) -> Path:
        """Where the worker reports that it is ready."""
        return self.folder / f"{worker_id}.ready"

    def log(self, worker_id: WorkerId) -> Path:
        """The worker's standard error."""
        return self.folder / f"{worker_id}.log"

    def _path(self, worker_id: WorkerId) -> Path:
        return self.folder / f"{worker_id}.json"
