"""A server that speaks MongoDB's protocol, for the tests of store/mongo: SecantusDB on a loopback port.

Its package is GPL-2.0-only: it is run as a program, never imported, and comes with the extra `dev` only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

PROGRAM = Path(sys.executable).with_name("secantusd-py")
_START_SECONDS = 60.0
_POLL_SECONDS = 0.05


class DocumentServer:
    """Owns a folder and the server process on it, which may be killed and started again at the same URL.

    Start it from the thread that lives longest: the server is told to end when the thread that
    forked it does.
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
        """Where it answers; every write through this URL is on disk when acknowledged.

        Without retryable writes: the server reads its records of them, of up to 30 minutes, at each
        write. Without a second connection per client that measures round trips: closing a client while
        it connects leaves its socket to the collector, and here a warning is an error. A thousand
        entries at once take the server half a minute on a busy machine, where five seconds for each of
        eight new connections are too few as well.
        """
        return (
            f"mongodb://127.0.0.1:{self._port}/?w=majority&journal=true&retryWrites=false"
            "&serverMonitoringMode=poll"
            "&connectTimeoutMS=60000&serverSelectionTimeoutMS=60000&socketTimeoutMS=120000"
        )

    def start(self) -> str:
        """Start it and wait until it answers; gives the URL."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._port = self._port or _free_port()
        # An empty file of our own: without one the server reads whatever its user has in the home directory.
        (self._folder / "server.toml").write_text("")
        setpriv = shutil.which("setpriv")
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *([setpriv, "--pdeathsig", "TERM", "--"] if setpriv is not None else []),
                    *(str(PROGRAM), "--config", "server.toml", "--log-level", "WARNING"),
                    *("--host", "127.0.0.1", "--port", str(self._port)),
                    *("--storage-path", str(self._folder / "db"), "--cache-size", "256M", "--sync-on-commit"),
                ],
                cwd=self._folder,
                env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
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

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        url = f"mongodb://127.0.0.1:{self._port}/?serverSelectionTimeoutMS=1000"
        with MongoClient[dict[str, Any]](url) as client:
            while time.monotonic() < deadline and self.pid is not None:
                with contextlib.suppress(PyMongoError):
                    # Whoever took the port first would answer a ping too.
                    if client.admin.command("serverStatus")["pid"] == self.pid:
                        return
                time.sleep(_POLL_SECONDS)
        self.kill()
        words = (self._folder / "server.log").read_text(errors="replace").splitlines()[-8:]
        raise RuntimeError(f"the document server does not start: {' | '.join(words)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
