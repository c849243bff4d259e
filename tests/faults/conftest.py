"""A whole gooseherd as a process of its own, with short times, to be killed in any place."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

T = TypeVar("T")

SHORT_TIMES = {
    "WORKFLOW_HEARTBEAT_SECONDS": "1",
    "WORKFLOW_STALE_SECONDS": "6",
    "WORKFLOW_FINALIZE_GRACE_SECONDS": "2",
    "WORKFLOW_TICK_SECONDS": "0.5",
    "WORKFLOW_BACKOFF_SCALE": "0.05",
    "WORKER_SILENCE_SECONDS": "15",
    "WORKER_IDLE_TIMEOUT_SECONDS": "20",
    "WORKER_MAX_LOCAL": "2",
    "GOOSEHERD_LOG_LEVEL": "INFO",
}


class Gooseherd:
    """One service on one state folder; may be started again after it was killed."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.sources = folder / "sources"
        self.sources.mkdir()
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.extra: dict[str, str] = {}

    def start(self) -> Gooseherd:
        environment = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "SYNC_DATA_DIR")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gooseherd.cli", "up", "--json", "--port", "0"),
                    *("--state-dir", str(self.state), "--allow-root", str(self.sources)),
                ],
                env={**environment, **SHORT_TIMES, **self.extra},
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            pytest.fail(f"gooseherd did not start:\n{self.log.read_text()[-3000:]}")
        self.url = json.loads(line)["url"]
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9 of the API process alone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)
        self._close_pipe()

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self._process is not None
        self._process.terminate()
        status = self._process.wait(60)
        self._close_pipe()
        return status

    def _close_pipe(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()

    def clean_up(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        for worker in self.workers():
            for pid in (worker.get("process", {}).get("pid"), worker.get("pid")):
                if isinstance(pid, int):
                    try:
                        os.kill(pid, signal.SIGTERM)
                    except ProcessLookupError:
                        continue

    @staticmethod
    def until(look: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
        """The first true thing `look` gives; fails the test after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            seen = look()
            if seen:
                return seen
            time.sleep(0.1)
        pytest.fail(f"not within {seconds:g} s: {what}")

    @staticmethod
    def command(pid: int) -> list[str]:
        """The process's argument list; empty when it has ended."""
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return []

    # -- what a client does --------------------------------------------------------------

    def register(self, path: Path, **fields: Any) -> str:
        entry = {
            "dcc": "t",
            "local_id": path.name,
            "access_url": path.as_uri(),
            "filename": path.name,
            **fields,
        }
        key = (self.state / "admin-key").read_text().strip()
        answer = httpx.post(f"{self.url}/files", json=entry, headers={"X-API-Key": key}, timeout=30)
        assert answer.status_code in (200, 201), answer.text
        return f"t/{entry['local_id']}"

    def ask(self, name: str, **options: Any) -> httpx.Response:
        return httpx.get(f"{self.url}/data/{name}", timeout=90, **options)

    def job(self, job_id: str) -> dict[str, Any]:
        key = (self.state / "admin-key").read_text().strip()
        answer = httpx.get(f"{self.url}/jobs/{job_id}", headers={"X-API-Key": key}, timeout=30)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(self, job_id: str, seconds: float = 90) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["status"] in ("completed", "failed", "cancelled") else None

        return self.until(look, f"job {job_id} ends", seconds)

    # -- what an operator sees -----------------------------------------------------------

    def workers(self) -> list[dict[str, Any]]:
        found = []
        for path in sorted((self.state / "fleet").glob("*.json")):
            try:
                found.append(dict(json.loads(path.read_text())))
            except (FileNotFoundError, ValueError):
                continue
        return found

    def tools(self, *names: str) -> list[int]:
        """Pids of tools of those names that work below this state folder."""
        # One that ends meanwhile has no command any more.
        return [pid for pid in self.processes() if any(Path(c).name in names for c in self.command(pid)[:1])]

    def attempts(self) -> list[int]:
        """Pids of attempt processes of this state folder."""

        def name(pid: int) -> str:
            try:
                return Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                return ""

        return [pid for pid in self.processes() if name(pid) == "attempt"]

    def processes(self) -> list[int]:
        """Every process that has this state folder in its arguments, environment or as its folder."""
        mark = str(self.state)
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                result = b"\0".join(
                    [(entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()]
                ).decode(errors="replace")
                where = str((entry / "cwd").readlink())
            except OSError:
                continue
            if mark in result or where.startswith(mark):
                found.append(int(entry.name))
        return found

    def left_in_cache(self) -> list[str]:
        root = self.state / "artifacts"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def left_in_work(self) -> list[str]:
        root = self.state / "work"
        return sorted(str(path.relative_to(root)) for path in root.rglob("source*") if root.exists())


@pytest.fixture
def make_gooseherd() -> type[Gooseherd]:
    """For a service that a module sets up itself."""
    return Gooseherd


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gooseherd]:
    """One service for all tests of a module that do not kill it; plain http on loopback is allowed."""
    it = Gooseherd(tmp_path_factory.mktemp("steady"))
    it.extra = {
        "SOURCE_ALLOW_HTTP": "true",
        "SOURCE_ALLOW_NETWORKS": "127.0.0.1/32",
        "SOURCE_MAX_BYTES": "64M",
        "API_WAIT_MAX_SECONDS": "60",
        "WORKER_IDLE_TIMEOUT_SECONDS": "120",
    }
    it.start()
    yield it
    it.clean_up()


@pytest.fixture
def gooseherd(tmp_path: Path) -> Iterator[Gooseherd]:
    """A running service on a fresh state folder."""
    it = Gooseherd(tmp_path)
    it.start()
    yield it
    it.clean_up()


@pytest.fixture(scope="session")
def long_bed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unsorted BED large enough for its sort to be met in the middle (about 55 MB)."""
    path = tmp_path_factory.mktemp("long") / "long.bed"
    chance = random.Random(7)
    with path.open("w") as out:
        for _ in range(25):
            starts = [chance.randrange(200_000_000) for _ in range(70_000)]
            out.writelines(f"chr{at % 22 + 1}\t{at}\t{at + 100}\tname{at}\n" for at in starts)
    return path
