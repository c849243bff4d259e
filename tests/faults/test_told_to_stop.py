"""SIGTERM to a worker while source bytes stream in and artifact bytes out: the job goes on elsewhere."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faults.conftest import Gooseherd

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(240)]

MIB = 1 << 20


def intervals() -> bytes:
    """A sorted BED of about 30 MB that hardly compresses."""
    chance = random.Random(4)
    starts = sorted(chance.randint(0, 190_000_000) for _ in range(300_000))
    return b"".join(b"chr1\t%d\t%d\t%s\n" % (s, s + 100, chance.randbytes(40).hex().encode()) for s in starts)


class Upstream(ThreadingHTTPServer):
    """Keeps the end of the file until it is told to go on."""

    daemon_threads = True

    def __init__(self, data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.data = data
        self.go_on = threading.Event()


class _Answer(BaseHTTPRequestHandler):
    server: Upstream

    def do_GET(self) -> None:
        data = self.server.data
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data[:-MIB])
            self.server.go_on.wait()
            self.wfile.write(data[-MIB:])
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream(intervals())
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    serving.start()
    yield server
    server.go_on.set()
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def service(make_gooseherd: type[Gooseherd], tmp_path: Path) -> Iterator[Gooseherd]:
    it = make_gooseherd(tmp_path)
    it.extra = {"SOURCE_ALLOW_HTTP": "true", "SOURCE_ALLOW_NETWORKS": "127.0.0.1/32"}
    it.start()
    yield it
    it.clean_up()


def drafts(service: Gooseherd) -> list[int]:
    """Sizes of what is not published yet."""
    found = (service.state / "artifacts").rglob("*")
    return [path.stat().st_size for path in found if path.is_file() and ".gooseherd-tmp" in path.parts]


def test_the_job_is_done_by_the_next_attempt(service: Gooseherd, upstream: Upstream) -> None:
    name = service.register(
        Path("/x.bed"),
        access_url=f"http://127.0.0.1:{upstream.server_port}/x.bed",
        md5=hashlib.md5(upstream.data).hexdigest(),
        size_in_bytes=len(upstream.data),
    )
    answer = service.ask(name)
    assert answer.status_code == 202, answer.text
    job_id = str(answer.json()["job_id"])
    service.until(lambda: any(size >= 7 * MIB for size in drafts(service)), "artifact bytes stream out")
    for worker in service.workers():
        os.kill(worker["process"]["pid"], signal.SIGTERM)
    attempts = service.until(lambda: service.job(job_id)["attempts"][1:], "a second attempt")
    assert attempts
    upstream.go_on.set()
    job = service.ended(job_id)
    assert job["status"] == "completed"
    assert [attempt["reason"] for attempt in job["attempts"]] == ["worker_drained", "published"]
    assert drafts(service) == []
    assert service.ask(name, headers={"Range": "bytes=0-3"}).content == b"\x1f\x8b\x08\x04"
