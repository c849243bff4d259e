"""`gooseherd up` on SQLite: what it opens, shares, takes over from earlier versions, and refuses."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.servers.document_server import PROGRAM, DocumentServer

from gooseherd.domain import formats
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.store.mongo.connect import connect
from gooseherd.store.mongo.files import MongoFiles
from gooseherd.store.sql.files import SqlFiles
from gooseherd.store.sql.sqlite import open_sqlite
from gooseherd.wiring import embedded_state

pytestmark = pytest.mark.integration

_OURS = ("GOOSEHERD_", "API_", "SOURCE_", "WORKFLOW_", "WORKER_", "DATABASE_", "SYNC_", "AWS_", "ECS_")
BED = "chr1\t500\t900\nchr1\t100\t400\n"


class Up:
    """`gooseherd up` as a process."""

    def __init__(self, state: Path, **variables: object) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        environment |= {name: str(value) for name, value in variables.items()}
        self.state = state
        self.log = state.with_name(f"{state.name}.log")
        command = [
            sys.executable,
            "-m",
            "gooseherd.cli",
            "up",
            "--json",
            "--port",
            "0",
            "--state-dir",
            str(state),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--state-dir", str(state), "--allow-root", str(state.parent)],
                env={**environment, "WORKER_MAX_LOCAL": "1", "WORKER_IDLE_TIMEOUT_SECONDS": "5"},
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def ready(self) -> httpx.Client:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()[-3000:]
        key = (self.state / "admin-key").read_text().strip()
        return httpx.Client(
            base_url=json.loads(line)["url"], headers={"X-API-Key": key}, trust_env=False, timeout=60
        )

    def refused(self) -> str:
        """Why it did not start."""
        assert self.process.wait(60) == 2, self.log.read_text()[-3000:]
        return self.log.read_text()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(60) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def up() -> Iterator[Any]:
    running: list[Up] = []

    def start(*args: Any, **kwargs: Any) -> Up:
        running.append(Up(*args, **kwargs))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def listening(pid: int) -> set[int]:
    """TCP ports that the process and its children listen on."""
    sockets = set()
    for process in (pid, *children(pid)):
        for link in Path(f"/proc/{process}/fd").iterdir():
            name = str(link.readlink()) if link.is_symlink() else ""
            if name.startswith("socket:["):
                sockets.add(name[8:-1])
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def entry(number: int) -> SourceFile:
    return SourceFile(
        Dcc("t"), LocalId(f"f{number}"), f"f{number}.bam", formats.BAM, "https://example.org/x", md5="0" * 32
    )


def test_nothing_but_one_file_and_one_port_is_opened(up: Any, tmp_path: Path) -> None:
    service = up(tmp_path / "state")
    with service.ready() as http:
        ready = http.get("/readyz").json()
        assert ready["dependencies"] == {"store": "ok", "cache": "ok", "workers": "ok"}
        assert children(service.process.pid) == []
        assert listening(service.process.pid) == {http.base_url.port}
    with closing(sqlite3.connect(tmp_path / "state" / "gooseherd.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_what_only_others_need_is_not_loaded_at_the_start(up: Any, tmp_path: Path) -> None:
    service = up(tmp_path / "state")
    with service.ready():
        loaded = Path(f"/proc/{service.process.pid}/maps").read_text()
    for library in ("bson", "pymongo", "asyncpg", "pysam", "pyBigWig", "numpy", "grpc", "aiohttp", "obstore"):
        assert f"/{library}" not in loaded


@pytest.mark.slow
def test_two_services_share_a_file_a_catalog_and_artifacts(up: Any, tmp_path: Path) -> None:
    (tmp_path / "some.bed").write_text(BED)
    shared = {"DATABASE_URL": f"sqlite://{tmp_path}/shared.db", "SYNC_DATA_DIR": tmp_path / "artifacts"}
    services = [up(tmp_path / name, **shared) for name in ("one", "two")]
    one, two = (service.ready() for service in services)
    with one, two:
        file = {
            "dcc": "t",
            "local_id": "b",
            "filename": "b.bed",
            "access_url": (tmp_path / "some.bed").as_uri(),
        }
        assert one.post("/files", json=file).status_code == 200
        asked = [http.get("/data/t/b") for http in (one, two)]
        assert {answer.status_code for answer in asked} == {202}
        assert len({answer.headers["location"] for answer in asked}) == 1, "one job for both"
        deadline = time.monotonic() + 60
        while (answers := [http.get("/data/t/b") for http in (one, two)]) and time.monotonic() < deadline:
            if all(answer.status_code == 200 for answer in answers):
                break
            time.sleep(0.2)
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].content == answers[1].content
    assert not (tmp_path / "one" / "gooseherd.db").exists()
    assert not (tmp_path / "one" / "artifacts").exists()


# -- the state of earlier versions -----------------------------------------------------------------


@pytest.fixture
async def earlier_state(tmp_path: Path, needs: Any) -> Path:
    """A state folder as versions with the embedded document server left it."""
    if not PROGRAM.exists():
        needs.missing("secantusd-py")
    documents = tmp_path / "state" / "documents"
    server = DocumentServer(documents)
    db = connect(server.start(), "gooseherd")
    try:
        await MongoFiles(db).put([entry(number) for number in range(1200)])
    finally:
        await db.client.close()
        server.stop()
    return tmp_path / "state"


def test_the_catalog_of_an_earlier_version_is_taken_over_once(up: Any, earlier_state: Path) -> None:
    service = up(earlier_state)
    with service.ready() as http:
        assert http.get("/files/t/f1199").json()["access_url"] == "https://example.org/x"
        assert http.get("/files/t/f0").status_code == 200
        assert http.delete("/files/t/f7").status_code == 200
        assert children(service.process.pid) == []
    service.stop()
    assert not (earlier_state / "documents").exists()
    assert (earlier_state / "documents.taken-over" / "db").is_dir()
    with up(earlier_state).ready() as http:
        assert http.get("/files/t/f7").status_code == 404
        assert http.get("/files/t/f8").status_code == 200


async def test_without_the_servers_program_the_start_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "documents" / "db").mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    database = await open_sqlite(tmp_path / "gooseherd.db", setting="GOOSEHERD_STATE_DIR")
    try:
        with pytest.raises(Misconfigured) as caught:
            await embedded_state.take_over(tmp_path / "documents", "gooseherd", SqlFiles(database))
    finally:
        await database.close()
    assert "secantusdb==" in str(caught.value)
    assert f"mv {tmp_path}/documents {tmp_path}/documents.old" in str(caught.value)
    assert (tmp_path / "documents" / "db").is_dir()


async def test_a_folder_that_its_server_cannot_read_is_left_as_it_is(tmp_path: Path, needs: Any) -> None:
    if not PROGRAM.exists():
        needs.missing("secantusd-py")
    (tmp_path / "documents" / "db").mkdir(parents=True)
    for name in ("WiredTiger", "WiredTiger.turtle"):
        (tmp_path / "documents" / "db" / name).write_text("not a database")
    database = await open_sqlite(tmp_path / "gooseherd.db", setting="GOOSEHERD_STATE_DIR")
    try:
        with pytest.raises(Misconfigured, match=r"does not start.*server\.log"):
            await embedded_state.take_over(tmp_path / "documents", "gooseherd", SqlFiles(database))
    finally:
        await database.close()
    assert (tmp_path / "documents" / "db" / "WiredTiger").read_text() == "not a database"


# -- what it refuses, in words --------------------------------------------------------------------


def test_a_file_that_is_no_database_is_named_and_kept(up: Any, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "gooseherd.db").write_text("shopping list\n" * 100)
    words = up(state).refused()
    assert "GOOSEHERD_STATE_DIR: gooseherd.db is no SQLite database" in words
    assert "Traceback" not in words
    assert (state / "gooseherd.db").read_text().startswith("shopping list")


def test_a_folder_that_cannot_be_made_is_named(up: Any, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    words = up(tmp_path / "state", DATABASE_URL=f"sqlite://{tmp_path}/a-file/store.db").refused()
    assert "DATABASE_URL" in words
    assert "Traceback" not in words


def test_a_url_of_none_of_the_stores_names_those_there_are(up: Any, tmp_path: Path) -> None:
    words = up(tmp_path / "state", DATABASE_URL="mysql://u:s3cret@h/x").refused()
    assert "DATABASE_URL: must begin with sqlite:///, postgresql://, mongodb://" in words
    assert "s3cret" not in words
