"""How long nginx uses what a service told it of a file (deploy/nginx.conf)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.benchmark_modules import load_benchmark

from gooseherd.api.file_lookups import FOR_A_MOMENT

if TYPE_CHECKING:
    from conftest import Needs

pytestmark = pytest.mark.integration
MOMENT = FOR_A_MOMENT.decode().strip().partition(": ")[2]
USED_SECONDS = 3
"""Longest."""
Answer = Callable[[int], str]
"""Cache-Control of the n-th answer that names the file, empty: no file."""


@dataclass
class Front:
    """nginx in front of a service that sends no bytes."""

    client: httpx.Client
    """It keeps no connection."""
    asked: threading.Event
    """Somebody has asked for the file since this was cleared."""

    def get(self) -> httpx.Response:
        return self.client.get("/files/here/x/x.bed.gz", headers={"Range": "bytes=0-3"})


@pytest.fixture(params=[False, True], ids=["stock", "lua"])
def lua(request: pytest.FixtureRequest, needs: Needs) -> bool:
    """Where nginx keeps what it was told: in its cache, or in Lua's memory."""
    module = load_benchmark("_nginx").LUA
    if request.param and not module.exists():
        needs.missing(f"{module} (libnginx-mod-http-lua)")
    return bool(request.param)


@pytest.fixture
def front(needs: Needs, tmp_path: Path, *, lua: bool) -> Callable[[Answer], Any]:
    needs("nginx")
    nginx = load_benchmark("_nginx")

    @contextmanager
    def run(answer: Answer, *, closes: bool = False) -> Iterator[Front]:
        asked, numbers = threading.Event(), iter(range(10**6))

        class Service(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, fields = 404, {"Content-Length": "0"}
                if self.headers["X-Sendfile-Type"] == "lookup":
                    number = next(numbers)
                    asked.set()
                    if said := answer(number):
                        status, fields = 204, {"X-Artifact-File": "file", "Cache-Control": said}
                    else:
                        status, fields = 200, {"X-Artifact-File": "-", "Content-Length": "0"}
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.end_headers()
                self.close_connection = self.close_connection or closes  # which it has not said before

            def log_message(self, *_: object) -> None:
                pass

        artifacts, port = tmp_path / "artifacts", nginx.free_port()
        artifacts.mkdir()
        (artifacts / "file").write_text("bytes of the file")
        with ThreadingHTTPServer(("127.0.0.1", 0), Service) as service:
            thread = threading.Thread(target=service.serve_forever)
            thread.start()
            behind = f"127.0.0.1:{service.server_address[1]}"
            server = nginx.in_front(behind, artifacts, port, tmp_path / "lookups", lua=lua)
            try:
                with (
                    nginx.running(tmp_path / "nginx", [server], port),
                    httpx.Client(
                        base_url=f"http://127.0.0.1:{port}",
                        limits=httpx.Limits(max_keepalive_connections=0),
                        trust_env=False,
                        timeout=60,
                    ) as client,
                ):
                    yield Front(client, asked)
            finally:
                service.shutdown()
                thread.join()

    return run


def test_nobody_waits_while_nginx_asks_again(front: Any) -> None:
    """Else all connections wait, and ask, at the same moment. Tried again where this machine was too slow."""
    free = threading.Event()
    waiting = unanswered = 0

    def answer(number: int) -> str:
        nonlocal waiting
        if number:
            waiting += 1
            free.wait(5)
            waiting -= 1
        return MOMENT

    with front(answer) as site:
        for _ in range(10):
            free.clear()
            site.asked.clear()
            while not site.asked.is_set():
                assert site.get().text == "byte"
                time.sleep(0.02)
            got, unanswered = site.get(), waiting
            free.set()
            assert got.text == "byte"
            if unanswered:
                break
            time.sleep(USED_SECONDS)  # the next round begins with an answer that is kept
            site.get()
        assert unanswered


def test_an_answer_is_used_for_three_seconds_at_most(front: Any) -> None:
    """Also if the service says no more of the file, and while somebody asks for it all the time."""
    with front(lambda number: "" if number else MOMENT) as site:
        assert site.get().text == "byte"
        end = time.monotonic() + USED_SECONDS
        while time.monotonic() < end:
            site.get()
            time.sleep(0.05)
        assert site.get().status_code == 404


@pytest.mark.parametrize("said", ["public, max-age=3600", "max-age=1, stale-while-revalidate=60"])
def test_an_answer_that_is_to_be_used_for_longer_is_not_kept(front: Any, said: str) -> None:
    with front(lambda _: said) as site:
        for _ in range(3):
            site.asked.clear()
            assert site.get().status_code == 206
            assert site.asked.is_set()


def test_a_service_that_closes_idle_connections_is_asked_on_others(front: Any) -> None:
    answers = []

    def answer(number: int) -> str:
        answers.append(number)
        return MOMENT

    with front(answer, closes=True) as site:
        end = time.monotonic() + 2 * USED_SECONDS
        while time.monotonic() < end:
            assert site.get().text == "byte"
            time.sleep(0.05)
    assert len(answers) > 1
