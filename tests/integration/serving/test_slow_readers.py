"""Clients behind a proxy that ask for more than they read: each has a share of the places, not all."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.servers.raw_service import Service, rest, status

if TYPE_CHECKING:
    from tests.integration.serving.conftest import Start

pytestmark = pytest.mark.integration

SIZE = 16 * 2**20
"""More than kernels hold for a connection."""
ALLOWED = 3
STRANGER, OTHER = "203.0.113.7", "2001:db8:1:2::7"


@pytest.fixture(scope="module")
def behind(start: Start) -> Service:
    return start(API_TRUSTED_PROXIES=1, API_MAX_SLOW_RESPONSES_PER_REQUESTER=ALLOWED, API_MAX_CONNECTIONS=40)


@pytest.fixture(scope="module")
def path(behind: Service) -> str:
    """Of a file that is made."""
    table = behind.files / "large.csv"
    table.write_text("chrom,start,name\n" + "chr1,1,something\n" * (SIZE // 16))
    entry = {"dcc": "here", "local_id": "large", "filename": table.name, "access_url": table.as_uri()}
    with httpx.Client(base_url=str(behind.url), trust_env=False, timeout=90) as client:
        client.post("/files", json=entry, headers={"X-API-Key": behind.admin_key}).raise_for_status()
        end = time.monotonic() + 120
        while client.get("/data/here/large?wait=50", headers={"Range": "bytes=0-9"}).status_code != 206:
            assert time.monotonic() < end, behind.log.read_text()[-2000:]
    return "/data/here/large"


@pytest.fixture
def service(behind: Service, path: str) -> Iterator[Service]:
    yield behind
    behind.sockets.close()
    end = time.monotonic() + 30
    while slow(behind):
        assert time.monotonic() < end, "places were not given back"
        time.sleep(0.05)


def slow(service: Service) -> int:
    return int(metric(service, "gooseherd_http_slow_responses"))


def metric(service: Service, name: str) -> float:
    lines = httpx.get(f"{service.url}/metrics", trust_env=False).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def ask(
    service: Service, path: str, client: str, *headers: str, key: bool = False, method: str = "GET"
) -> socket.socket:
    """A client that asks and does not read."""
    connection = service.connect(receive_buffer=4096)
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"X-Forwarded-For: {client}", *headers]
    if key:
        lines.append(f"X-API-Key: {service.admin_key}")
    connection.sendall("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n")
    return connection


def begun(
    service: Service, path: str, client: str, *headers: str, key: bool = False, method: str = "GET"
) -> int:
    """Status of a response that is not read on."""
    return status(ask(service, path, client, *headers, key=key, method=method).recv(100))


def wait_for(service: Service, count: int) -> None:
    end = time.monotonic() + 30
    while slow(service) != count:
        assert time.monotonic() < end, slow(service)
        time.sleep(0.02)


RANGES = pytest.mark.parametrize("headers", [(), ("Range: bytes=0-",), ("Range: bytes=5-9999999",)], ids=str)


@RANGES
def test_a_client_behind_a_proxy_has_only_so_many_responses_that_it_does_not_read(
    service: Service, path: str, headers: tuple[str, ...]
) -> None:
    got = []
    for _ in range(ALLOWED):
        got.append(begun(service, path, STRANGER, *headers))
        wait_for(service, len(got))
    assert set(got) <= {200, 206}
    refused = ask(service, path, STRANGER, *headers).recv(4096)
    assert status(refused) == 429
    assert b"retry-after: 5" in refused.lower()
    assert begun(service, path, OTHER, *headers) == got[0]
    assert begun(service, path, STRANGER, *headers, key=True) == got[0]


def test_short_ranges_and_other_calls_are_answered_whatever_is_unread(service: Service, path: str) -> None:
    for number in range(ALLOWED):
        assert begun(service, path, STRANGER) == 200
        wait_for(service, number + 1)
    for _ in range(3):
        assert begun(service, path, STRANGER, "Range: bytes=0-65535") == 206
        assert begun(service, "/files", STRANGER) == 200
        assert begun(service, path, STRANGER, method="HEAD") == 200
    assert slow(service) == ALLOWED


@RANGES
def test_many_at_the_same_moment_are_no_way_around_it(
    service: Service, path: str, headers: tuple[str, ...]
) -> None:
    def turned_away() -> float:
        cut = metric(service, 'gooseherd_http_connections_ended_total{limit="slow"}')
        return cut + metric(service, 'gooseherd_http_requests_total{route="/data",status="429"}')

    before = turned_away()
    clients = [ask(service, path, STRANGER, "Connection: close", *headers) for _ in range(20)]
    end = time.monotonic() + 30
    while turned_away() - before < len(clients) - ALLOWED:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert slow(service) == ALLOWED
    whole = [client for client in clients if len(rest(client)) > 9_000_000]
    assert len(whole) == ALLOWED


def test_each_request_of_a_proxy_s_connection_says_whose_response_it_is(service: Service, path: str) -> None:
    """Also one whose head was seen before, and which therefore nobody parses."""

    def send(connection: socket.socket, client: str, last: int) -> None:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\n"
        connection.sendall(f"{head}Range: bytes=0-{last}\r\n\r\n".encode())

    connections = [service.connect(receive_buffer=4096) for _ in range(2)]
    for connection in connections:
        for client in (STRANGER, OTHER) * 2:
            send(connection, client, 9)
            assert status(connection.recv(4096)) == 206
    for number in range(ALLOWED):
        assert begun(service, path, STRANGER) == 200
        wait_for(service, number + 1)
    for connection, client, expected in zip(connections, (OTHER, STRANGER), (206, 429), strict=True):
        send(connection, client, 9_999_999)
        assert status(connection.recv(100)) == expected
    wait_for(service, ALLOWED + 1)


def test_a_place_is_given_back_when_the_response_is_read_or_given_up(service: Service, path: str) -> None:
    clients = [ask(service, path, STRANGER, "Connection: close") for _ in range(ALLOWED)]
    wait_for(service, ALLOWED)
    clients[0].close()
    wait_for(service, ALLOWED - 1)
    assert len(rest(clients[1])) > SIZE
    wait_for(service, ALLOWED - 2)
    again = ask(service, path, STRANGER, "Connection: close")
    assert len(rest(again)) > SIZE
    assert len(rest(clients[2])) > SIZE


def test_a_kept_connection_gives_its_place_back_after_each_response(service: Service, path: str) -> None:
    for _ in range(2):
        with httpx.Client(base_url=str(service.url), trust_env=False, timeout=60) as client:
            for _ in range(ALLOWED + 2):
                got = client.get(path, headers={"X-Forwarded-For": STRANGER, "Range": "bytes=0-9999999"})
                assert (got.status_code, len(got.content)) == (206, 10_000_000)
    wait_for(service, 0)


def test_what_was_written_and_not_read_counts_although_the_response_is_complete(
    service: Service, path: str
) -> None:
    """Sent ahead on kept connections, short ranges fill what the kernel takes."""
    head = f"Host: localhost\r\nX-Forwarded-For: {STRANGER}\r\nRange: bytes=0-131071\r\n\r\n"
    clients = [service.connect(receive_buffer=4096) for _ in range(8)]
    for client in clients:
        client.settimeout(2)
        for _ in range(60):
            try:
                client.sendall(f"GET {path} HTTP/1.1\r\n{head}".encode())
            except OSError:
                break
            time.sleep(0.005)
    assert slow(service) <= ALLOWED
    assert begun(service, path, OTHER) == 200
