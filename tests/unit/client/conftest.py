"""A service of few words: a real HTTP server that answers what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from gooseherd.client import GooseherdClient


@dataclass
class Reply:
    """One answer. `body` that is no bytes is sent as JSON; `cut`: the connection breaks after it."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Script = Callable[[Asked], Reply]


class Service(ThreadingHTTPServer):
    """`answers[METHOD path]` is a list: each request takes the next, the last one stays.

    With a query the path is looked for as it is first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Respond)
        self.answers: dict[str, list[Reply]] = {}
        self.asked: list[Asked] = []
        self._lock = threading.Lock()

    def handle_error(self, *args: object) -> None:
        """A client that has seen enough hangs up; that is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def on(self, what: str, *answers: Reply) -> None:
        self.answers[what] = list(answers)

    def answer(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            wanted = (f"{asked.method} {asked.path}", f"{asked.method} {asked.path.split('?')[0]}")
            left = next((self.answers[what] for what in wanted if what in self.answers), None)
            if not left:
                problem = {"type": "/problems/not-found", "title": "Not found", "detail": f"no {asked.path}"}
                return Reply(404, problem, {"Content-Type": "application/problem+json"})
            return left.pop(0) if len(left) > 1 else left[0]


class _Respond(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def log_message(self, *args: object) -> None:
        pass

    def _do(self) -> None:
        asked = Asked(self.command, self.path, dict(self.headers.items()), self._body())
        reply = self.server.answer(asked)
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        length = len(body) + 100 if reply.cut else len(body)
        for name, value in {"Content-Length": str(length), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = self.close_connection or reply.cut

    do_GET = do_HEAD = do_POST = do_DELETE = do_PATCH = _do  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def bucket() -> Iterator[Service]:
    """Another host, by its port."""
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Of a client that blocks: its clock goes on when it waits, and what it waits is noted."""
    noted: list[float] = []

    def wait(seconds: float) -> None:
        noted.append(seconds)
        assert sum(noted) < 3600, "it never ends"

    clock = SimpleNamespace(monotonic=lambda: sum(noted), sleep=wait)
    monkeypatch.setattr("gooseherd.client.calls.time", clock)
    monkeypatch.setattr("gooseherd.client.transports.time", clock)
    return noted


@pytest.fixture
def client(service: Service) -> Iterator[GooseherdClient]:
    with GooseherdClient(service.url, "the-key") as client:
        yield client


@pytest.fixture
def reply() -> type[Reply]:
    return Reply
