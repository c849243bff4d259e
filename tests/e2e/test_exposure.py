"""What of a running service is open to whom: as `doctor --exposure` says it, and as another user finds it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import User

from gooseherd.listeners import Listener, listeners_of, tree_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]
PROGRAM = Path(__file__).with_name("ask_this_machine.py")
BED = b"chr2\t5\t9\tc\nchr1\t30\t40\tb\n"


class Running:
    """A service whose worker has worked, and waits."""

    def __init__(self, user: User, up: subprocess.Popen[bytes], profile: str) -> None:
        self.user = user
        self.up = up
        self.profile = profile
        self.listeners: list[Listener] = listeners_of(tree_of({up.pid}))

    def ask(self, *options: str) -> dict[str, Any]:
        given = json.dumps([[one.address, one.port] for one in self.listeners])
        command = [sys.executable, str(PROGRAM), str(self.user.state), given, *options]
        done = subprocess.run(command, capture_output=True, check=False, timeout=200)
        assert done.returncode == 0, done.stderr.decode()
        return dict(json.loads(done.stdout))


@pytest.fixture(scope="module", params=["embedded", "devcloud"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    user = User(tmp_path_factory.mktemp(request.param))
    # As with a folder that its owner made by hand.
    user.state.mkdir(mode=0o755)
    (user.home / "a.bed").write_bytes(BED)
    devcloud = ["--devcloud"] if request.param == "devcloud" else []
    user.environ["WORKER_IDLE_TIMEOUT_SECONDS"] = "600"
    with (user.home / "log").open("wb") as log:
        up = subprocess.Popen(
            user.command("up", *devcloud, "--json", "--port", "0", "--allow-root", "."),
            cwd=user.home,
            env=user.environ,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert up.stdout is not None
    try:
        assert up.stdout.readline(), (user.home / "log").read_text()
        assert user.run("add", "a.bed").returncode == 0
        assert user.run("get", "local/a.bed", "-o", str(user.home / "out")).returncode == 0
        yield Running(user, up, request.param)
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
    finally:
        if up.poll() is None:
            os.killpg(up.pid, signal.SIGKILL)
            up.wait()
        up.stdout.close()


def test_doctor_finds_every_listener_and_nothing_open(running: Running) -> None:
    done = running.user.run("doctor", "--exposure", "--json")
    report = json.loads(done.stdout)
    opened = [one for one in report["exposures"] if one["state"] == "open"]
    assert opened == []
    assert (done.returncode, report["ok"]) == (0, True)
    names = [one["name"] for one in report["exposures"]]
    for listener in running.listeners:
        assert [name for name in names if str(listener) in name], listener
    kinds = {name.rpartition(" ")[0] for name in names}
    assert {"HTTP API", "worker"} <= kinds
    assert ({"local cloud", "worker health"} <= kinds) == (running.profile == "devcloud")
    assert "mutual TLS" in next(
        one["credential"] for one in report["exposures"] if one["name"][:8] == "worker 1"
    )
    assert running.user.state.stat().st_mode & 0o007 == 0, "the service closed its folder"


def test_doctor_fails_when_others_may_read_the_state_folder(running: Running) -> None:
    running.user.state.chmod(0o755)
    try:
        done = running.user.run("doctor", "--exposure", "--json")
        report = json.loads(done.stdout)
        assert (done.returncode, report["ok"]) == (1, False)
        (found,) = [one for one in report["exposures"] if one["name"] == "state folder"]
        assert (found["state"], "chmod o-rwx" in found["remedy"]) == ("open", True)
    finally:
        running.user.state.chmod(0o700)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_runs_reads_and_writes_nothing(running: Running) -> None:
    # The way of asking works: its owner gets in everywhere.
    owner = running.ask()
    assert {"admin-key", "gooseherd.db"} <= set(owner["files"])
    tcp = [one for one in owner["listeners"] if "cloud" in one]
    assert [one for one in tcp if one["worker"] == "spoken"], "a worker answers the service's certificate"
    assert [one for one in tcp if one["admin"] == [404, 200]], "the API answers the admin key"
    clouds = [one for one in tcp if one["cloud"] == [200, 400, 200, 200, 200, 200]]
    assert len(clouds) == (running.profile == "devcloud"), "the local cloud answers its key"

    nobody = running.ask("--as-nobody")
    assert nobody["files"] == []
    for one in nobody["listeners"]:
        if "unix" in one:
            assert one["unix"] == "PermissionError"
            continue
        assert one["worker"] != "spoken"
        assert not set(one["admin"]) & {200, 204}
        if one["listener"] in {cloud["listener"] for cloud in clouds}:
            assert set(one["cloud"]) == {403}
