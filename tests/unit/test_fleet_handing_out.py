"""Who is handed a worker, and who gives it back: once, for the attempt that had it, in whatever order."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import NoCapacity
from gooseherd.domain.formats import BED
from gooseherd.domain.job import JobId, WorkerId
from gooseherd.domain.ports.fleet import WorkerHandle, WorkerNeed
from gooseherd.fleet.launch import Launcher
from gooseherd.fleet.local_fleet import LocalFleet
from gooseherd.fleet.worker_records import WorkerRecord, WorkerRecords
from gooseherd.processes import ProcessId

W = WorkerHandle(WorkerId("w-1"), "127.0.0.1:1")
ONE, OTHER = (AttemptId(JobId(name), 1) for name in ("one", "other"))


def need(attempt: AttemptId) -> WorkerNeed:
    return WorkerNeed(attempt, BED, None)


def local(folder: Path, max_workers: int = 1) -> LocalFleet:
    return LocalFleet(state_dir=folder, max_workers=max_workers, environment={}, build="b1")


@pytest.fixture
def process() -> Any:
    """A process that stands for a worker."""
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield child
    child.kill()
    child.wait()


@pytest.fixture
def deaf(tmp_path: Path) -> Any:
    """A process that stands for a worker, and notes a SIGTERM instead of ending."""
    code = (
        "import pathlib, signal, sys\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "signal.signal(signal.SIGTERM, lambda *_: (folder / 'told').touch())\n"
        "(folder / 'ready').touch()\n"
        "while True:\n    signal.pause()\n"
    )
    child = subprocess.Popen([sys.executable, "-S", "-c", code, str(tmp_path)], start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield child
    child.kill()
    child.wait()


async def told_to_stop(folder: Path) -> None:
    async with asyncio.timeout(60):
        while not (folder / "told").exists():  # noqa: ASYNC110 - a signal in another process
            await asyncio.sleep(0.01)


def put(folder: Path, process: subprocess.Popen[bytes], attempt: AttemptId | None) -> WorkerRecords:
    me = ProcessId.of_child(process.pid)
    registry = WorkerRecords(folder / "fleet")
    entry = WorkerRecord(
        worker_id=W.worker_id,
        work=folder / "work" / W.worker_id,
        build="b1",
        started_at=1.0,
        launcher=me,
        process=me,
        address=W.address,
        attempt=None if attempt is None else str(attempt),
        owner=None if attempt is None else me,
    )
    with registry.locked():
        registry.put(entry)
    return registry


async def test_who_had_a_local_worker_before_does_not_release_it_under_the_next(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    registry, fleet = put(tmp_path, process, OTHER), local(tmp_path)
    for reusable in (True, False):
        await fleet.release(W.worker_id, reusable=reusable, attempt=ONE)
        assert registry.entries()[0].attempt == str(OTHER)
    assert process.poll() is None
    await fleet.release(W.worker_id, reusable=True, attempt=OTHER)
    assert registry.entries()[0].attempt is None


async def test_a_local_worker_that_works_for_somebody_else_lives_on_and_is_not_handed_out(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    registry, fleet = put(tmp_path, process, ONE), local(tmp_path)
    at_work = registry.entries()[0].work / "else.1"
    at_work.mkdir(parents=True)  # An attempt that is just being started there.
    await fleet.disown(W.worker_id)
    assert process.poll() is None
    with pytest.raises(NoCapacity):
        await fleet.acquire(need(OTHER))
    at_work.rmdir()
    assert fleet.slots() == 1


async def test_no_process_is_given_a_worker_that_another_one_stops_as_it_leaves(
    tmp_path: Path, deaf: subprocess.Popen[bytes]
) -> None:
    put(tmp_path, deaf, None)
    leaving, staying = local(tmp_path), local(tmp_path)
    assert staying.slots() == 1
    closing = asyncio.create_task(leaving.close())
    await told_to_stop(tmp_path)
    assert staying.slots() == 0
    with pytest.raises(NoCapacity):
        await staying.acquire(need(ONE))
    deaf.kill()
    await closing
    assert staying.slots() == 1


async def test_the_end_of_a_worker_that_is_being_stopped_is_not_told_before_it_ends(
    tmp_path: Path, deaf: subprocess.Popen[bytes]
) -> None:
    put(tmp_path, deaf, ONE)
    fleet = local(tmp_path)
    stopping = asyncio.create_task(fleet.stop(W.worker_id, "nobody works with it"))
    await told_to_stop(tmp_path)
    result = asyncio.create_task(fleet.gone(W.worker_id))
    done, _ = await asyncio.wait({result}, timeout=0.2)
    assert not done
    deaf.kill()
    assert await result == "the worker was stopped: nobody works with it"
    await stopping


@pytest.fixture
async def slow_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[LocalFleet, threading.Event, list[Any]]]:
    """A fleet whose worker is just being started in a thread."""
    fleet, go_on, children = local(tmp_path), threading.Event(), []
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def spawn(
        launcher: Launcher, worker_id: WorkerId, work: Path, more: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()
        children.append(subprocess.Popen(["sleep", "600"], start_new_session=True))
        return children[0]

    monkeypatch.setattr(Launcher, "spawn", spawn)
    acquiring = asyncio.create_task(fleet.acquire(need(ONE)))
    await begun.wait()
    yield fleet, go_on, children
    await asyncio.wait({acquiring})
    for child in children:
        child.kill()
        child.wait()


async def test_who_leaves_while_a_worker_is_being_started_leaves_no_process(
    slow_start: tuple[LocalFleet, threading.Event, list[subprocess.Popen[bytes]]],
) -> None:
    fleet, go_on, children = slow_start
    closing = asyncio.create_task(fleet.close())
    await asyncio.sleep(0)  # The launch is cancelled, and its thread goes on.
    go_on.set()
    await closing
    assert children[0].returncode is not None
    assert await fleet.view() == []
