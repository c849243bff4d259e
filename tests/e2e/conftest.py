"""A gooseherd as a user starts it, and the command to talk to it with."""

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

_OURS = ("GOOSEHERD_", "API_", "SOURCE_", "WORKFLOW_", "WORKER_", "DATABASE_", "SYNC_", "AWS_", "ECS_")


class User:
    """Runs `gooseherd` with an environment in which only the state folder is set."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / "state"
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
        self.environ |= {"GOOSEHERD_STATE_DIR": str(self.state), "NO_COLOR": "1"}
        # For an origin of the test's own, on loopback.
        self.environ |= {"SOURCE_ALLOW_HTTP": "true", "SOURCE_ALLOW_NETWORKS": "127.0.0.0/8"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "gooseherd.cli", *arguments]

    def run(
        self, *arguments: str, given: bytes | None = None, environ: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.home,
            env={**self.environ, **(environ or {})},
            input=given,
            capture_output=True,
            timeout=110,
            check=False,
        )

    def json(self, *arguments: str, **how: Any) -> Any:
        """What a command that must succeed prints; standard error must be silent."""
        done = self.run(*arguments, "--json", **how)
        assert (done.returncode, done.stderr.decode()) == (0, "")
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A user whose service runs, and may read the folder `files`."""
    user = User(tmp_path_factory.mktemp("user"))
    (user.home / "files").mkdir()
    with (user.home / "log").open("wb") as log:
        up = subprocess.Popen(
            user.command("up", "--json", "--port", "0", "--allow-root", "files"),
            cwd=user.home,
            env=user.environ,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert up.stdout is not None
    try:
        line = up.stdout.readline()
        assert line, (user.home / "log").read_text()
        yield user
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
    finally:
        if up.poll() is None:
            os.killpg(up.pid, signal.SIGKILL)
            up.wait()
        up.stdout.close()


@pytest.fixture(scope="module")
def bare_user(tmp_path_factory: pytest.TempPathFactory) -> User:
    """A user whose service the module starts itself."""
    return User(tmp_path_factory.mktemp("user"))


@pytest.fixture
def stranger(tmp_path: Path) -> User:
    """A user without a service."""
    return User(tmp_path)
