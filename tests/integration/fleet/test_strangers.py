"""What another user of the machine can do with a worker, and a worker that was taken over with us."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from gooseherd.domain.errors import Misconfigured, WorkerLost
from gooseherd.domain.formats import BED
from gooseherd.fleet.worker_records import WorkerRecords
from gooseherd.trial import inputs
from gooseherd.trial.digest import md5_of
from gooseherd.trial.private_service import running_service

pytestmark = [pytest.mark.integration, pytest.mark.slow]
PROGRAM = Path(__file__).parent / "ask_a_worker.py"


def ask(address: str, marker: Path, *options: str) -> dict[str, str]:
    command = [sys.executable, str(PROGRAM), address, str(marker), *options]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    answers: dict[str, str] = json.loads(done.stdout)
    return answers


@pytest.fixture
def working(tmp_path: Path) -> Any:
    """(the state folder of a service, the address of its only worker)"""
    state, given = tmp_path / "state", tmp_path / "given"
    given.mkdir()
    source = inputs.make(BED, given, "0a1b2c3d").path
    environ = {**os.environ, "WORKER_MAX_LOCAL": "1", "WORKER_IDLE_TIMEOUT_SECONDS": "600"}
    with running_service(state_dir=state, allow_roots=[given], environ=environ) as service:
        headers = {"X-API-Key": service.admin_key or ""}
        with httpx.Client(base_url=service.url, headers=headers, timeout=120, trust_env=False) as http:
            entry = {"dcc": "lab", "local_id": "x", "filename": source.name, "file_format": "bed"}
            where = {"access_url": source.as_uri(), "md5": md5_of(source)}
            http.post("/files", json=entry | where).raise_for_status()
            assert http.get("/data/lab/x", params={"wait": 100}).status_code == 200
        (record,) = WorkerRecords(state / "fleet").entries()
        assert record.address is not None
        yield state, record.address


def test_only_whoever_has_the_services_certificates_is_heard(working: Any, tmp_path: Path) -> None:
    state, address = working
    marker = tmp_path / "done"
    answers = ask(address, marker, "--certificates", str(state / "certs"))
    assert answers["answer"] == "build", "the way of asking works for the owner"
    assert "Misconfigured" in answers["forged"], "and not even the owner has it run a pickle"
    answers = ask(address, marker)
    assert answers["answer"].startswith("WorkerLost")
    assert answers["forged"].startswith("WorkerLost")
    assert not marker.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_reads_and_runs_nothing(working: Any, tmp_path: Path) -> None:
    state, address = working
    marker = Path("/tmp") / f"gooseherd-{os.getpid()}-forged"
    answers = ask(address, marker, "--as-nobody")
    assert answers["answer"].startswith("WorkerLost")
    assert answers["forged"].startswith("WorkerLost")
    assert not marker.exists()
    reading = f"import os; os.setgid(65534); os.setuid(65534); os.listdir({str(state)!r})"
    done = subprocess.run([sys.executable, "-c", reading], capture_output=True, check=False)
    assert b"PermissionError" in done.stderr


async def test_a_worker_that_was_taken_over_runs_nothing_here(yard: Any, tmp_path: Path) -> None:
    marker = tmp_path / "done"

    class Forgery:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(marker),)

    forged = tmp_path / "forged"
    forged.write_bytes(pickle.dumps(Forgery()))
    fleet, spec = yard.fleet(ANSWERS_WITH=str(forged)), yard.spec("quick")
    worker = await fleet.acquire(yard.need(spec))
    async with yard.workers.connect(worker) as link:
        with pytest.raises((Misconfigured, WorkerLost)):
            await link.describe()
        with pytest.raises((Misconfigured, WorkerLost)):
            await link.start_attempt(spec)
        with pytest.raises((Misconfigured, WorkerLost)):
            _ = [event async for event in link.watch_attempt(spec.attempt, 1)]
    assert not marker.exists()
