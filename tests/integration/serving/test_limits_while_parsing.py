"""Requests that do not end, that lie about their framing, or that hide others: refused while they arrive."""

from __future__ import annotations

import json
import socket
import time
from itertools import repeat

import pytest
from tests.servers.raw_service import Service, rest, status

pytestmark = pytest.mark.integration

MORE_THAN_ANY_LIMIT = 24 * 2**20
"""Of what is sent while nothing answers: the service would have to keep most of it."""
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"POST /files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"Connection: close\r\n\r\n"


def send_without_end(client: socket.socket, piece: bytes) -> bytes:
    """Send it again and again, until the service answers or has had more than it should take."""
    client.settimeout(0.0)
    sent = 0
    while sent < MORE_THAN_ANY_LIMIT:
        try:
            sent += client.send(piece)
        except BlockingIOError:
            time.sleep(0.01)
        except ConnectionError:
            break
        try:
            if client.recv(1, socket.MSG_PEEK):
                break
        except BlockingIOError:
            pass
    client.settimeout(10)
    try:
        return rest(client)
    except TimeoutError:
        return b""


@pytest.mark.parametrize(
    ("opening", "piece", "refused"),
    [
        pytest.param(GET, b"X-More: 0123456789\r\n" * 3000, 431, id="header lines"),
        pytest.param(GET + b"X-Long: ", b"a" * 60_000, 431, id="one header"),
        pytest.param(GET, b"a" * 60_000, 431, id="one header name"),
        pytest.param(b"GET /", b"a" * 60_000, 414, id="request line"),
        pytest.param(b"", b"\r\n" * 30_000, 400, id="empty lines before the request"),
        pytest.param(CHUNKED + b"5;x=", b"a" * 60_000, None, id="chunk extension"),
        pytest.param(CHUNKED + b"0\r\n", b"T: b\r\n" * 9000, None, id="trailers"),
    ],
)
def test_what_does_not_end_is_refused_while_it_arrives(
    service: Service, opening: bytes, piece: bytes, refused: int | None
) -> None:
    before = service.memory_mib()
    client = service.connect()
    client.sendall(opening)
    answer = send_without_end(client, piece)
    assert service.answers()
    assert service.memory_mib() - before < 12
    assert answer, "the service went on reading"
    # An anonymous registration is refused at once, whatever else would come of it.
    assert status(answer) == refused or (refused is None and status(answer) in (401, 431))
    if refused:
        assert b"application/problem+json" in answer
        assert b"access-control-allow-origin: *" in answer


def test_more_header_lines_than_any_client_sends_are_refused(service: Service) -> None:
    assert status(service.ask(GET + b"X-A: b\r\n" * 120 + LAST)) == 431
    assert status(service.ask(GET + b"X-A: b\r\n" * 80 + LAST)) == 200


