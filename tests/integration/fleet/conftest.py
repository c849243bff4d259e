"""A fleet of real worker processes whose attempts do what the test wants, and proof that nothing is left."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gooseherd.domain.attempt import AttemptId, AttemptLimits, AttemptSpec
from gooseherd.domain.formats import BED
from gooseherd.domain.job import JobId, WorkerId
from gooseherd.domain.keys import Recipe
from gooseherd.domain.ports.fleet import WorkerHandle, WorkerNeed
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.fleet.local_fleet import LocalFleet
from gooseherd.fleet.wool_workers import WoolWorkers
from gooseherd.fleet.worker_records import WorkerRecord, WorkerRecords
from gooseherd.processes import ProcessId
from gooseherd.worker.settings import build_id

STAND_IN = Path(__file__).parent / "stand_in"
PATIENCE_SECONDS = 60.0
SILENCE_SECONDS = 12.0
"""Longer than a busy machine may hold up a worker that lives; a fourth of it is between heartbeats."""


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait until it holds; fail the test when it does not in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what or condition}"
        await asyncio.sleep(0.02)


def processes_of(root: Path) -> list[int]:
    """Live processes whose command line or environment names `root`."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        try:
            content = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if str(root).encode() in content and ProcessId.of(int(path.name)):
            found.append(int(path.name))
    return found


class Yard:
    """Fleets over one state folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workers = WoolWorkers(silence_seconds=SILENCE_SECONDS)
        self.registry = WorkerRecords(root / "fleet")
        self._fleets: list[LocalFleet] = []
        self._n = 0

    def fleet(self, *, max_workers: int = 2, idle: float = 60.0, **environment: str) -> LocalFleet:
        fleet = LocalFleet(
            state_dir=self.root,
            max_workers=max_workers,
            environment=self.environment(**environment),
            build=build_id(),
            start_timeout=PATIENCE_SECONDS,
            idle_timeout=idle,
        )
        self._fleets.append(fleet)
        return fleet

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(STAND_IN),
            "SYNC_DATA_DIR": str(self.root / "cache"),
            "AWS_SECRET_ACCESS_KEY": "not for attempts",
            **more,
        }

    def spec(self, wish: str, *, wall: float = 60.0, build: str | None = None) -> AttemptSpec:
        self._n += 1
        source = SourceFile(
            Dcc("lab"), LocalId(wish), "x.bed", BED, "https://example.org/x.bed", md5=f"{self._n:032x}"
        )
        return AttemptSpec(
            AttemptId(JobId(f"job-{self._n}"), 1),
            source,
            Recipe("stand-in", "1", BED),
            AttemptLimits(1 << 20, 1 << 20, wall),
            build or build_id(),
        )

    @staticmethod
    def need(spec: AttemptSpec) -> WorkerNeed:
        return WorkerNeed(spec.attempt, BED, None)

    def entry(self, worker: WorkerHandle | WorkerId) -> WorkerRecord:
        entry = self.registry.get(worker.worker_id if isinstance(worker, WorkerHandle) else worker)
        assert entry is not None
        return entry

    def folder(self, worker: WorkerHandle, spec: AttemptSpec) -> Path:
        return self.root / "work" / worker.worker_id / str(spec.attempt)

    def child(self, worker: WorkerHandle) -> int:
        """Wool's process, a child of the worker's entrypoint."""
        import json

        return int(json.loads(self.registry.announcement(worker.worker_id).read_bytes())["child_pid"])

    async def pids(self) -> list[int]:
        """The attempt's process and its tools, once they run."""
        await until(lambda: (self.root / "pids").exists() and (self.root / "pids").read_text(), "tools run")
        return [int(pid) for pid in (self.root / "pids").read_text().split()]

    def open_gate(self) -> None:
        (self.root / "open").touch()

    def runs(self) -> int:
        return len((self.root / "runs").read_text().splitlines())

    async def close(self) -> None:
        for fleet in self._fleets:
            for entry in self.registry.entries():
                await fleet.release(entry.worker_id, reusable=False)
            await fleet.close()


@pytest.fixture(name="until")
def patience() -> Callable[..., object]:
    """`await until(condition)`."""
    return until


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    yard = Yard(tmp_path)
    yield yard
    await yard.close()
    await until(lambda: not processes_of(tmp_path), "no process left")
    assert list((tmp_path / "work").glob("*")) == []
    assert sorted(path.name for path in (tmp_path / "fleet").glob("*")) in ([], [".lock"])
