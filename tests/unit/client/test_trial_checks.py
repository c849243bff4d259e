"""The checks of demo and smoke fire when a promise is broken, and only then."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gooseherd.client import GooseherdClient, ReadyPart
from gooseherd.domain import formats
from gooseherd.domain.byterange import parse_range
from gooseherd.domain.errors import RangeNotSatisfiable
from gooseherd.trial.checks import CheckFailed, attempt, check_ranges
from gooseherd.trial.full_scan import comparable

CONTENT = bytes(range(256)) * 400


class Origin(ThreadingHTTPServer):
    """Serves byte ranges by the book, but for one `fault`."""

    daemon_threads = True
    fault = ""

    def handle_error(self, *args: object) -> None:
        """A client that has seen enough hangs up; that is no news."""

    @property
    def part(self) -> ReadyPart:
        return ReadyPart(f"http://127.0.0.1:{self.server_address[1]}/x", None, None, None)


class Respond(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Origin

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        fault, size = self.server.fault, len(CONTENT)
        etag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Access-Control-Allow-Origin": "*"}
        wanted = self.headers.get("Range") if body and fault != "ignores ranges" else None
        if self.headers.get("If-Range", etag) != etag and fault != "ignores if-range":
            wanted = None
        if self.headers.get("If-None-Match") == etag and fault != "ignores if-none-match":
            return self._send(304, b"", headers, body=False)
        if fault == "weak etag":
            headers["ETag"] = "W/" + etag
        if fault == "no cors":
            del headers["Access-Control-Allow-Origin"]
        if fault == "other etag on ranges" and wanted:
            headers["ETag"] = '"other"'
        content = CONTENT[:-1] + b"!" if fault == "other bytes" else CONTENT
        try:
            ranges = parse_range(wanted, size)
        except RangeNotSatisfiable:
            total = "" if fault == "416 without size" else f"bytes */{size}"
            return self._send(416, b"", {"Content-Range": total}, body=body)
        if not ranges:
            return self._send(200, content, headers, body=body)
        span = ranges[0]
        stop = span.stop - 1 if fault == "one byte short" and len(span) > 1 else span.stop
        headers["Content-Range"] = span.content_range(size)
        return self._send(206, content[span.start : stop], headers, body=body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin(("127.0.0.1", 0), Respond) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_server_by_the_book_passes(origin: Origin) -> None:
    with GooseherdClient("http://127.0.0.1") as client:
        assert check_ranges(client, origin.part) == len(CONTENT)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("ignores ranges", "not 206"),
        ("ignores if-range", "If-Range with another ETag"),
        ("ignores if-none-match", "not 304"),
        ("weak etag", "no quoted sha256"),
        ("no cors", "CORS"),
        ("other etag on ranges", "another ETag"),
        ("other bytes", "not those of the ETag"),
        ("416 without size", "416 does not have the size"),
        ("one byte short", "other bytes"),
    ],
)
def test_a_broken_promise_is_named(origin: Origin, fault: str, words: str) -> None:
    origin.fault = fault
    with GooseherdClient("http://127.0.0.1") as client, pytest.raises(CheckFailed, match=words):
        check_ranges(client, origin.part)


def test_an_attempt_turns_trouble_into_words() -> None:
    def fails() -> str:
        raise CheckFailed("this is why")

    assert attempt(fails) == (False, "this is why")
    assert attempt(lambda: "fine") == (True, "fine")


def test_tables_are_compared_column_by_column_and_genes_by_their_exons() -> None:
    assert comparable(["c 1 2"], formats.BED) == comparable(["c\t1\t2"], formats.BED)
    assert comparable(["c 1 2"], formats.GFF3) != comparable(["c\t1\t2"], formats.GFF3)
    gtf = 'c\ts\texon\t1\t9\t.\t+\t.\tgene_id "g"; transcript_id "t";'
    gff3 = "c\ts\texon\t1\t9\t.\t+\t.\tParent=t"
    gene = "c\ts\tgene\t1\t9\t.\t+\t.\tID=g"
    assert comparable([gtf], formats.GTF) == comparable([gene, gff3], formats.GTF)
