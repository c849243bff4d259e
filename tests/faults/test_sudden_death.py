"""kill -9 of anything in the middle of the sort: the job still ends well, and nothing is done in vain."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.faults.conftest import Gooseherd

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(240)]

SORTERS = ("sort", "gooseherd-intervals")


def started(gooseherd: Gooseherd, source: Path) -> tuple[str, list[int]]:
    """Ask for the file; the job, and its sort, held in the middle so that it waits for what the test does."""
    shutil.copy(source, gooseherd.sources / source.name)
    name = gooseherd.register(gooseherd.sources / source.name)
    answer = gooseherd.ask(name)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"]), gooseherd.until(lambda: held(gooseherd), "a sort is under way")


def held(gooseherd: Gooseherd) -> list[int]:
    return [pid for pid in gooseherd.tools(*SORTERS) if signalled(pid, signal.SIGSTOP)]


def go_on(gooseherd: Gooseherd) -> None:
    for pid in gooseherd.processes():  # What waits for a sort in a sandbox stops with it.
        signalled(pid, signal.SIGCONT)


def signalled(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def worker_pids(gooseherd: Gooseherd) -> list[int]:
    return [pid for worker in gooseherd.workers() for pid in _pids(worker)]


def _pids(data: Any) -> list[int]:
    if isinstance(data, dict):
        return [v for k, v in data.items() if k == "pid" and isinstance(v, int)] + [
            pid for v in data.values() for pid in _pids(v)
        ]
    return []


def check_bytes(gooseherd: Gooseherd) -> None:
    answer = gooseherd.ask("t/long.bed", headers={"Range": "bytes=0-15"})
    assert answer.status_code == 206, answer.text
    assert answer.content[:4] == b"\x1f\x8b\x08\x04"


def test_a_killed_worker_costs_one_attempt_and_not_the_job(gooseherd: Gooseherd, long_bed: Path) -> None:
    job_id, sorts = started(gooseherd, long_bed)
    for pid in set(worker_pids(gooseherd)) - {gooseherd.pid}:
        os.kill(pid, signal.SIGKILL)
    job = gooseherd.ended(job_id)
    assert job["status"] == "completed"
    assert [attempt["reason"] for attempt in job["attempts"]] == ["worker_lost", "published"]
    assert not set(sorts) & set(gooseherd.tools(*SORTERS))
    check_bytes(gooseherd)


def test_a_killed_api_process_adopts_its_running_attempt_when_it_is_back(
    gooseherd: Gooseherd, long_bed: Path
) -> None:
    job_id, sorts = started(gooseherd, long_bed)
    gooseherd.kill()
    assert set(sorts) <= set(gooseherd.tools(*SORTERS)), "the sort went on without the API"
    gooseherd.start()
    go_on(gooseherd)
    job = gooseherd.ended(job_id)
    assert job["status"] == "completed"
    assert [attempt["number"] for attempt in job["attempts"]] == [1]
    check_bytes(gooseherd)


def test_a_killed_attempt_process_is_told_and_tried_again(gooseherd: Gooseherd, long_bed: Path) -> None:
    job_id, _ = started(gooseherd, long_bed)
    attempts = gooseherd.attempts()
    assert attempts
    for pid in attempts:
        os.kill(pid, signal.SIGKILL)
    job = gooseherd.ended(job_id)
    assert job["status"] == "completed"
    assert job["attempts"][0]["reason"] == "worker_lost"
    check_bytes(gooseherd)


def test_stopping_in_order_leaves_the_attempt_to_the_next_start(gooseherd: Gooseherd, long_bed: Path) -> None:
    job_id, _ = started(gooseherd, long_bed)
    assert gooseherd.stop() == 0
    gooseherd.start()
    go_on(gooseherd)
    job = gooseherd.ended(job_id)
    assert job["status"] == "completed"
    assert [attempt["number"] for attempt in job["attempts"]] == [1]


def test_cancelling_in_the_middle_leaves_no_process_and_no_file(gooseherd: Gooseherd, long_bed: Path) -> None:
    job_id, _ = started(gooseherd, long_bed)
    answer = httpx.delete(f"{gooseherd.url}/jobs/{job_id}", timeout=30)
    assert answer.status_code in (200, 202), answer.text
    job = gooseherd.ended(job_id)
    assert job["status"] == "cancelled"
    assert job["reason"] == "cancelled"
    assert gooseherd.tools(*SORTERS) == []
    assert gooseherd.left_in_work() == []
    assert gooseherd.left_in_cache() == []
