"""Processes that write to one file take turns, whatever becomes of the one whose turn it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gooseherd.store.sql.write_queue import WriteQueue

HOLDER = """
import sys
from pathlib import Path
from gooseherd.store.sql.write_queue import WriteQueue
queue = WriteQueue(Path(sys.argv[1]))
assert queue.enter(60)
print("entered", flush=True)
sys.stdin.readline()
queue.leave()
print("left", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Any]:
    """A process whose turn it is."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "writer")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "entered\n"
        yield process
        process.kill()


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[WriteQueue]:
    made = WriteQueue(tmp_path / "writer")
    yield made
    made.close()


def test_a_process_that_was_stopped_is_waited_for_no_longer_than_asked(
    holder: Any, queue: WriteQueue
) -> None:
    os.kill(holder.pid, signal.SIGSTOP)
    assert not queue.enter(0.1)
    assert not queue.enter(0.1)
    os.kill(holder.pid, signal.SIGCONT)
    holder.stdin.write("leave\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "left\n"
    assert queue.enter(60)
    queue.leave()


def test_a_process_that_was_killed_holds_nobody_up(holder: Any, queue: WriteQueue) -> None:
    assert not queue.enter(0.1)
    os.kill(holder.pid, signal.SIGKILL)
    assert queue.enter(60)
    queue.leave()


def test_a_turn_that_nobody_waits_for_any_more_goes_to_the_next(tmp_path: Path, queue: WriteQueue) -> None:
    first, third = WriteQueue(tmp_path / "writer"), WriteQueue(tmp_path / "writer")
    assert first.enter(0)
    assert not queue.enter(0.05)
    assert not third.enter(0.05)
    first.leave()
    assert third.enter(60)
    third.leave()
    assert first.enter(60)
    first.leave()
    first.close()
    third.close()


def test_who_comes_first_is_served_first(tmp_path: Path) -> None:
    queues = [WriteQueue(tmp_path / "writer") for _ in range(6)]
    served: list[int] = []

    def serve(number: int) -> None:
        assert queues[number].enter(60)
        served.append(number)
        queues[number].leave()

    assert queues[0].enter(0)
    waiting = [threading.Thread(target=serve, args=(number,)) for number in range(1, 6)]
    for thread in waiting:
        thread.start()
        _until_blocked(tmp_path / "writer", waiting.index(thread) + 1)
    queues[0].leave()
    for thread in waiting:
        thread.join(60)
    assert served == [1, 2, 3, 4, 5]
    for queue in queues:
        queue.close()


def _until_blocked(path: Path, count: int) -> None:
    """Until so many wait for the locks of the queue: one for its turn, the others to be next."""
    files = (path, path.with_name(f"{path.name}.next"))
    for _ in range(6000):
        inodes = [f":{file.stat().st_ino} " for file in files if file.exists()]
        lines = Path("/proc/locks").read_text().splitlines()
        if sum("->" in line and any(inode in line for inode in inodes) for line in lines) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("they do not wait")


def test_closing_waits_for_nobody(tmp_path: Path) -> None:
    first, second = WriteQueue(tmp_path / "writer"), WriteQueue(tmp_path / "writer")
    assert first.enter(0)
    assert not second.enter(0.05)
    second.close()
    first.leave()
    first.close()


def test_who_has_just_written_does_not_go_before_who_waits(tmp_path: Path) -> None:
    """Whoever waits sleeps, and needs a while to notice; whoever just wrote is awake and asks at once."""
    busy, other = WriteQueue(tmp_path / "writer"), WriteQueue(tmp_path / "writer")
    turns: list[str] = []

    def write() -> None:
        assert other.enter(60)
        turns.append("other")
        other.leave()

    for _ in range(20):
        turns.clear()
        assert busy.enter(60)
        waiting = threading.Thread(target=write)
        waiting.start()
        _until_blocked(tmp_path / "writer", 1)
        busy.leave()
        assert busy.enter(60)
        turns.append("busy")
        busy.leave()
        waiting.join(60)
        assert turns == ["other", "busy"]
    busy.close()
    other.close()
