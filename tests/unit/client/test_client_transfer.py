"""Downloads against a real server that breaks off, changes its mind, or lies."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gooseherd.client import (
    AsyncGooseherdClient,
    Damaged,
    DownloadInProgress,
    GooseherdClient,
    Missing,
    NotReachable,
)

CONTENT = random.Random(7).randbytes(900_000)


class Origin(ThreadingHTTPServer):
    """Serves one object; the test sets how badly."""

    daemon_threads = True
    content = CONTENT
    etag: str | None = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    breaks_after: int | None = None
    """Bytes of a body after which the connection is cut, as long as `breaks` lasts."""
    breaks = 0
    honours_range = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Respond)
        self.asked: list[str | None] = []

    def handle_error(self, *args: object) -> None:
        """A client that has seen enough hangs up; that is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Respond(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Origin

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._head(200, len(self.server.content))

    def do_GET(self) -> None:
        origin = self.server
        if self.path == "/gone":
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        wanted = self.headers.get("Range")
        origin.asked.append(wanted)
        start = 0
        if wanted and origin.honours_range and self.headers.get("If-Range", origin.etag) == origin.etag:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        body = origin.content[start:]
        self._head(206 if start else 200, len(body), start)
        if origin.breaks > 0 and origin.breaks_after is not None:
            origin.breaks -= 1
            self.wfile.write(body[: origin.breaks_after])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(body)

    def _head(self, status: int, length: int, start: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        if status == 206:
            total = len(self.server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(origin: Origin) -> Iterator[GooseherdClient]:
    with GooseherdClient(origin.url) as client:
        yield client


def part_of(target: Path, origin: Origin) -> Path:
    assert origin.etag
    return target.with_name(f"{target.name}.{origin.etag[1:13]}.part")


def test_a_download_is_whole_and_verified(client: GooseherdClient, origin: Origin, tmp_path: Path) -> None:
    target = tmp_path / "x.bam"
    seen: list[int] = []
    got = client.download(f"{origin.url}/x", target, on_bytes=lambda there, size: seen.append(there))
    assert target.read_bytes() == CONTENT
    assert (got.size, got.verified, got.resumed_from) == (len(CONTENT), True, 0)
    assert seen[-1] == len(CONTENT)
    assert seen == sorted(seen)
    assert list(tmp_path.iterdir()) == [target]


def test_a_broken_connection_is_taken_up_where_it_broke(
    client: GooseherdClient, origin: Origin, tmp_path: Path
) -> None:
    origin.breaks, origin.breaks_after = 2, 300_000
    client.download(f"{origin.url}/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert origin.asked == [None, "bytes=300000-", "bytes=600000-"]


def test_an_earlier_partial_file_is_gone_on_with(
    client: GooseherdClient, origin: Origin, tmp_path: Path
) -> None:
    part_of(tmp_path / "x", origin).write_bytes(CONTENT[:500_000])
    got = client.download(f"{origin.url}/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert (got.resumed_from, origin.asked) == (500_000, ["bytes=500000-"])


def test_a_partial_file_that_is_complete_needs_no_bytes(
    client: GooseherdClient, origin: Origin, tmp_path: Path
) -> None:
    part_of(tmp_path / "x", origin).write_bytes(CONTENT)
    client.download(f"{origin.url}/x", tmp_path / "x")
    assert ((tmp_path / "x").read_bytes(), origin.asked) == (CONTENT, [])


def test_a_partial_file_of_another_version_is_left_alone(
    client: GooseherdClient, origin: Origin, tmp_path: Path
) -> None:
    other = tmp_path / "x.0123456789ab.part"
    other.write_bytes(b"older")
    client.download(f"{origin.url}/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert other.read_bytes() == b"older"


def test_a_server_without_ranges_is_read_from_the_top_again(
    client: GooseherdClient, origin: Origin, tmp_path: Path
) -> None:
    origin.honours_range = False
    origin.breaks, origin.breaks_after = 1, 300_000
    client.download(f"{origin.url}/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_bytes_other_than_promised_are_not_kept(
    client: GooseherdClient, origin: Origin, tmp_path: Path
) -> None:
    part_of(tmp_path / "x", origin).write_bytes(b"\0" * 500_000)
    with pytest.raises(Damaged):
        client.download(f"{origin.url}/x", tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_there_survives_a_failed_download(
    client: GooseherdClient, origin: Origin, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(b"mine")
    part_of(tmp_path / "x", origin).write_bytes(b"\0" * 10)
    with pytest.raises(Damaged):
        client.download(f"{origin.url}/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"mine"


def test_a_connection_that_keeps_breaking_is_given_up_and_the_part_kept(
    client: GooseherdClient, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gooseherd.client.transfer.time.sleep", lambda seconds: None)
    part_of(tmp_path / "x", origin).write_bytes(CONTENT[:400_000])
    origin.breaks, origin.breaks_after = 1000, 0
    with pytest.raises(NotReachable):
        client.download(f"{origin.url}/x", tmp_path / "x")
    assert part_of(tmp_path / "x", origin).read_bytes() == CONTENT[:400_000]


def test_two_writers_of_one_partial_file_are_told_apart(
    client: GooseherdClient, origin: Origin, tmp_path: Path
) -> None:
    import fcntl

    with part_of(tmp_path / "x", origin).open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DownloadInProgress):
            client.download(f"{origin.url}/x", tmp_path / "x")


def test_upstream_without_a_digest_is_taken_unverified(
    client: GooseherdClient, origin: Origin, tmp_path: Path
) -> None:
    origin.etag = '"abc-7"'
    (tmp_path / "x.part").write_bytes(b"of something else")
    got = client.download(f"{origin.url}/x", tmp_path / "x")
    assert ((tmp_path / "x").read_bytes(), got.verified) == (CONTENT, False)


def test_a_stream_goes_on_after_a_break(client: GooseherdClient, origin: Origin) -> None:
    origin.breaks, origin.breaks_after = 1, 100_000
    sink = io.BytesIO()
    assert client.copy_to(f"{origin.url}/x", sink).verified
    assert sink.getvalue() == CONTENT


def test_an_error_answer_is_told_and_leaves_nothing(
    client: GooseherdClient, origin: Origin, tmp_path: Path
) -> None:
    with pytest.raises(Missing):
        client.copy_to(f"{origin.url}/gone", io.BytesIO())
    assert not list(tmp_path.iterdir())


ENDLESS = 1 << 30


class Bucket(ThreadingHTTPServer):
    """Sends one large object slowly."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SendSlowly)
        self.sends, self.hung_up = threading.Event(), threading.Event()


class SendSlowly(BaseHTTPRequestHandler):
    server: Bucket

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(ENDLESS))
        self.end_headers()
        try:
            for _ in range(ENDLESS >> 14):
                self.wfile.write(b"x" * (1 << 14))
                self.server.sends.set()
                time.sleep(0.01)
        except OSError:
            self.server.hung_up.set()


@pytest.mark.parametrize("to_file", [True, False], ids=["to a file", "to a sink"])
async def test_a_cancelled_download_from_another_host_ends(
    service: Any, reply: Any, tmp_path: Path, to_file: bool
) -> None:
    with Bucket() as bucket:
        thread = threading.Thread(target=bucket.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            elsewhere = f"http://127.0.0.1:{bucket.server_address[1]}/x"
            service.on("HEAD /x", reply(200, b"", {"Content-Length": str(ENDLESS)}))
            service.on("GET /x", reply(307, b"", {"Location": elsewhere}))
            async with AsyncGooseherdClient(service.url) as client:
                url = f"{service.url}/x"
                call = client.download(url, tmp_path / "x") if to_file else client.copy_to(url, io.BytesIO())
                download = asyncio.ensure_future(call)
                assert await asyncio.to_thread(bucket.sends.wait, 30)
                download.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await download
                assert await asyncio.to_thread(bucket.hung_up.wait, 20)
        finally:
            bucket.shutdown()
            thread.join()
