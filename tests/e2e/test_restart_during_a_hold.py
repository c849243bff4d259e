"""What clients get of a service that is told to stop, behind a socket that stays open."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.browser.service import Herd, Origin, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

VIEWER = {"Sec-Fetch-Mode": "cors", "Origin": "http://portal.example.org"}


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    """Holds back its only file."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "a.bed").write_text("chr1\t5\t9\nchr1\t1\t2\n")
    origin = Origin(sources)
    origin.let_go.clear()
    yield origin
    origin.close()


@pytest.fixture
def herd(tmp_path: Path, origin: Origin) -> Iterator[Herd]:
    with running(tmp_path, origin) as herd:
        yield herd


@pytest.fixture
def ask() -> Iterator[Callable[..., Future[httpx.Response]]]:
    """Sends a request of its own client, and another, and another."""
    with ThreadPoolExecutor(20) as threads:

        def asked(url: str, *, follow: bool = False) -> httpx.Response:
            with httpx.Client(trust_env=False, timeout=120, headers=VIEWER, follow_redirects=follow) as http:
                return http.get(url)

        yield lambda url, **how: threads.submit(asked, url, **how)


def test_held_requests_cost_one_redirect_each_when_the_service_is_restarted(
    herd: Herd, origin: Origin, ask: Callable[..., Future[httpx.Response]]
) -> None:
    """Redirects are few: a process that stops takes none of them with requests that come back at once."""
    names = herd.names(herd.register("a.bed"))
    viewers = [ask(names[kind], follow=True) for kind in ("data", "index") * 8]
    herd.until(lambda: herd.jobs("running"), "the job runs")
    time.sleep(0.2)  # into the middle of a hold
    herd.stop()
    herd.start()
    origin.let_go.set()
    for viewer in viewers:
        response = viewer.result(120)
        assert (response.status_code, response.content[:2]) == (200, b"\x1f\x8b"), response.text
        at_the_stop = [one for one in response.history if one.headers.get("connection") == "close"]
        assert len(at_the_stop) == 1
        assert at_the_stop[0].headers["access-control-allow-origin"] == "*"
        assert at_the_stop[0].headers["x-request-id"]


def test_a_stop_answers_what_it_cuts_off_with_a_problem_that_pages_can_read(
    herd: Herd, ask: Callable[..., Future[httpx.Response]]
) -> None:
    """Here a source that takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        entry = {
            "dcc": "lab",
            "local_id": "slow",
            "filename": "a.bed",
            "access_url": f"http://127.0.0.1:{silent.getsockname()[1]}/a.bed",
        }
        registered = httpx.post(
            f"{herd.url}/files", json=entry, headers={"X-API-Key": "key"}, trust_env=False, timeout=60
        )
        assert registered.status_code == 200, registered.text
        cut_off = ask(f"{herd.url}/data/lab/slow?raw=true")
        connection, _ = silent.accept()
        with connection:
            herd.stop()
    response = cut_off.result(60)
    assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")
    assert (response.json()["type"], response.json()["retryable"]) == ("/problems/stopping", True)
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["x-request-id"] == response.json()["request_id"]
    assert int(response.headers["retry-after"]) >= 1


def test_a_stop_ends_streams_of_events_at_once(herd: Herd) -> None:
    """A browser's EventSource connects again by itself, to the next process."""
    herd.get(f"/data/lab/{herd.register('a.bed')}?wait=0")
    (job,) = herd.until(lambda: herd.jobs("running"), "the job runs")
    ended = threading.Event()

    def follow() -> None:
        with (
            httpx.Client(trust_env=False, timeout=60) as http,
            http.stream("GET", f"{herd.url}/jobs/{job}/events") as events,
        ):
            begun.set()
            for _ in events.iter_lines():
                pass
            ended.set()  # as a response ends, not as a connection breaks off

    begun = threading.Event()
    following = threading.Thread(target=follow)
    following.start()
    assert begun.wait(60)
    herd.stop()
    following.join(60)
    assert ended.is_set()
