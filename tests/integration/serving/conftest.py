"""`gooseherd up` as a process, under limits low enough to be met."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest
from tests.servers.raw_service import SECONDS, Service

_OURS = ("GOOSEHERD_", "API_", "SOURCE_", "WORKFLOW_", "WORKER_", "DATABASE_", "SYNC_", "AWS_", "ECS_")
Start = Callable[..., Service]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts services, by settings; they run until the module's end."""
    running: list[Service] = []

    def run(*, open_files: int | None = None, **settings: object) -> Service:
        root = tmp_path_factory.mktemp("service")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        environment |= {name: str(value) for name, value in settings.items()}
        environment |= {"WORKER_MAX_LOCAL": "1", "WORKER_IDLE_TIMEOUT_SECONDS": "5"}
        (root / "files").mkdir()
        command = [sys.executable, "-m", "gooseherd.cli", "up", "--json", "--port", "0"]
        command += ["--state-dir", str(root / "state"), "--allow-root", str(root / "files")]

        if open_files is not None:
            command = ["sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh", *command]
        log = root / "log"
        with log.open("ab") as stderr:
            process = subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()[-3000:]
        key = (root / "state" / "admin-key").read_text().strip()
        service = Service(process, log, httpx.URL(json.loads(line)["url"]), key, root / "files")
        running.append(service)
        return service

    yield run
    for service in running:
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(SECONDS)
        assert service.process.stdout is not None
        service.process.stdout.close()


@pytest.fixture(scope="module")
def shared(start: Start) -> Service:
    """One service with low limits, for all tests that do not use up its connections."""
    return start(
        API_HEAD_SECONDS=2,
        API_BODY_SECONDS=2,
        API_IDLE_SECONDS=2,
        API_UNREAD_SECONDS=3,
        API_MAX_BODY_BYTES="1 MiB",
        API_MAX_CONNECTIONS=60,
        API_MAX_CONNECTIONS_PER_ADDRESS=20,
        # Without a word about origins a page elsewhere reads nothing of a service on loopback.
        API_CORS_ORIGINS="*",
    )


@pytest.fixture
def service(shared: Service) -> Iterator[Service]:
    yield shared
    shared.sockets.close()
