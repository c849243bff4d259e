"""An origin that serves byte ranges of what a test gives it, as well or as badly as the test says."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gooseherd.client import GooseherdClient, ReadyPart, Region
from gooseherd.domain.byterange import parse_range
from gooseherd.domain.errors import RangeNotSatisfiable


class Origin(ThreadingHTTPServer):
    """`objects` by path with its query, `names` of some of them. `before` runs before each answer to GET and
    may change them.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Respond)
        # Else megabytes count as sent before a reader that is held up has stopped reading.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        self.objects: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.sent = 0
        self.before: Callable[[str, str | None], None] = lambda path, wanted: None
        self.breaks_after: int | None = None
        self.ignores_ranges = False

    def handle_error(self, *args: object) -> None:
        """A client that has seen enough hangs up; that is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Respond(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Origin

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        self.server.before(self.path, wanted)
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        origin = self.server
        if self.path not in origin.objects:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = origin.objects[self.path]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        wanted = None if origin.ignores_ranges else self.headers.get("Range")
        if self.headers.get("If-Range", etag) != etag:
            wanted = None
        status, headers = 200, {"ETag": etag}
        if self.path in origin.names:
            headers["Content-Disposition"] = f'attachment; filename="{origin.names[self.path]}"'
        try:
            ranges = parse_range(wanted, len(content))
        except RangeNotSatisfiable:
            status, content, ranges = 416, b"", None
        if ranges:
            status, headers["Content-Range"] = 206, ranges[0].content_range(len(content))
            content = content[ranges[0].start : ranges[0].stop]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        if wanted and origin.breaks_after is not None and len(content) > origin.breaks_after:
            content, self.close_connection = content[: origin.breaks_after], True
        for at in range(0, len(content), 1 << 16):
            self.wfile.write(content[at : at + (1 << 16)])
            origin.sent += len(content[at : at + (1 << 16)])


@pytest.fixture(scope="module")
def _origin() -> Iterator[Origin]:
    with Origin() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def origin(_origin: Origin) -> Origin:
    _origin.objects.clear()
    _origin.names.clear()
    _origin.asked.clear()
    _origin.sent, _origin.breaks_after, _origin.ignores_ranges = 0, None, False
    _origin.before = lambda path, wanted: None
    return _origin


@pytest.fixture(scope="module")
def _client(_origin: Origin) -> Iterator[GooseherdClient]:
    with GooseherdClient(_origin.url) as client:
        yield client


class Reader:
    """Reads regions of one pair of data and index over HTTP."""

    def __init__(self, origin: Origin, client: GooseherdClient) -> None:
        self.origin, self.client = origin, client

    def serve(self, data: Path | bytes, index: Path | bytes) -> None:
        self.origin.objects["/data"] = data if isinstance(data, bytes) else data.read_bytes()
        self.origin.objects["/index"] = index if isinstance(index, bytes) else index.read_bytes()

    def records(self, region: Region) -> Iterator[str]:
        etag = f'"{hashlib.sha256(self.origin.objects["/data"]).hexdigest()}"'
        data = ReadyPart(f"{self.origin.url}/data", etag, len(self.origin.objects["/data"]), None)
        return self.client.read_region(data, ReadyPart(f"{self.origin.url}/index", None, None, None), region)

    def read(self, region: Region) -> list[str]:
        return list(self.records(region))


@pytest.fixture
def reader(origin: Origin, _client: GooseherdClient) -> Reader:
    return Reader(origin, _client)
