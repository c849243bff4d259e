"""Two services on one PostgreSQL whose server is killed and restarted under load: no job is lost."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from gooseherd.devcloud.postgres import PostgresServer
from gooseherd.domain.errors import Misconfigured

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(420)]

FILES = 40
CLIENTS = 4
"""For each service."""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A durable one, unlike that of the other tests."""
    try:
        server = PostgresServer()
    except Misconfigured as error:
        pytest.skip(str(error))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def services(make_gooseherd: Any, server: PostgresServer, tmp_path: Path) -> Iterator[list[Any]]:
    """Two, each on a state folder of its own, with one database and one folder of artifacts."""
    server.sql("CREATE DATABASE shared")
    (tmp_path / "sources").mkdir()
    made: list[Any] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(make_gooseherd(tmp_path / name))
        made[-1].extra = {
            "DATABASE_URL": server.url("shared"),
            "SYNC_DATA_DIR": str(tmp_path / "artifacts"),
            "SOURCE_FILE_ROOTS": str(tmp_path / "sources"),
            "API_ADMIN_KEY": "the key of both",
            "WORKER_MAX_LOCAL": "1",
        }
    try:
        for service in made:
            service.start()
        yield made
    finally:
        for service in made:
            service.clean_up()


class Client(threading.Thread):
    """Asks one service for one file after the other, and writes down what came."""

    def __init__(self, url: str, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._url, self._chance, self._ended = url, random.Random(number), stop
        self.answers: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.jobs: set[str] = set()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, trust_env=False, timeout=60) as http:
            while not self._ended.is_set():
                name = f"/data/t/f{self._chance.randrange(FILES)}.bed"
                try:
                    answer = http.get(name, headers={"Range": "bytes=0-15"})
                except httpx.HTTPError as error:
                    self.wrong.append(f"{name}: {type(error).__name__}")
                    continue
                self.answers[answer.status_code] += 1
                match answer.status_code:
                    case 206 if answer.content[:4] == b"\x1f\x8b\x08\x04":
                        pass
                    case 202:
                        self.jobs.add(answer.headers["location"].rpartition("/")[2].partition("?")[0])
                    case 503 if int(answer.headers.get("retry-after", "0")) > 0:
                        pass
                    case status:
                        self.wrong.append(f"{name}: {status} {answer.text[:200]}")
                time.sleep(0.01)


def test_two_services_lose_no_job_when_their_postgresql_is_killed_and_restarted_under_load(
    services: list[Any], server: PostgresServer, tmp_path: Path
) -> None:
    key = {"X-API-Key": "the key of both"}
    chance = random.Random(5)
    for number in range(FILES):
        path = tmp_path / "sources" / f"f{number}.bed"
        starts = [chance.randrange(10**8) for _ in range(2000)]
        path.write_text("".join(f"chr{at % 22 + 1}\t{at}\t{at + 10}\tn{number}\n" for at in starts))
        entry = {"dcc": "t", "local_id": path.name, "access_url": path.as_uri(), "filename": path.name}
        answer = httpx.post(f"{services[number % 2].url}/files", json=entry, headers=key, timeout=30)
        assert answer.status_code == 200, answer.text

    stop = threading.Event()
    clients = [Client(service.url, n, stop) for n in range(CLIENTS) for service in services]

    def made() -> int:
        """How many jobs are done; 0 while the server is away."""
        try:
            return int(server.sql("SELECT count(*) FROM jobs WHERE status = 'completed'", "shared"))
        except Exception:
            return 0

    def until_made(count: int) -> None:
        services[0].until(lambda: made() >= count, f"{count} jobs are done", 240)

    for client in clients:
        client.start()
    try:
        until_made(5)
        server.kill()  # as a crash
        time.sleep(2)  # longer than what is tried again at once
        server.start()
        until_made(12)
        server.kill()
        server.start()
        until_made(FILES)
    finally:
        stop.set()
        for client in clients:
            client.join(70)

    answers = sum((client.answers for client in clients), Counter[int]())
    assert [words for client in clients for words in client.wrong] == [], answers
    assert answers[503] > 0, "the server was away, and nobody noticed"

    # One job for each file, whoever asked first, and each one that a client was told of is known and done.
    states = server.sql("SELECT status, count(*) FROM jobs GROUP BY status", "shared")
    assert states == f"completed|{FILES}"
    jobs = set().union(*(client.jobs for client in clients))
    assert len(jobs) == FILES

    def status(service: Any, job: str) -> str:
        return str(httpx.get(f"{service.url}/jobs/{job}", headers=key, timeout=30).json()["status"])

    with ThreadPoolExecutor(4) as threads:
        for service in services:
            assert set(threads.map(status, [service] * FILES, sorted(jobs))) == {"completed"}
            names = [f"{service.url}/data/t/f{number}.bed" for number in range(FILES)]
            assert {answer.status_code for answer in threads.map(httpx.get, names)} == {200}