def test_a_body_over_the_limit_is_refused_by_its_length_and_while_it_is_counted(service: Service) -> None:
    head = f"POST /files/import HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {service.admin_key}\r\n".encode()
    declared = service.ask(head + b"Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n")
    assert status(declared) == 413
    chunk = b"10000\r\n" + b"\n" * 65536 + b"\r\n"
    client = service.connect()
    client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
    counted = send_without_end(client, chunk)
    assert status(counted) == 413
    within = b"".join(repeat(chunk, 15)) + b"0\r\n\r\n"
    assert (
        status(service.ask(head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + within)) == 200
    )


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([], 400),
        (["here", "here"], 400),
        (["here", "there"], 400),
        (["a b"], 400),
        (["user@here"], 400),
        (["here/path"], 400),
        (["[::1]:8080"], 200),
        (["localhost:8080"], 200),
        # As it should be, and of another host than this one, which is on loopback.
        (["here:8080"], 421),
        ([""], 421),
    ],
)
def test_a_request_names_its_host_once(service: Service, hosts: list[str], expected: int) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    answer = service.ask(f"GET /healthz HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
    assert status(answer) == expected


def test_http_1_0_needs_no_host(service: Service) -> None:
    assert status(service.ask(b"GET /healthz HTTP/1.0\r\n\r\n")) == 200


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"identity", b"chunked, chunked", b"xchunked"])
def test_a_transfer_coding_other_than_chunked_is_refused(service: Service, coding: bytes) -> None:
    answer = service.ask(GET + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n")
    assert status(answer) in (400, 501)
    assert b"HTTP/1.1 200" not in answer


def test_two_lengths_or_a_length_beside_chunks_are_refused(service: Service) -> None:
    for framing in (
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: +5\r\n",
    ):
        answer = service.ask(GET + framing + b"\r\n0\r\n\r\n")
        assert status(answer) == 400
        assert b"HTTP/1.1 200" not in answer


def test_a_trailer_is_no_header(service: Service) -> None:
    entry = {"dcc": "here", "local_id": "t", "filename": "t.bed", "access_url": "https://example.org/t.bed"}
    body = json.dumps(entry).encode()
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    head = b"POST /files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    key = b"X-API-Key: " + service.admin_key.encode() + b"\r\n"
    assert status(service.ask(head + key + b"\r\n" + chunks + b"\r\n")) == 200
    assert status(service.ask(head + b"\r\n" + chunks + key + b"\r\n")) == 401
    path = service.register("trailed", 1000).encode()
    ranged = (
        b"GET %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        % path
    )
    assert status(service.ask(ranged + b"0\r\nRange: bytes=0-9\r\n\r\n")) == 200


def test_bytes_behind_a_request_do_not_disturb_its_response(service: Service) -> None:
    answer = service.ask(GET + b"\r\n" + b"\x00 this is no request\r\n\r\n")
    first, _, second = answer.partition(b"HTTP/1.1 400 ")
    assert status(first) == 200
    assert first.endswith(b"}")
    assert second.endswith(b"}")


def test_bytes_behind_a_long_response_do_not_get_into_it(service: Service) -> None:
    size = 8 * 2**20
    path = service.register("long", size).encode()
    client = service.connect(receive_buffer=4096)
    client.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
    begun = client.recv(1000)
    client.sendall(b"\x00 this is no request\r\n\r\n")
    head, _, rest_of_it = (begun + rest(client)).partition(b"\r\n\r\n")
    assert status(head) == 200
    assert rest_of_it[:size] == bytes(size)
    assert status(rest_of_it[size:]) == 400


def test_a_body_that_breaks_is_refused_and_its_request_is_not_served(service: Service) -> None:
    head = f"POST /files/import HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {service.admin_key}\r\n".encode()
    client = service.connect()
    client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    time.sleep(0.2)
    client.sendall(b"no number\r\n")
    answer = rest(client)
    assert (status(answer), answer.count(b"HTTP/1.1 ")) == (400, 1)


def test_only_so_many_requests_are_answered_ahead(service: Service) -> None:
    answer = service.ask((GET + b"\r\n") * 1000)
    assert 10 < answer.count(b"HTTP/1.1 200") < 40
    assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200")
    assert service.answers()


def test_requests_sent_ahead_are_answered_in_order(service: Service) -> None:
    answer = service.ask(GET + b"\r\n" + b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n" + GET + LAST)
    assert [line.split()[1] for line in answer.split(b"HTTP/1.1")[1:]] != []
    assert [int(part.split(None, 1)[0]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 404, 200]


def test_another_protocol_that_is_offered_is_not_taken_up(service: Service) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQA\r\n\r\n"
    answer = service.ask(GET + offer)
    assert (status(answer), answer.count(b"HTTP/1.1 ")) == (200, 1)


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/files", "/jobs", "/queue", "/openapi.json", "/docs", "/"]
)
def test_head_is_answered_wherever_get_is(service: Service, path: str) -> None:
    got = service.get(path)
    head = service.ask(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert status(head) == status(got) == 200
    assert head.endswith(b"\r\n\r\n")
    length = [line for line in got.split(b"\r\n\r\n")[0].split(b"\r\n") if line.startswith(b"content-length")]
    assert length[0] in head
