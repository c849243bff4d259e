"""A gooseherd for pages to ask, and the origin of its sources."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx

T = TypeVar("T")

ASSEMBLY = [("chr1", 200_000), ("chr2", 100_000)]
VIEW = ("chr1", 90_000, 110_000)
_OURS = ("GOOSEHERD_", "API_", "SOURCE_", "WORKFLOW_", "WORKER_", "DATABASE_", "SYNC_", "AWS_", "ECS_")


class Origin:
    """Where sources come from. Those that are held back come to their last byte when they are let go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.let_go = threading.Event()
        self.let_go.set()
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._head(folder / self.path[1:])

            def do_GET(self) -> None:
                data = self._head(folder / self.path[1:])
                self.wfile.write(data[:1])
                self.wfile.flush()
                origin.let_go.wait(300)
                self.wfile.write(data[1:])

            def _head(self, path: Path) -> bytes:
                data = path.read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
                self.end_headers()
                return data

            def log_message(self, *_: Any) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:  # the attempt that read was killed
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()


_START = (
    "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.environ['LISTEN_FDS'] = '1';"
    "os.dup2(int(sys.argv[1]), 3, inheritable=True); os.execv(sys.argv[2], sys.argv[2:])"
)


class Herd:
    """A gooseherd whose socket stays open when it is stopped and started."""

    def __init__(self, home: Path, origin: Origin, host: str = "127.0.0.1", **environ: str) -> None:
        self.home, self.origin = home, origin
        self._listener = socket.create_server((host, 0), backlog=256)
        self._address: tuple[str, int] = self._listener.getsockname()[:2]
        self.url = f"http://{host}:{self._address[1]}"
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)} | {
            "GOOSEHERD_STATE_DIR": str(home / "state"),
            "SOURCE_ALLOW_HTTP": "true",
            "SOURCE_ALLOW_NETWORKS": "127.0.0.0/8",
            "API_ADMIN_KEY": "key",
            **environ,
        }
        self._up: subprocess.Popen[bytes] | None = None
        self._registered = 0

    def start(self, *arguments: str) -> None:
        fd = self._listener.fileno()
        with (self.home / "log").open("ab") as log:
            self._up = subprocess.Popen(
                [
                    *(sys.executable, "-c", _START, str(fd)),
                    *(sys.executable, "-m", "gooseherd.cli", "up", *arguments),
                ],
                env=self.environ,
                cwd=self.home,
                stdout=log,
                stderr=log,
                pass_fds=(fd,),
                start_new_session=True,
            )
        with httpx.Client(trust_env=False, timeout=60) as http:
            assert http.get(f"{self.url}/healthz").status_code == 200, self.log()

    def stop(self, how: int = signal.SIGTERM) -> None:
        assert self._up is not None
        self._up.send_signal(how)
        self._up.wait(60)
        self._up = None

    def away(self) -> None:
        """Stopped, and nobody listens."""
        self.stop()
        self._listener.close()

    def back(self) -> None:
        """Again at the same address."""
        host, port = self._address
        self._listener = socket.create_server((host, port), backlog=256)
        self.start()

    def close(self) -> None:
        if self._up is not None:
            self.stop()
        self._listener.close()

    def log(self) -> str:
        return (self.home / "log").read_text()

    def jobs(self, status: str) -> list[str]:
        """Ids of the jobs in that state."""
        return [job["job_id"] for job in self.get(f"/jobs?status={status}").json()["jobs"]]

    def worker_pids(self) -> list[int]:
        """The local workers that the service knows, without their children."""
        records = [json.loads(path.read_text()) for path in (self.home / "state/fleet").glob("*.json")]
        return [record["process"]["pid"] for record in records if record.get("process")]

    @staticmethod
    def until(look: Callable[[], T | None], what: str, seconds: float = 60) -> T:
        """The first true thing that `look` gives."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(0.1)
        raise AssertionError(f"not within {seconds:g} s: {what}")

    def get(self, path: str, **headers: str) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=60) as http:
            return http.get(self.url + path, headers={"X-API-Key": "key", **headers})

    def register(self, filename: str, file_format: str | None = None, **fields: str) -> str:
        """Catalog an origin's file under a new id, so that it is cold; the id."""
        self._registered += 1
        local_id = f"f{self._registered}"
        entry = {
            "dcc": "lab",
            "local_id": local_id,
            "filename": filename,
            "access_url": f"{self.origin.url}/{filename}",
            # Another identity each time: nothing that was made before is this file's.
            "version_tag": f"v{time.time_ns()}",
            **fields,
        }
        if file_format:
            entry["file_format"] = file_format
        with httpx.Client(trust_env=False, timeout=60) as http:
            done = http.post(f"{self.url}/files", json=entry, headers={"X-API-Key": "key"})
        assert done.status_code == 200, done.text
        return local_id

    def names(self, local_id: str) -> dict[str, str]:
        """Address by kind."""
        listed = self.get(f"/files/lab/{local_id}/").json()["names"]
        return {one["kind"]: one["url"] for one in listed}

    def track(self, kind: str, filename: str, *, beside: bool = False) -> dict[str, str]:
        """A cold file as a page names it; `beside`: the index is the viewer's to find."""
        names = self.names(self.register(filename))
        track = {"type": kind, "url": names["data"]}
        if "index" in names and not beside:
            track["index"] = names["index"]
        return track


@contextmanager
def running(home: Path, origin: Origin, **environ: str) -> Iterator[Herd]:
    herd = Herd(home, origin, **environ)
    herd.start()
    try:
        yield herd
    finally:
        herd.close()


def page_of(pages: str, viewer: str, tracks: Sequence[Mapping[str, str]], view: Sequence[Any] = VIEW) -> str:
    query = {"files": json.dumps(tracks), "view": json.dumps(view), "assembly": json.dumps(ASSEMBLY)}
    return f"{pages}/{viewer}.html?{urlencode(query)}"
