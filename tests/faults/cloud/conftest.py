"""gooseherd on the local cloud, with sources by http that can be held in the middle."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gooseherd.client import GooseherdClient
from gooseherd.devcloud.admin_client import LocalCloudAdmin
from gooseherd.devcloud.deployment import running_local_cloud, unfinished_uploads
from gooseherd.trial.private_service import running_service

T = TypeVar("T")

SHORT_TIMES = {
    "WORKFLOW_HEARTBEAT_SECONDS": "1",
    "WORKFLOW_STALE_SECONDS": "6",
    "WORKFLOW_TICK_SECONDS": "0.5",
    "WORKFLOW_BACKOFF_SCALE": "0.02",
    "WORKER_SILENCE_SECONDS": "20",
    "WORKER_IDLE_TIMEOUT_SECONDS": "120",
    "GOOSEHERD_LOG_LEVEL": "INFO",
    "SOURCE_ALLOW_HTTP": "true",
    "SOURCE_ALLOW_NETWORKS": "127.0.0.1/32",
}


class Library:
    """Files by http. A file that is held gives its first half and no more, until it is let go."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.held: dict[str, threading.Event] = {}
        self.halfway: dict[str, threading.Event] = {}
        library = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._head(len(library.files[self.path[1:]]))

            def do_GET(self) -> None:
                name = self.path[1:]
                content = library.files[name]
                half = len(content) // 2
                self._head(len(content))
                self.wfile.write(content[:half])
                self.wfile.flush()
                if name in library.held:
                    library.halfway[name].set()
                    library.held[name].wait(120)
                self.wfile.write(content[half:])

            def _head(self, length: int) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(length))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:  # Who asked was killed.
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def bed(self, name: str, lines: int = 500, *, held: bool = False) -> str:
        """A new unsorted BED; its name."""
        chance = random.Random(name)
        starts = [chance.randrange(200_000_000) for _ in range(lines)]
        self.files[name] = "".join(f"chr{at % 22 + 1}\t{at}\t{at + 9}\t{name}\n" for at in starts).encode()
        if held:
            self.held[name], self.halfway[name] = threading.Event(), threading.Event()
        return name

    def let_go(self, name: str) -> None:
        self.held[name].set()

    def close(self) -> None:
        for held in self.held.values():
            held.set()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


@dataclass
class Api:
    """One API process and its client."""

    pid: int
    client: GooseherdClient
    library: Library

    def register(self, name: str) -> None:
        self.client.register(
            {"dcc": "t", "local_id": name, "filename": name, "access_url": f"{self.library.url}/{name}"}
        )

    def begin(self, name: str) -> str:
        """Register the file and ask for it; the job."""
        self.register(name)
        return self.ask(name)

    def ask(self, name: str) -> str:
        job = self.client.ask("t", name).job_id
        assert job is not None, f"{name} is not cold"
        return job

    def ended(self, job_id: str, seconds: float = 100) -> Mapping[str, Any]:
        def look() -> Mapping[str, Any] | None:
            job = self.client.job(job_id)
            return job if job["status"] in ("completed", "failed", "cancelled") else None

        return wait_until(look, f"job {job_id} ends", seconds)

    def completed(self, job_id: str) -> list[str]:
        """The reasons of its attempts, once it is completed and its bytes are there."""
        job = self.ended(job_id)
        assert job["status"] == "completed", job
        ready = self.client.ready("t", job["local_id"], timeout_seconds=60)
        assert ready.size is not None
        assert ready.size > 28, "more than the empty BGZF block"
        return [attempt["reason"] for attempt in job["attempts"]]

    def kill(self) -> None:
        """kill -9 of this process alone."""
        os.kill(self.pid, signal.SIGKILL)


@dataclass
class Cloud:
    """The local cloud, and API processes on it."""

    environment: Mapping[str, str]
    cloud_admin: LocalCloudAdmin
    library: Library
    folder: Path
    earlier: set[str] = field(default_factory=set)

    @contextmanager
    def api(self, **settings: str) -> Iterator[Api]:
        """A service with a state, a prefix and a fleet of its own, unless `settings` say otherwise."""
        mark = uuid.uuid4().hex[:8]
        environ = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "SYNC_DATA_DIR")}
        own = {"ECS_FLEET": f"fleet-{mark}", "WORKFLOW_S3_PREFIX": f"{mark}/"}
        chosen = {**environ, **self.environment, **SHORT_TIMES, **own, **settings}
        with (
            running_service(state_dir=self.folder / mark, allow_roots=(), environ=chosen) as service,
            GooseherdClient(service.url, service.admin_key) as client,
        ):
            yield Api(service.pid, client, self.library)

    def tasks(self) -> list[dict[str, Any]]:
        """Those that were launched since the test began, ended ones too."""
        return [task for task in self.cloud_admin.tasks() if task["id"] not in self.earlier]

    def begin(self) -> None:
        """From here on nothing goes wrong that was not ordered, and counts begin."""
        self.cloud_admin.clear()
        self.cloud_admin.forget_calls()
        self.earlier = {task["id"] for task in self.cloud_admin.tasks()}

    def live(self) -> list[dict[str, Any]]:
        return [task for task in self.tasks() if task["status"] != "STOPPED"]

    def calls(self, operation: str) -> int:
        """How often that operation of ECS was called since the test began, by anybody."""
        return int(self.cloud_admin.calls()["operations"].get(f"ecs:{operation}", {"total": 0})["total"])

    def check_nothing_is_left(self) -> None:
        """No task, no process of one, no unfinished upload: after the API has left, in a while."""

        def clean() -> bool:
            alive = [
                pid for task in self.tasks() for pid in task.get("pids", ()) if Path(f"/proc/{pid}").exists()
            ]
            return not self.live() and not alive and not unfinished_uploads(self.environment)

        wait_until(clean, "nothing is left on the cloud")


def wait_until(look: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
    """The first true thing `look` gives; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(0.1)
    pytest.fail(f"not within {seconds:g} s: {what}")


@pytest.fixture
def until() -> Callable[..., Any]:
    """Waits for something to be true."""
    return wait_until


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One local cloud for a module."""
    folder = tmp_path_factory.mktemp("cloud")
    library = Library()
    with (
        running_local_cloud(folder) as environment,
        LocalCloudAdmin.of(environment) as cloud_admin,
    ):
        yield Cloud(environment, cloud_admin, library, folder)
    library.close()


@pytest.fixture
def cloud(site: Cloud) -> Iterator[Cloud]:
    """That cloud without trouble; after the test nothing of it is left there."""
    site.begin()
    yield site
    site.cloud_admin.clear()
    site.check_nothing_is_left()


@pytest.fixture(scope="module")
def long_lived(site: Cloud) -> Iterator[Api]:
    """A service for all tests of a module that do not kill it."""
    with site.api() as it:
        yield it


@pytest.fixture
def api(cloud: Cloud, long_lived: Api) -> Iterator[Api]:
    """That service without a worker; after the test it lets go of those it has."""
    yield long_lived
    cloud.cloud_admin.clear()
    for task in cloud.live():
        long_lived.client.stop_worker(task["id"])
