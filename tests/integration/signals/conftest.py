"""One gooseherd at work: what it logs, counts and traces is looked at while it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.faults.conftest import Gooseherd

LINES = 20_000
SECRET_TOKEN = "s3cr3t-word-of-a-query"
ADMIN_KEY = "the-admin-key-of-this-run"


def write_bed(path: Path, lines: int = LINES) -> Path:
    """Unsorted intervals."""
    path.write_text("".join(f"chr1\t{(n * 7919) % 1_000_000}\t{n + 1_000_001}\n" for n in range(lines)))
    return path


class Busy(Gooseherd):
    """Does a round of everything that a service is asked for."""

    rounds = 0

    @property
    def admin(self) -> dict[str, str]:
        return {"X-API-Key": ADMIN_KEY}

    def job(self, job_id: str) -> dict[str, Any]:
        response = httpx.get(f"{self.url}/jobs/{job_id}", headers=self.admin, timeout=30)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def prepare(self, name: str, content: bytes | None = None) -> str:
        """A new file, registered; its address."""
        path = self.sources / name
        if content is None:
            write_bed(path)
        else:
            path.write_bytes(content)
        entry = {"dcc": "t", "local_id": name, "access_url": path.as_uri(), "filename": name}
        response = httpx.post(f"{self.url}/files", json=entry, headers=self.admin, timeout=30)
        assert response.status_code in (200, 201), response.text
        return f"t/{name}"

    def round(self) -> None:
        """One file that is made and read, one that cannot be made, and requests that are refused."""
        self.rounds += 1
        with httpx.Client(base_url=self.url, timeout=60) as client:
            good = self.prepare(f"good-{self.rounds}.bed")
            assert client.get(f"/data/{good}?wait=30").status_code == 200
            assert client.get(f"/data/{good}", headers={"Range": "bytes=0-99"}).status_code == 206
            assert client.get(f"/data/{good}", headers={"Range": "bytes=0-99"}).status_code == 206
            assert client.get(f"/index/{good}").status_code == 200
            assert client.get(f"/data/{good}?raw=true").status_code == 200
            bad = self.prepare(f"bad-{self.rounds}.bed", f"chr1\tx\t{self.rounds}\n".encode())
            assert client.get(f"/data/{bad}?wait=30").status_code == 422
            assert client.get("/data/t/nothing").status_code == 404
            assert client.get("/jobs", headers={"X-API-Key": "wrong"}).status_code == 401
            assert client.get(f"/files?token={SECRET_TOKEN}").status_code in (200, 401)
            for path in ("/queue", "/jobs", "/fleet", "/files", "/readyz", "/metrics"):
                assert client.get(path, headers=self.admin).status_code == 200, path


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    """It logs JSON, and its reconciler looks every second."""
    service = Busy(tmp_path_factory.mktemp("busy"))
    service.extra = {
        "API_ADMIN_KEY": ADMIN_KEY,
        "GOOSEHERD_LOG_JSON": "true",
        "GOOSEHERD_LOG_LEVEL": "DEBUG",
        "WORKFLOW_RECONCILE_SECONDS": "1",
    }
    try:
        service.start()
        yield service
    finally:
        service.clean_up()


@pytest.fixture
def at_work(busy: Busy) -> Iterator[Busy]:
    """The same, doing round after round for as long as the test lasts."""
    stop, failures = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            try:
                busy.round()
            except Exception as error:
                failures.append(error)
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield busy
    finally:
        stop.set()
        thread.join()
    assert failures == []
