"""Who comes to a worker's port without a certificate, as often as they like, ends nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from tests.integration.fleet.conftest import until
from tests.integration.fleet.host import Host

from gooseherd import certs

pytestmark = [pytest.mark.integration, pytest.mark.slow]

AT_ONCE, EACH = 16, 300


def _shake(host: Host, context: ssl.SSLContext) -> int:
    """How many of them the worker answered."""
    done = 0
    for _ in range(EACH):
        try:
            with (
                socket.create_connection((host.name, host.port), timeout=10) as plain,
                context.wrap_socket(plain),
            ):
                done += 1
        except OSError:
            continue
    return done


async def test_strangers_that_shake_hands_all_at_once_do_not_end_the_worker(tmp_path: Path) -> None:
    certs.make_all(tmp_path / "ca")
    host = Host(tmp_path, 2, tmp_path / "ca")
    host.start()
    context = ssl.create_default_context(cafile=str(tmp_path / "ca" / "ca.pem"))
    context.check_hostname = False  # they have none of ours to show, and do not care whom they meet
    context.set_alpn_protocols(["h2"])
    try:
        await until(lambda: "worker is ready" in host.log(), "the worker is ready")
        answered = await asyncio.gather(*(asyncio.to_thread(_shake, host, context) for _ in range(AT_ONCE)))
        assert sum(answered) > AT_ONCE * EACH / 2
        assert "died" not in host.log()
        assert host.process is not None
        assert host.process.poll() is None
    finally:
        await asyncio.to_thread(host.end)
        host.close()
