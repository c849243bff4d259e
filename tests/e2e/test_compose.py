"""The services of deploy/compose.yaml, their commands run by hand: there is no container engine here.

Names of services become loopback addresses, volumes become folders; the database is a PostgreSQL.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.fleet.conftest import processes_of

from gooseherd.devcloud.postgres import PostgresServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
KEY = "of-the-test-and-long-enough"
ENTRYPOINTS = {"gooseherd-api": ("-m", "gooseherd.cli"), "gooseherd-worker": ("-m", "gooseherd.worker.main")}


def free_port(host: str) -> int:
    with socket.socket() as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])


class Composition:
    """What `docker compose up` would start, as processes of this machine."""

    def __init__(self, root: Path, database_url: str) -> None:
        self.root = root
        self.services: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
        self._given = {"API_ADMIN_KEY": KEY, "POSTGRES_PASSWORD": "unused", "DATABASE_URL": database_url}
        net = f"127.0.{os.getpid() % 250 + 1}"
        self._hosts = {"worker1": f"{net}.12", "worker2": f"{net}.13", "api": "127.0.0.1"}
        self.ports = {name: free_port(host) for name, host in self._hosts.items()}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        (root / "files").mkdir()
        (root / "bin").mkdir()
        # What the images have on PATH.
        (root / "bin/gooseherd").write_text(f'#!/bin/sh\nexec {sys.executable} -m gooseherd.cli "$@"\n')
        (root / "bin/gooseherd").chmod(0o755)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['api']}"

    def environment(self, name: str) -> dict[str, str]:
        found = {
            key: self._filled_in(str(value))
            for key, value in self.services[name].get("environment", {}).items()
            if value is not None
        }
        return {key: self._here(name, value) for key, value in found.items()}

    def _filled_in(self, text: str) -> str:
        def of(match: re.Match[str]) -> str:
            return self._given.get(match[1], match[2] or "")

        # The innermost first: a default may hold another one.
        while (replaced := re.sub(r"\$\{(\w+)(?::[-?]([^{}]*))?\}", of, text)) != text:
            text = replaced
        return text

    def _here(self, name: str, value: str) -> str:
        """With folders of volumes and addresses of services as they are on this machine."""
        for volume in self.services[name].get("volumes", ()):
            source, inside, *_ = volume.split(":")
            folder = self.root / "volumes" / source
            folder.mkdir(parents=True, exist_ok=True)
            value = re.sub(rf"(?<![\w/-]){inside}(?![\w-])", str(folder), value)
        return value

    def set_up(self) -> None:
        setup = self.services["setup"]
        (script,) = setup["command"]
        # Only root may give files away, and here is one user.
        script = self._here("setup", re.sub(r"^chown .*$", "", script, flags=re.MULTILINE))
        subprocess.run([*setup["entrypoint"], script], env=self._base("setup"), check=True, timeout=60)

    def _base(self, name: str) -> dict[str, str]:
        home = self.root / "homes" / name
        home.mkdir(parents=True, exist_ok=True)
        return {"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", "HOME": str(home), "TMPDIR": str(home)}

    def start(self, name: str, **more: str) -> None:
        service = self.services[name]
        image = "gooseherd-api" if "gooseherd-api" in service["image"] else "gooseherd-worker"
        environ = {**self._base(name), **self.environment(name)}
        files = str(self.root / "files")
        if name == "api":
            environ |= {"API_HOST": self._hosts["api"], "API_PORT": str(self.ports["api"])}
            environ |= {"GOOSEHERD_STATE_DIR": str(self.root / "volumes/state")}
            for worker in ("worker1", "worker2"):
                address = f"{self._hosts[worker]}:{self.ports[worker]}"
                environ["WORKER_HOSTS"] = environ["WORKER_HOSTS"].replace(f"{worker}:50051", address)
        else:
            environ |= {"WORKER_HOST": self._hosts[name], "WORKER_PORT": str(self.ports[name])}
            environ |= {
                "WORKER_HEALTH_PORT": str(free_port(self._hosts[name])),
                "WORKER_WORK_DIR": str(self.root / "homes" / name / "work"),
            }
        command = service.get("command") or (["up"] if image == "gooseherd-api" else [])
        with (self.root / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, *ENTRYPOINTS[image], *command],
                env={**environ, "SOURCE_FILE_ROOTS": files, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def answer(self, path: str, **headers: str) -> Any:
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read()

    def health_of_workers(self) -> list[str]:
        fleet = json.loads(self.answer("/fleet", Authorization=f"Bearer {KEY}"))
        return sorted(one["health"] for one in fleet["workers"])

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.answer("/readyz")
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert self.running["api"].poll() is None, (self.root / "api.log").read_text()[-2000:]
                assert time.monotonic() < deadline, (self.root / "api.log").read_text()[-2000:]
                time.sleep(0.2)
            else:
                return

    def smoke(self, *formats: str) -> Mapping[str, Any]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "gooseherd.cli", "smoke", "--json", "--url", self.url, "--key", KEY),
                *("--inputs", str(self.root / "files")),
                *(word for name in formats for word in ("--format", name)),
            ],
            env=self._base("smoke"),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
        return dict(json.loads(done.stdout))

    def end(self) -> None:
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def composition(tmp_path: Path, postgres: PostgresServer) -> Iterator[Composition]:
    name = f"compose_{uuid.uuid4().hex}"
    postgres.sql(f"CREATE DATABASE {name}")
    composition = Composition(tmp_path, postgres.url(name))
    try:
        yield composition
    finally:
        composition.end()
        postgres.sql(f"DROP DATABASE {name} WITH (FORCE)")
    for _ in range(100):
        if not processes_of(tmp_path):
            break
        time.sleep(0.1)
    assert not processes_of(tmp_path)


def test_every_format_and_a_killed_worker_through_the_services(composition: Composition) -> None:
    composition.set_up()
    composition.set_up()  # Again it changes nothing.
    for name in ("worker1", "worker2", "api"):
        composition.start(name)
    composition.wait_until_ready()
    assert b"<html" in composition.answer("/", Accept="text/html").lower()
    assert composition.smoke("bam", "vcf", "bed")
    worker = composition.running["worker1"]
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait(30)
    # One host is enough; what comes while the other is away waits for it.
    assert composition.smoke("bed", "gff3")
    composition.start("worker1")
    assert composition.smoke("sam", "bed")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while composition.health_of_workers().count("healthy") < 2:
        assert time.monotonic() < deadline, composition.health_of_workers()
        time.sleep(0.5)
