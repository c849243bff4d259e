"""Clients that take all connections or all descriptors: others, and operators, are still answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.servers.raw_service import Service, status

pytestmark = pytest.mark.integration

UNREAD = 64 * 2**20


@pytest.fixture(scope="module")
def small(start: Callable[..., Service]) -> Service:
    return start(
        API_MAX_CONNECTIONS=12,
        API_MAX_CONNECTIONS_PER_ADDRESS=5,
        API_IDLE_SECONDS=60,
        API_HEAD_SECONDS=60,
        API_UNREAD_SECONDS=60,
        API_CORS_ORIGINS="*",
    )


def test_one_address_may_have_so_many_connections(small: Service) -> None:
    with small.sockets:
        held = [small.connect("127.0.0.5") for _ in range(5)]
        for client in held:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert status(client.recv(4096)) == 200
        assert status(small.get(source="127.0.0.5")) in (0, 503)  # the request may cross the refusal
        assert status(small.ask(b"", source="127.0.0.5")) == 503
        assert small.answers()
        held.pop().close()
        end = time.monotonic() + 30  # the service has to notice the end first
        while status(small.get(source="127.0.0.5")) != 200:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_whoever_waits_without_a_request_makes_room_for_those_who_ask(small: Service) -> None:
    with small.sockets:
        for number in range(60):
            client = small.connect(f"127.0.1.{number + 1}")
            client.sendall(b"GET /healthz HTTP/1.1\r\nHo"[: number % 20])
            if number % 10 == 0:
                assert small.answers()
        assert small.answers()


def test_liveness_metrics_and_the_admin_are_answered_when_all_connections_are_busy(small: Service) -> None:
    with small.sockets:
        path = small.register("busy", UNREAD).encode()
        for number in range(12):
            client = small.connect(f"127.0.2.{number + 1}", receive_buffer=4096)
            client.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
            assert status(client.recv(100)) == 200
        for essential in ("/healthz", "/readyz", "/metrics"):
            assert status(small.get(essential)) == 200
        refused = small.get("/files")
        assert status(refused) == 503
        assert b"retry-after" in refused
        assert b"access-control-allow-origin: *" in refused
        assert status(small.get("/files", f"X-API-Key: {small.admin_key}")) == 200
        # And those who keep even these busy are turned away, without an end to the others.
        silent = [small.connect(f"127.0.3.{number + 1}") for number in range(40)]
        assert small.answers()
        del silent


def test_when_descriptors_run_out_the_store_and_operators_still_have_some(
    start: Callable[..., Service],
) -> None:
    service = start(open_files=256, API_MAX_CONNECTIONS=10_000)
    with service.sockets:
        path = service.register("scarce", UNREAD).encode()
        taken = 0
        for number in range(300):
            client = service.connect(f"127.0.4.{number % 250 + 1}", receive_buffer=4096)
            try:
                client.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
                client.settimeout(0.05)
                taken += status(client.recv(100)) == 200
            except (TimeoutError, ConnectionError):
                continue
        assert taken > 10
        assert len(list(Path(f"/proc/{service.process.pid}/fd").iterdir())) < 256
        assert service.answers()
        key = f"X-API-Key: {service.admin_key}"
        assert status(service.get("/jobs", key)) == 200
        assert status(service.get("/queue", key)) == 200
        assert service.log.stat().st_size < 50_000
        assert "Traceback" not in service.log.read_text()


def test_a_connection_that_ends_gives_its_place_back(small: Service) -> None:
    with small.sockets:
        for _ in range(40):
            assert status(small.get("/files")) == 200
        for number in range(40):
            small.connect(f"127.0.5.{number + 1}").close()
        assert small.register("again", 1000)
