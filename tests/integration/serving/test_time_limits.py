"""Clients that take their time: each is let go, and nobody else waits for it."""

from __future__ import annotations

import select
import time
from contextlib import suppress

import pytest
from tests.servers.raw_service import Service, rest, status

pytestmark = pytest.mark.integration

BIG = 96 * 2**20
"""More than what kernels hold for a connection."""


def test_headers_that_do_not_come_to_an_end_are_408(service: Service) -> None:
    clients = [service.connect() for _ in range(10)]
    for client in clients:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: he")
    assert service.answers()
    answers = [rest(client) for client in clients]
    assert {status(answer) for answer in answers} == {408}


def test_headers_that_come_byte_by_byte_are_408(service: Service) -> None:
    client = service.connect()
    client.settimeout(0.05)
    for byte in b"GET /healthz HTTP/1.1\r\n" + b"X-Slow: " + b"a" * 1000:
        try:
            client.sendall(bytes([byte]))
            if client.recv(1):
                break
        except TimeoutError:
            continue
    client.settimeout(20)
    assert b"408" in rest(client)


def test_a_connection_on_which_nothing_is_asked_is_closed_without_a_word(service: Service) -> None:
    clients = [service.connect() for _ in range(10)]
    assert service.answers()
    assert {rest(client) for client in clients} == {b""}


def test_a_connection_is_kept_for_the_next_request_for_a_while_and_then_closed(service: Service) -> None:
    client = service.connect()
    for _ in range(2):
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = client.recv(4096)
        while not answer.endswith(b"}"):  # head and body are two writes
            answer += client.recv(4096)
        assert status(answer) == 200
    client.sendall(b"\r\n")  # an empty line is no request
    assert rest(client) == b""


def test_a_body_that_does_not_come_is_408_and_a_slow_one_is_taken(service: Service) -> None:
    head = f"POST /files/import HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {service.admin_key}\r\n".encode()
    stuck = service.connect()
    stuck.sendall(head + b"Content-Length: 1000\r\n\r\n{")
    slow = service.connect()
    slow.sendall(head + b"Content-Length: 8000\r\nConnection: close\r\n\r\n")
    for _ in range(8):  # 3 s in all, where a body of nothing has 2
        slow.sendall(b"\n" * 1000)
        time.sleep(0.4)
    assert service.answers()
    assert status(rest(stuck)) == 408
    assert status(rest(slow)) == 200


def test_a_request_whose_body_nobody_waits_for_gives_its_connection_back(service: Service) -> None:
    client = service.connect()
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
    answer = rest(client)
    assert (status(answer), answer.count(b"HTTP/1.1 ")) == (200, 1)


def test_a_body_that_goes_on_after_its_response_holds_the_connection_no_longer(service: Service) -> None:
    client = service.connect()
    client.sendall(b"POST /files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{")
    assert status(client.recv(65536)) == 401
    sent = 0
    with suppress(ConnectionError):
        while sent < 500_000:  # slowly: each piece would be another two seconds
            client.sendall(b" " * 1000)
            sent += 1000
            if select.select([client], [], [], 0.1)[0] and not client.recv(65536):
                break
    assert sent < 500_000


def test_a_response_that_is_not_read_is_let_go(service: Service) -> None:
    path = service.register("unread", BIG).encode()
    clients = [service.connect(receive_buffer=4096) for _ in range(10)]
    for client in clients:
        client.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        assert status(client.recv(100)) == 200
    assert service.answers()
    time.sleep(6)
    assert service.answers()
    for client in clients:
        assert len(rest(client)) < BIG


def test_a_response_that_is_read_slowly_is_sent_to_its_end(service: Service) -> None:
    """As by `samtools view URL | less`, whose reader stops for a while and then reads on."""
    size = 16 * 2**20
    path = service.register("slow", size).encode()
    client = service.connect(receive_buffer=4096)
    client.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path)
    received = 0
    for _ in range(8):  # 8 s, where a client that reads nothing has 3
        received += len(client.recv(65536))
        time.sleep(1)
    received += len(rest(client))
    assert received > size


def test_a_request_that_is_held_outlives_every_limit(service: Service) -> None:
    """Nothing is sent in either direction meanwhile, and nothing is overdue."""
    path = service.register("held", 4 * 2**20).split("?")[0].encode()
    client = service.connect()
    client.sendall(b"GET %b?wait=6 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path)
    assert status(rest(client)) in (200, 202, 422)
