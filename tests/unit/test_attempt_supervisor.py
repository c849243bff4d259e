"""What a worker says for an attempt whose process was killed."""

from __future__ import annotations

import errno
import itertools
import json
import signal
import socket
import subprocess
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest

from gooseherd.domain.attempt import AttemptId, AttemptLimits, AttemptSpec, Event, EventKind
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import BED
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import Recipe
from gooseherd.domain.source import SourceFile
from gooseherd.processes import ProcessId
from gooseherd.worker import attempt_supervisor as supervising
from gooseherd.worker import routines
from gooseherd.worker.attempt_supervisor import AttemptSupervisor
from gooseherd.worker.failure_reason import EXIT_NO_ROOM
from gooseherd.worker.folders import AttemptFolder
from gooseherd.worker.spawning import Spawned, Spawner

NAME = AttemptId(JobId("j"), 1)


class Killed:
    """Starts attempts that say one thing and end: killed, or with `status`; `never`: nobody learns that."""

    def __init__(self, status: int | None = None, *, never: bool = False) -> None:
        self.status = status
        self.never = never

    def spawn(self, folder: AttemptFolder, entrypoint: ProcessId, watchdog: socket.socket) -> Spawned:
        first = Event(1, EventKind.ACCEPTED, 0.0)
        folder.journal.write_text(json.dumps(first.to_json()) + "\n")
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        me = ProcessId.of_child(child.pid)
        child.kill()
        code = child.wait()
        ended: Future[int | None] = Future()
        if not self.never:
            ended.set_result(code if self.status is None else self.status)
        return Spawned(me, ended)


def started(work: Path, spawner: Killed, entrypoint: int = 1) -> AttemptSupervisor:
    me = ProcessId.of(entrypoint)
    assert me is not None
    host = AttemptSupervisor(work=work, build="b", entrypoint=me, spawner=cast(Spawner, spawner))
    source = SourceFile.from_json(
        {
            "dcc": "d",
            "local_id": "x",
            "filename": "x.bed",
            "access_url": "https://example.org/x",
            "file_format": "bed",
            "md5": "0" * 32,
        }
    )
    spec = AttemptSpec(NAME, source, Recipe("p", "1", BED), AttemptLimits(1, 1, 60.0), "b")
    assert host.start(spec.to_json()) == {"started": True}
    return host


async def last_words(work: Path, status: int | None = None) -> list[dict[str, Any]]:
    host = started(work, Killed(status))
    return [answer async for answer in host.watch(NAME, 1, 30.0)]


async def test_a_kill_that_the_kernel_counts_as_its_own_is_out_of_memory(tmp_path, monkeypatch) -> None:
    counts = itertools.count()
    monkeypatch.setattr(supervising, "oom_kills", lambda: next(counts))
    *_, last = await last_words(tmp_path)
    event = Event.from_json(last["event"])
    assert event.last
    assert event.seq == 2
    assert event.reason is Reason.OUT_OF_MEMORY


async def test_any_other_kill_is_a_lost_attempt(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(supervising, "oom_kills", lambda: 7)
    *_, last = await last_words(tmp_path)
    assert last == {"lost": f"attempt process killed by signal {signal.SIGKILL.value}"}


async def test_an_attempt_whose_journal_has_no_room_is_out_of_disk(tmp_path) -> None:
    *_, last = await last_words(tmp_path, EXIT_NO_ROOM)
    event = Event.from_json(last["event"])
    assert (event.seq, event.reason) == (2, Reason.OUT_OF_DISK)


def test_a_cancellation_does_not_wait_for_ever_for_what_no_signal_ends(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(supervising, "EXIT_SECONDS", 0.05)
    monkeypatch.setattr(supervising, "STOP_SECONDS", 0.05)
    assert "failed" in started(tmp_path, Killed(never=True)).cancel(NAME)


def test_a_worker_is_not_ended_in_the_name_of_an_attempt_while_it_has_another(tmp_path) -> None:
    with subprocess.Popen(["sleep", "600"]) as entrypoint:
        host = started(tmp_path, Killed(never=True), entrypoint.pid)
        assert host.end_worker("j.0") == {"busy": str(NAME)}
        assert entrypoint.poll() is None
        assert host.end_worker(str(NAME))["build"] == "b"
        assert entrypoint.wait(30) == -signal.SIGTERM


def test_a_worker_is_not_ended_in_the_name_of_an_attempt_while_it_is_claimed_for_another(tmp_path) -> None:
    with subprocess.Popen(["sleep", "600"]) as entrypoint:
        host = started(tmp_path, Killed(), entrypoint.pid)
        host._attempts[NAME].ended.wait(30)
        assert host.claim("j.2", 60.0)["claimed_by"] == "j.2"
        assert host.end_worker(str(NAME)) == {"busy": "j.2"}
        assert entrypoint.poll() is None
        # An operator names no attempt.
        assert host.end_worker()["claimed_by"] == "j.2"
        assert entrypoint.wait(30) == -signal.SIGTERM


async def test_a_worker_without_room_for_an_order_says_so(monkeypatch) -> None:
    def full() -> AttemptSupervisor:
        raise OSError(errno.ENOSPC, "No space left on device", "/scratch/work")

    monkeypatch.setattr(routines, "_supervisor", full)
    assert await routines._safely(lambda host: host.describe()) == {"failed": "the worker's disk is full"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    monkeypatch.setattr(supervising, "_POLL_SECONDS", 0.05)
