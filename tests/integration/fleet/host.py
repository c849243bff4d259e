"""A machine with a worker on it, which is a loopback address of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.integration.fleet.conftest import STAND_IN

from gooseherd import certs


class Host:
    """One machine; `gooseherd worker` is started on it as its unit of systemd would."""

    def __init__(self, root: Path, number: int, ca: Path) -> None:
        self.name = f"127.0.{os.getpid() % 250 + 1}.{number}"
        self.root = root / self.name
        self.root.mkdir(parents=True)
        # Bound but not listened on, it stays ours until the worker, seconds later, listens there.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((self.name, 0))
        self.port = int(self._reserved.getsockname()[1])
        self.address = f"{self.name}:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        certs.make_host(ca, self.name, self.root / "certs")

    def start(self, **more: str) -> None:
        files = {"CA": "ca.pem", "CERT": "worker.pem", "KEY": "worker.key"}
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gooseherd.cli", "worker", "--host", self.name),
                    *("--port", str(self.port), "--health-port", "0", "--work-dir", str(self.root / "work")),
                ],
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(STAND_IN),
                    "SYNC_DATA_DIR": str(self.root.parent / "cache"),
                    **{f"WORKER_TLS_{name}": str(self.root / "certs" / file) for name, file in files.items()},
                    **more,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self) -> str:
        log = self.root / "log"
        return log.read_text()[-2000:] if log.exists() else ""

    def close(self) -> None:
        self._reserved.close()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)
