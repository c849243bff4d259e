"""What goes wrong while a page draws costs time, never a track: nobody reloads the page, nobody sees less."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from tests.browser.service import Herd, Origin, page_of, running

if TYPE_CHECKING:
    from tests.browser.driver import Driver, PageRun

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TRACKS = [("bam", "reads.sam"), ("vcf", "calls.vcf")]
LEAST = 200
SHORT_TIMES = {
    "WORKFLOW_HEARTBEAT_SECONDS": "1",
    "WORKFLOW_STALE_SECONDS": "6",
    "WORKFLOW_TICK_SECONDS": "0.5",
    "WORKFLOW_BACKOFF_SCALE": "0.02",
}

viewers = pytest.mark.parametrize("viewer", ["gosling", "igv", "jbrowse"])


@pytest.fixture(scope="module")
def herd(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Herd]:
    """A service that soon sees that a worker has died."""
    here = {"API_ALLOW_HOSTS": "herd.example"}
    with running(tmp_path_factory.mktemp("herd"), origin, **SHORT_TIMES, **here) as herd:
        yield herd


@contextmanager
def while_held(herd: Herd, origin: Origin, act: Callable[[], None]) -> Iterator[None]:
    """In this block sources hold back their bytes until a job runs and `act` is done."""
    done: list[bool] = []

    def interrupt() -> None:
        try:
            herd.until(lambda: herd.jobs("running"), "a job runs")
            act()
            done.append(True)
        finally:
            origin.let_go.set()

    origin.let_go.clear()
    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    try:
        yield
    finally:
        interrupting.join(120)
    assert done, "the interruption itself failed"


def check(run: PageRun, url: str) -> None:
    """All is drawn, and no viewer was told anything that it takes for the file, or for its end."""
    assert run.drawn, (run.pixels, run.console, run.failed)
    assert run.without_bytes(url) == []
    assert {request["status"] for request in run.of(url)} <= {200, 206, 304, 307}


@viewers
def test_a_restart_during_a_hold_is_not_seen(
    chromium: Driver, herd: Herd, origin: Origin, pages: str, viewer: str
) -> None:
    tracks = [herd.track(*track) for track in TRACKS]

    def restart() -> None:
        herd.stop()
        herd.start()

    with while_held(herd, origin, restart):
        run = chromium.open_page(page_of(pages, viewer, tracks), least=[LEAST] * len(tracks), seconds=120)
    check(run, herd.url)
    assert 307 in {request["status"] for request in run.of(herd.url)}


@viewers
def test_a_worker_that_is_killed_during_a_hold_is_not_seen(
    chromium: Driver, herd: Herd, origin: Origin, pages: str, viewer: str
) -> None:
    tracks = [herd.track(*track) for track in TRACKS]

    def kill() -> None:
        (job, *_) = herd.jobs("running")
        for pid in herd.until(herd.worker_pids, "there is a worker"):
            os.kill(pid, signal.SIGKILL)
        herd.until(lambda: len(herd.get(f"/jobs/{job}").json()["attempts"]) > 1, "the job is tried again")

    with while_held(herd, origin, kill):
        run = chromium.open_page(page_of(pages, viewer, tracks), least=[LEAST] * len(tracks), seconds=120)
    check(run, herd.url)


@viewers
def test_an_artifact_that_is_removed_in_mid_view_is_made_again_and_drawn(
    chromium: Driver, herd: Herd, pages: str, viewer: str
) -> None:
    """The worst that igv.js showed before: a region without reads, and nothing in the console."""
    tracks = [herd.track("bam", "many.sam")]
    made = len(herd.jobs("completed"))

    def remove() -> None:
        for found in (herd.home / "state/artifacts").iterdir():
            if not found.name.startswith("."):
                shutil.rmtree(found)

    run = chromium.open_page(
        page_of(pages, viewer, tracks),
        least=[LEAST] * len(tracks),
        seconds=120,
        acts=[(remove, "zoom('chr2', 40000, 60000)")],
    )
    check(run, herd.url)
    assert len(herd.jobs("completed")) == made + 2 * len(tracks)


@viewers
def test_plain_http_to_a_host_that_is_not_loopback_is_held_too(
    chromium: Driver, herd: Herd, pages: str, viewer: str
) -> None:
    """Chromium sends no Sec-Fetch headers there."""
    herd_port, pages_port = urlsplit(herd.url).port, urlsplit(pages).port
    url = f"http://herd.example:{herd_port}"
    tracks = [
        {key: value.replace(herd.url, url) for key, value in herd.track(*track).items()} for track in TRACKS
    ]
    run = chromium.open_page(
        page_of(f"http://portal.example:{pages_port}", viewer, tracks),
        least=[LEAST] * len(tracks),
        seconds=120,
        args=["--host-resolver-rules=MAP *.example 127.0.0.1"],
        value="isSecureContext",
    )
    check(run, url)
    assert run.values is False
    assert {request["url"].partition("?")[0] for request in run.of(url)} == {
        address for track in tracks for name, address in track.items() if name != "type"
    }
