"""Who comes to a worker's port without a certificate, as often as they like, ends nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.fleet.conftest import until

from gooseherd import certs
from gooseherd.worker.tls import Certificates, _Source

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NAME = "127.0.0.1"
AT_ONCE, EACH = 8, 50


def _shake(port: int, context: ssl.SSLContext) -> int:
    """How many of them the worker answered."""
    done = 0
    for _ in range(EACH):
        try:
            with socket.create_connection((NAME, port), timeout=10) as plain, context.wrap_socket(plain):
                done += 1
        except OSError:
            continue
    return done


def _start(root: Path, port: int) -> subprocess.Popen[bytes]:
    certs.make_all(root / "ca")
    certs.make_host(root / "ca", NAME, root / "certs")
    files = {"CA": "ca.pem", "CERT": "worker.pem", "KEY": "worker.key"}
    with (root / "log").open("wb") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "gooseherd.cli", "worker", "--host", NAME, "--port", str(port)),
                *("--health-port", "0", "--work-dir", str(root / "work")),
            ],
            env={
                "PATH": os.environ["PATH"],
                "SYNC_DATA_DIR": str(root / "cache"),
                **{f"WORKER_TLS_{name}": str(root / "certs" / file) for name, file in files.items()},
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


async def test_strangers_that_shake_hands_all_at_once_do_not_end_the_worker(tmp_path: Path) -> None:
    with socket.create_server((NAME, 0)) as taken:
        port = taken.getsockname()[1]
    worker, log = _start(tmp_path, port), tmp_path / "log"
    context = ssl.create_default_context(cafile=str(tmp_path / "ca" / "ca.pem"))
    context.check_hostname = False  # they have none of ours to show, and do not care whom they meet
    context.set_alpn_protocols(["h2"])
    try:
        await until(lambda: "worker is ready" in log.read_text(), "the worker is ready")
        answered = await asyncio.gather(*(asyncio.to_thread(_shake, port, context) for _ in range(AT_ONCE)))
        assert sum(answered) > AT_ONCE * EACH / 2
        assert "died" not in log.read_text()
        assert worker.poll() is None
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        await asyncio.to_thread(worker.wait, 30)


def test_grpc_is_given_a_configuration_when_the_certificates_have_changed_and_at_no_other_time(
    tmp_path: Path,
) -> None:
    certs.make_all(tmp_path)
    source = _Source(Certificates(*(str(tmp_path / name) for name in ("ca.pem", "worker.pem", "worker.key"))))
    first = source()
    assert first.server_certificate_configuration() is not None
    assert source() is first
    assert source().server_certificate_configuration() is None
    certs.make_all(tmp_path / "new")
    for name in ("worker.pem", "worker.key", "ca.pem"):
        (tmp_path / "new" / name).replace(tmp_path / name)
    assert source().server_certificate_configuration() is not None
    assert source().server_certificate_configuration() is None
