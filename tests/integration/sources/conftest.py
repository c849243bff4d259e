"""A real server on loopback that misbehaves on demand, and sources that may talk to it."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gooseherd.domain.source import SourceFile
from gooseherd.sources.http import HttpSources
from gooseherd.sources.retry_policy import RetryPolicy
from gooseherd.sources.urlguard import UrlGuard

QUICK = RetryPolicy(
    connect_seconds=5,
    read_seconds=0.3,
    floor_seconds=0.3,
    tries=4,
    open_tries=2,
    backoff_seconds=0.001,
    max_wait_seconds=0.05,
)


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    method: str = "GET"

    @property
    def start(self) -> int | None:
        found = re.match(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(found[1]) if found else None


@dataclass
class Reply:
    """What goes over the wire: `body` cut off after `drop_after` bytes, or silent after `stall_after`."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = -1
    """-1: the body's; None: no Content-Length, the end of the connection ends the body."""
    drop_after: int | None = None
    stall_after: int | None = None
    drip_seconds: float | None = None
    drip_bytes: int = 1
    times: float = 1
    """How often the body is sent; infinity never ends."""


Route = Callable[[Request], Reply]


class File:
    """A route that behaves: ranges, If-Range, an ETag. `faults` are played first, one per request."""

    def __init__(self, data: bytes, *, etag: str | None = '"v1"', faults: tuple[Any, ...] = ()) -> None:
        self.data = data
        self.etag = etag
        self.faults = list(faults)

    def __call__(self, request: Request) -> Reply:
        fault = self.faults.pop(0) if self.faults else None
        reply = fault(request) if callable(fault) else fault
        if isinstance(reply, Reply):
            return reply
        return self.whole_or_part(request, **(reply or {}))

    def whole_or_part(self, request: Request, **faults: Any) -> Reply:
        headers = {"ETag": self.etag} if self.etag else {}
        start = request.start
        if start is None or request.headers.get("if-range", self.etag) != self.etag:
            return Reply(200, headers, self.data, **faults)
        if start >= len(self.data):
            return Reply(416, {**headers, "Content-Range": f"bytes */{len(self.data)}"})
        headers["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        return Reply(206, headers, self.data[start:], **faults)


class Server:
    """Routes by path; every request is kept in `requests`."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        self.routes: dict[str, Route] = {}
        self.requests: list[Request] = []
        self.port = 0
        self.connections = 0
        self._leaving = asyncio.Event()

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return f"{self.scheme}://{self.authority}{path}"

    def serve(self, path: str, data: bytes, **how: Any) -> str:
        self.routes[path] = File(data, **how)
        return self.url(path)

    @property
    def starts(self) -> list[int | None]:
        return [request.start for request in self.requests]

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        method, path, _ = first.split(" ")
        request = Request(path, headers, method)
        self.requests.append(request)
        route = self.routes.get(request.path.partition("?")[0])
        reply = route(request) if route else Reply(404)
        length = len(reply.body) if reply.length == -1 else reply.length
        result = dict(reply.headers)
        if length is not None and reply.status not in {204, 304}:
            result["Content-Length"] = str(length)
        head = "".join(f"{name}: {value}\r\n" for name, value in result.items())
        writer.write(f"HTTP/1.1 {reply.status} Said\r\n{head}\r\n".encode())
        if method == "HEAD" and reply.stall_after is None:
            await writer.drain()
            return True
        cut = reply.drop_after if reply.drop_after is not None else reply.stall_after
        body = reply.body[:cut]
        if reply.drip_seconds is not None:
            for start in range(0, len(body), reply.drip_bytes):
                if self._leaving.is_set():
                    return False
                writer.write(body[start : start + reply.drip_bytes])
                await writer.drain()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._leaving.wait(), reply.drip_seconds)
        writer.write(body)
        await writer.drain()
        sent = 1
        while sent < reply.times and not self._leaving.is_set():
            sent += 1
            writer.write(body)
            await writer.drain()
        if reply.stall_after is not None:
            await self._leaving.wait()
        return cut is None and length is not None

    async def leave(self) -> None:
        self._leaving.set()


@pytest.fixture(scope="session")
def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's TLS context that trust each other."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    names = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    client = ssl.create_default_context(cadata=pem.decode())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write(secret + pem)
        file.flush()
        server.load_cert_chain(file.name)
    return server, client


@pytest.fixture
async def start_server(
    certificates: tuple[ssl.SSLContext, ssl.SSLContext],
) -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:

        async def start(*, tls: bool = False) -> Server:
            server = Server("https" if tls else "http")
            listening = await asyncio.start_server(
                server, "127.0.0.1", 0, ssl=certificates[0] if tls else None, limit=1 << 20
            )
            server.port = listening.sockets[0].getsockname()[1]
            stack.callback(listening.close)
            stack.push_async_callback(server.leave)
            return server

        yield start


@pytest.fixture
async def server(start_server: Callable[..., Any]) -> Any:
    return await start_server()


@pytest.fixture
async def make_sources(
    certificates: tuple[ssl.SSLContext, ssl.SSLContext],
) -> AsyncIterator[Callable[..., HttpSources]]:
    made: list[HttpSources] = []

    def make(
        schemes: tuple[str, ...] = ("http",), networks: tuple[str, ...] = ("127.0.0.1/32",), **how: Any
    ) -> HttpSources:
        guard = UrlGuard(
            schemes=frozenset(schemes),
            allow_hosts=how.pop("allow_hosts", ()),
            allow_networks=tuple(map(ip_network, networks)),
            file_roots=how.pop("file_roots", ()),
        )
        made.append(HttpSources(guard, **{"patience": QUICK, "tls": certificates[1], **how}))
        return made[-1]

    yield make
    for sources in made:
        await sources.close()
        await sources.close()


@pytest.fixture
def sources(make_sources: Callable[..., HttpSources]) -> HttpSources:
    return make_sources()


@pytest.fixture
def entry() -> Callable[..., SourceFile]:
    """A catalog entry for a URL."""

    def make(url: str, filename: str = "reads.bam", **expected: Any) -> SourceFile:
        return SourceFile.from_json(
            {"dcc": "test", "local_id": "one", "filename": filename, "access_url": url, **expected}
        )

    return make


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "source"


@pytest.fixture
def quiet() -> Callable[[int, int | None], None]:
    return lambda size, total: None


@pytest.fixture
def kit() -> Any:
    """The names above, for test modules, which cannot import a conftest."""

    class Kit:
        File = File
        Reply = Reply
        QUICK = QUICK

    return Kit


BYTES = b"x" * 5000
"""Of each object of a bucket."""


class Cloud(BaseHTTPRequestHandler):
    """STS and S3: roles are assumed, and objects need a signature."""

    asked: list[tuple[str, str, dict[str, str]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.asked.append(("POST", body, dict(self.headers)))
        text = (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>'
            "<Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            "<SessionToken>token-of-role</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )
        self._answer(200, text.encode())

    def do_GET(self) -> None:
        self.asked.append((self.command, self.path, dict(self.headers)))
        good = "X-Amz-Signature" in self.path
        self._answer(200 if good else 403, BYTES if good else b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@contextmanager
def running_cloud() -> Iterator[tuple[str, list[Any]]]:
    """Its address, and what it was asked: method, path or body, headers."""
    asked: list[Any] = []
    handler = type("Handler", (Cloud,), {"asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[Any]]]:
    """One in which the API has credentials of its own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own-secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    with running_cloud() as running:
        yield running


@pytest.fixture
def other_cloud() -> Iterator[tuple[str, list[Any]]]:
    """Another S3, at another address."""
    with running_cloud() as running:
        yield running
