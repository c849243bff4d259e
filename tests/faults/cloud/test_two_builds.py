"""Two builds side by side: the stack of deploy/cloudformation is rolled on, and back, under load."""

from __future__ import annotations

import gzip
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from tests.faults.campaign import stored
from tests.faults.cloud.conftest import SHORT_TIMES, Library

from gooseherd.devcloud.stack import StackFailed, stack_on_local_cloud
from gooseherd.store.sql import migrations

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
OLD, NEW = "build-1", "build-2"


def until(holds: Callable[[], Any], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


@dataclass
class Load:
    """Clients that register files and wait for them, each request on a connection of its own."""

    url: str
    key: str
    library: Library
    ready: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(3)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(120)

    def _run(self, number: int) -> None:
        once = httpx.Limits(max_keepalive_connections=0)
        headers = {"X-API-Key": self.key}
        with httpx.Client(
            base_url=self.url, timeout=60, trust_env=False, headers=headers, limits=once
        ) as http:
            count = 0
            while not self._over.is_set():
                count += 1
                self._one(http, f"of-{number}-{count}.bed")

    def _one(self, http: httpx.Client, name: str) -> None:
        self.library.bed(name)
        entry = {"dcc": "t", "local_id": name, "filename": name, "access_url": f"{self.library.url}/{name}"}
        response = http.post("/files", json=entry)
        self.statuses[f"register {response.status_code}"] += 1
        until(lambda: self._has(http, name), f"{name} is ready")

    def _has(self, http: httpx.Client, name: str) -> bool:
        response = http.get(f"/data/t/{name}", params={"wait": "10"})
        self.statuses[f"get {response.status_code}"] += 1
        if response.status_code not in (200, 202):
            self.unexpected.append(f"{name}: {response.text[:300]}")
        if response.status_code != 200:
            return False
        if sorted(gzip.decompress(response.content).splitlines()) != sorted(
            self.library.files[name].splitlines()
        ):
            self.wrong.append(name)
        self.ready.append(name)
        return True


@pytest.fixture
def library() -> Iterator[Library]:
    made = Library()
    yield made
    made.close()


def test_a_rolling_deploy_and_a_rollback_under_load_lose_nothing_and_mix_nothing(
    tmp_path: Path, library: Library
) -> None:
    # A store that the version before has written, with jobs in it.
    before = ROOT / "tests" / "data" / "store-schemas" / f"schema-{len(migrations.STEPS)}.sqlite.gz"
    database = tmp_path / "gooseherd.db"
    database.write_bytes(gzip.decompress(before.read_bytes()))
    url = f"sqlite:///{database}"
    settings = {**SHORT_TIMES, "WORKER_IDLE_TIMEOUT_SECONDS": "5"}
    with stack_on_local_cloud(
        ROOT / "deploy" / "cloudformation",
        tmp_path / "stack",
        settings=settings,
        builds=(OLD, NEW),
        database_url=url,
    ) as stack:
        of_old = stack.outputs()["EcsWorkerTaskDefinition"]
        with Load(stack.outputs()["ApiPublicUrl"], stack.admin_key(), library) as load:
            until(lambda: len(load.ready) >= 4, "work is under way")
            stack.update(Build=NEW)
            of_new = stack.outputs()["EcsWorkerTaskDefinition"]
            made = len(load.ready)
            until(lambda: len(load.ready) >= made + 4, "work goes on with the new build")
            launched = stack.workers()[-1]["taskDefinitionArn"]
            stack.update(Build=OLD)
            back = stack.outputs()["EcsWorkerTaskDefinition"]
            made = len(load.ready)
            until(lambda: len(load.ready) >= made + 4, "work goes on with the old one again")
        rows = [row for row in stored.jobs(url) if row["local_id"].startswith("of-")]
        workers = {task["taskArn"].rpartition("/")[2]: task["taskDefinitionArn"] for task in stack.workers()}

        # A store of the version after: its tasks do not start, and those that run go on.
        with closing(sqlite3.connect(database)) as connection, connection:
            newest = 2 + len(migrations.STEPS)
            connection.execute(
                "INSERT INTO schema_versions SELECT ?, max(applied_at) FROM schema_versions", (newest,)
            )
        with pytest.raises(StackFailed, match="deployment failed"):
            stack.update(Build=NEW)
        assert stack.service()["taskDefinition"].endswith(":3"), "the one before"
        response = httpx.get(f"{load.url}/data/t/{load.ready[0]}", headers={"X-API-Key": load.key})
        assert response.status_code == 200

    assert load.wrong == load.unexpected[:5] == []
    assert load.statuses.keys() <= {"register 201", "register 200", "get 200", "get 202"}, load.statuses
    assert {row["status"] for row in rows} == {"completed"}
    assert len(rows) == len(load.ready) == len(library.files)
    attempts = [attempt for row in rows for attempt in row["attempts"]]
    # Whose worker was being launched, or was on its way to it, as its API process left, or is of the other
    # build while there may be no more: tried again.
    reasons = Counter(attempt["reason"] for attempt in attempts)
    again = {"launch_failed", "no_capacity", "worker_lost", "lease_expired"}
    assert reasons.keys() <= {"published", "adopted", *again}, reasons
    assert reasons["published"] + reasons["adopted"] == len(rows)
    builds = {of_old: OLD, of_new: NEW, back: OLD}
    assert len(builds) == 3
    assert launched == of_new
    assert set(workers.values()) == set(builds)
    worked = [attempt for attempt in attempts if attempt["worker_id"] and attempt.get("dispatched")]
    assert {
        (attempt["dispatched"]["build"], builds[workers[attempt["worker_id"]]]) for attempt in worked
    } == {(OLD, OLD), (NEW, NEW)}
