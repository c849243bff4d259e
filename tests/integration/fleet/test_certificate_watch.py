"""Until when the certificates of workers are valid is read from what they show."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gooseherd import certs, telemetry
from gooseherd.domain.alerts import ALERT_FIELD
from gooseherd.fleet.certificate_expiry import CertificateWatch
from gooseherd.worker.tls import Certificates


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def shown(role: str) -> float | None:
    return telemetry.REGISTRY.get_sample_value(
        "gooseherd_certificate_expiry_timestamp_seconds", {"role": role}
    )


def days_left(role: str) -> int | None:
    ends = shown(role)
    return None if ends is None else math.ceil((ends - datetime.now(UTC).timestamp()) / 86400)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certs.make_all(tmp_path / "certs", days=300)
    return tmp_path / "certs"


@pytest.fixture
def own(folder: Path) -> Certificates:
    return Certificates(*(str(folder / name) for name in ("ca.pem", "api.pem", "api.key")))


@pytest.fixture
async def serving(folder: Path, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Start something that shows a worker's certificate which ends in so many days; its address."""
    async with AsyncExitStack() as stack:

        async def serve(days: int, ca: Path = folder) -> str:
            pair = certs.Pair((ca / "ca.pem").read_bytes(), (ca / "ca.key").read_bytes())
            made = datetime.now(UTC) - timedelta(days=1 - min(days, 0))
            leaf = certs.make_leaf(pair, certs.WORKER_IDENTITY, "serve", made, days=max(days, 0) + 1)
            cert, key = tmp_path / f"{days}.pem", tmp_path / f"{days}.key"
            cert.write_bytes(leaf.cert)
            key.write_bytes(leaf.key)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
            context.load_verify_locations(folder / "ca.pem")
            context.verify_mode = ssl.CERT_REQUIRED

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read()
                writer.close()

            server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
            await stack.enter_async_context(server)
            return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

        yield serve


async def test_of_tasks_the_first_to_end_counts_until_a_day_after_its_last_connection(
    own: Certificates, serving: Any
) -> None:
    clock = Clock()
    watch = CertificateWatch(own, clock=clock)
    old, new = await serving(10), await serving(200)
    for address in (old, new):
        watch.connected(address)
    await watch.settled()
    assert days_left("worker") == 10
    clock.now += 80_000
    watch.connected(new)
    assert set(await watch.all_ends()) == {"api", "ca", "worker"}
    assert days_left("worker") == 10
    clock.now += 10_000
    watch.connected(new)
    await watch.all_ends()
    assert days_left("worker") == 200
    clock.now += 90_000
    assert set(await watch.all_ends()) == {"api", "ca"}
    assert shown("worker") is None
    await watch.settled()


async def test_each_host_is_told_by_its_address_and_a_pair_that_was_replaced_is_seen(
    own: Certificates, serving: Any, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    watch = CertificateWatch(own, by_host=True, clock=clock)
    address, other = await serving(-3), await serving(90)
    with caplog.at_level(logging.INFO):
        for one in (address, other):
            watch.connected(one)
        await watch.settled()
    assert days_left(f"worker {address}") == -3, "one that has ended is read, too"
    assert days_left(f"worker {other}") == 90
    told = {record.role: hasattr(record, ALERT_FIELD) for record in caplog.records if hasattr(record, "role")}
    assert told == {f"worker {address}": True, f"worker {other}": False}
    assert f"worker {address} ended on" in caplog.text


async def test_a_worker_is_asked_once_an_hour_however_often_it_is_spoken_to(
    own: Certificates, serving: Any
) -> None:
    clock = Clock()
    watch = CertificateWatch(own, by_host=True, clock=clock)
    address = await serving(50)
    for seconds in (0, 5, 3000):
        clock.now = 1000 + seconds
        watch.connected(address)
        assert len(watch._looking) == (1 if seconds == 0 else 0)
        await watch.settled()
    clock.now = 1000 + 3601
    watch.connected(address)
    assert len(watch._looking) == 1
    await watch.settled()


async def test_who_shows_another_cas_certificate_or_none_is_not_told_of(
    own: Certificates, serving: Any, tmp_path: Path
) -> None:
    certs.make_all(tmp_path / "other")
    watch = CertificateWatch(own)
    watch.connected(await serving(10, tmp_path / "other"))
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as plain:
        watch.connected(f"127.0.0.1:{plain.sockets[0].getsockname()[1]}")
        watch.connected("127.0.0.1:9")
        await watch.settled()
    assert set(await watch.all_ends()) == {"api", "ca"}
    assert shown("worker") is None
