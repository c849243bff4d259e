"""A server of MongoDB's protocol on a loopback port and a folder of its own."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

_START_SECONDS = 60.0
_POLL_SECONDS = 0.02


class ServerProcess:
    """Owns a folder and the server process on it, which may be killed and started again at the same URL.

    Start it from the thread that lives longest: the server is told to end when the thread that
    forked it does. Whoever may use this machine may connect to it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while there is one."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def url(self) -> str:
        """Where it answers; every write through this URL is on disk when acknowledged."""
        raise NotImplementedError

    def start(self) -> str:
        """Start it and wait until it answers; gives the URL."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._port = self._port or _free_port()
        setpriv = shutil.which("setpriv")
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *([setpriv, "--pdeathsig", "TERM", "--"] if setpriv is not None else []),
                    *self._command(self._port),
                ],
                cwd=self._folder,
                env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # Each index of each test's database is a file.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, (most, most))
        self._wait_until_up()
        return self.url

    def kill(self) -> None:
        """As a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it in order, by force after ten seconds; idempotent."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(10)
        self.kill()

    def _command(self, port: int) -> Sequence[str]:
        """The program and its arguments; it works in the folder."""
        raise NotImplementedError

    def _takes_writes(self, client: MongoClient[dict[str, Any]]) -> bool:
        """Asked again and again of a server that answers; may do what that takes."""
        return True

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        url = f"mongodb://127.0.0.1:{self._port}/?directConnection=true&serverSelectionTimeoutMS=1000"
        with MongoClient[dict[str, Any]](url) as client:
            while time.monotonic() < deadline and self.pid is not None:
                with contextlib.suppress(PyMongoError):
                    # Whoever took the port first would answer a ping too.
                    up = client.admin.command("serverStatus")["pid"] == self.pid
                    if up and self._takes_writes(client):
                        return
                time.sleep(_POLL_SECONDS)
        self.kill()
        words = (self._folder / "server.log").read_text(errors="replace").splitlines()[-8:]
        raise RuntimeError(f"the server does not start: {' | '.join(words)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
