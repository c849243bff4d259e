"""Three requesters on two workers: one with a batch, one with slow sources, and one who just wants a file."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gooseherd.client import GooseherdClient

if TYPE_CHECKING:
    from tests.faults.conftest import Gooseherd

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]

FILES = 500
SLOW, THIRD = {"X-Forwarded-For": "192.0.2.2"}, {"X-Forwarded-For": "192.0.2.3"}
"""Addresses as a proxy in front sees them. The batch is the admin's."""
WATCHED = 25
_NEAR = 3 * WATCHED
"""What is watched is next in the queue, but for slow files, of which a hundred and more stand before it."""


class _Drip(BaseHTTPRequestHandler):
    """A source of a MiB at 2 KiB a second."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 20))
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"chr1\t1\t9\n" * 100)
                time.sleep(0.5)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def slow_source() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Drip)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def service(make_gooseherd: type[Gooseherd], tmp_path: Path) -> Iterator[Gooseherd]:
    it = make_gooseherd(tmp_path)
    it.extra = {
        "API_TRUSTED_PROXIES": "1",
        "SOURCE_ALLOW_HTTP": "true",
        "SOURCE_ALLOW_NETWORKS": "127.0.0.1/32",
        "WORKER_IDLE_TIMEOUT_SECONDS": "120",
        # What starts here starts because something has woken the dispatcher, and waits for no tick: a worker
        # that is free is given the next job at once, however long a second of this machine is.
        "WORKFLOW_TICK_SECONDS": "3600",
    }
    it.start()
    yield it
    it.clean_up()


def write_bed(path: Path) -> dict[str, Any]:
    chance = random.Random(path.name)
    starts = [chance.randrange(10**8) for _ in range(300)]
    path.write_text("".join(f"chr{at % 22 + 1}\t{at}\t{at + 10}\t{path.stem}\n" for at in starts))
    return {"dcc": "t", "local_id": path.name, "filename": path.name, "access_url": path.as_uri()}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_third_file_starts_next_and_no_order_is_told_that_does_not_happen(
    service: Gooseherd, slow_source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = (service.state / "admin-key").read_text().strip()
    with GooseherdClient(service.url, key) as admin:
        entries = [write_bed(service.sources / f"many{number}.bed") for number in range(FILES)]
        slow = [
            {
                "dcc": "t",
                "local_id": f"slow{number}.bed",
                "filename": f"slow{number}.bed",
                "access_url": f"{slow_source}/slow{number}.bed",
            }
            for number in range(FILES)
        ]
        third = write_bed(service.sources / "third.bed")
        admin.import_files(json.dumps(entry).encode() for entry in (*entries, *slow, third))
        # Slow ones first: they could have both workers.
        with ThreadPoolExecutor(8) as threads:
            asked = threads.map(lambda entry: service.ask(f"t/{entry['local_id']}", headers=SLOW), slow)
            assert {answer.status_code for answer in asked} == {202}
        admin.create_batch([f"t/{entry['local_id']}" for entry in entries])
        service.until(
            lambda: sum(1 for _ in admin.jobs(status="completed", limit=5)) >= 5, "the batch is under way"
        )

        answer = service.ask("t/third.bed", headers=THIRD)
        assert answer.status_code == 202, answer.text
        job = service.ended(answer.json()["job_id"])
        assert job["status"] == "completed", job
        asked_at, started_at = moment(job["created_at"]), moment(job["started_at"])
        # What the queue says now of those that are next, and then how they start.
        waiting = [one for one in admin.jobs(status="pending") if "many" in one["local_id"]]
        views = [admin.job(one["job_id"]) for one in waiting[-WATCHED:]]  # The newest are listed first.
        told = [view for view in views if view["position"] is not None]
        starts = {one["job_id"]: moment(service.ended(one["job_id"], 200)["started_at"]) for one in told}
        of_slow = [one for one in admin.jobs(status="running") if "slow" in one["local_id"]]
        started = [
            moment(one["started_at"])
            for status in ("completed", "running")
            for one in admin.jobs(status=status)
            if one["local_id"] != "third.bed"
        ]
    before = sum(asked_at < at < started_at for at in started)
    with capsys.disabled():
        print(
            f"\n  the third's file started after {(started_at - asked_at).total_seconds():.2f} s,"
            f" {before} others before it; {len(told)} positions told"
        )
    # In starts, whatever the machine's pace: of two workers one was about to take the next, one is slow. Each
    # start is as far from the next as a small file takes, so that few of them are seconds.
    assert before <= 2
    assert len(of_slow) == 1
    assert len(told) >= 5
    # While no slow file runs, because one is about to be tried again, the slow ones are next and stand before
    # many of these; what is told then and what is told at other times are of different queues.
    near, far = ([one for one in told if (one["position"] < _NEAR) is wanted] for wanted in (True, False))
    for group in (near, far):
        by_position = [starts[one["job_id"]] for one in sorted(group, key=lambda one: one["position"])]
        assert by_position == sorted(by_position)
