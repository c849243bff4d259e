"""The embedded document server survives kills of either side and belongs to one process at a time."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from gooseherd import wiring
from gooseherd.domain.errors import Misconfigured, StoreUnavailable
from gooseherd.store import document_server
from gooseherd.store.document_server import DocumentServer
from gooseherd.store.mongo.connect import Database, connect, ping, server_pid

pytestmark = pytest.mark.fault

OWNER = """
import asyncio, shutil, sys
from pathlib import Path
from gooseherd.store.document_server import DocumentServer
from functools import partial

async def own():
    if sys.argv[2] == "no setpriv":
        shutil.which = lambda name: None
    server = DocumentServer(Path(sys.argv[1]))
    print(await server.start(), server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(own())
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DocumentServer]:
    server = DocumentServer(tmp_path / "documents")
    await server.start()
    yield server
    await server.stop()


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited for too long"
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return b"\nState:\tZ" not in Path(f"/proc/{pid}/status").read_bytes()


def restarted(server: DocumentServer, old: int | None) -> bool:
    return server.pid not in (None, old)


async def insert(db: Database, number: int) -> bool:
    try:
        await db["numbers"].insert_one({"_id": number})
    except Exception:
        return False
    return True


async def test_nothing_acknowledged_is_lost_when_the_server_is_killed_while_writing(server):
    db = connect(server.url, "kept")
    acknowledged: set[int] = set()
    numbers = iter(range(1_000_000))
    kills = 0

    def reached(count: int) -> bool:
        return len(acknowledged) >= count

    async def write() -> None:
        for number in numbers:
            if kills == 2 and len(acknowledged) >= enough:
                return
            if await insert(db, number):
                acknowledged.add(number)

    enough = 10_000_000
    writers = [asyncio.create_task(write()) for _ in range(4)]
    for _ in range(2):
        before = len(acknowledged)
        await until(partial(reached, before + 60))
        old = server.pid
        os.kill(old, signal.SIGKILL)
        await until(partial(restarted, server, old))
        kills += 1
    enough = len(acknowledged) + 40  # the same client goes on after the last kill
    await asyncio.gather(*writers)
    kept = {document["_id"] for document in await db["numbers"].find().to_list()}
    assert acknowledged <= kept
    await db.client.close()


async def test_a_directory_has_one_owner(server, tmp_path):
    with pytest.raises(Misconfigured, match="another gooseherd process"):
        await DocumentServer(tmp_path / "documents").start()
    db = connect(server.url, "any")
    await ping(db)
    await db.client.close()


@pytest.mark.parametrize("how", ["with setpriv", "no setpriv"])
async def test_a_new_owner_starts_right_after_the_old_one_was_killed(tmp_path, monkeypatch, how):
    monkeypatch.setattr(document_server, "_ORPHAN_SECONDS", 6.0)
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_path), how, stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    assert owner.stdout is not None
    url, pid = (await owner.stdout.readline()).decode().split()
    db = connect(url, "kept")
    assert await insert(db, 1)
    await db.client.close()
    owner.kill()
    await owner.wait()

    heir = DocumentServer(tmp_path)
    try:
        db = connect(await heir.start(), "kept")
        assert not alive(int(pid))
        assert await db["numbers"].find_one({"_id": 1}) == {"_id": 1}
        await db.client.close()
    finally:
        await heir.stop()


async def test_the_server_ends_with_its_owner(tmp_path):
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_path), "with setpriv", stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    assert owner.stdout is not None
    pid = int((await owner.stdout.readline()).split()[1])
    owner.kill()
    await owner.wait()
    await until(lambda: not alive(pid))


async def test_stopping_ends_the_server_and_starting_again_finds_everything(tmp_path):
    server = DocumentServer(tmp_path)
    db = connect(await server.start(), "kept")
    assert await server_pid(db) == server.pid
    assert await insert(db, 1)
    pid = server.pid
    await db.client.close()
    await server.stop()
    await server.stop()
    assert server.pid is None
    assert pid is not None
    assert not alive(pid)
    db = connect(await server.start(), "kept")
    assert await db["numbers"].count_documents({}) == 1
    await db.client.close()
    await server.stop()


async def test_writes_are_durable_by_the_url_alone(tmp_path, server):
    assert server.url.endswith("/?w=majority&journal=true&retryWrites=false")
    assert server.url.startswith("mongodb://127.0.0.1:")


async def test_a_taken_port_is_told_and_nothing_stays_behind(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = DocumentServer(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(Misconfigured, match="document server port"):
            await server.start()
    assert server.pid is None
    other = DocumentServer(tmp_path)
    await other.start()
    await other.stop()


async def test_a_server_that_does_not_come_up_is_told_with_its_last_words(tmp_path):
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "WiredTiger").write_text("not a database")
    (tmp_path / "db" / "WiredTiger.turtle").write_text("not a database")
    with pytest.raises(Misconfigured, match=r"does not start: .*WiredTiger"):
        await DocumentServer(tmp_path).start()
    assert "WiredTiger" in (tmp_path / "server.log").read_text()


async def answers(server: DocumentServer) -> bool:
    db = connect(server.url + "&serverSelectionTimeoutMS=200", "any")
    try:
        await ping(db)
    except StoreUnavailable:
        return False
    finally:
        await db.client.close()
    return True


async def test_one_that_does_not_come_back_in_time_is_tried_until_it_does(server, monkeypatch, caplog):
    monkeypatch.setattr(document_server, "_LONGEST_PAUSE_SECONDS", 0.2)
    assert server.trouble is None
    patient, server._start_seconds = server._start_seconds, 0.0
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: caplog.text.count("document server does not come back") >= 3)
    await until(lambda: "next try in 0.2 s" in (server.trouble or ""))
    trouble: str | None = server.trouble
    assert trouble is not None
    assert "/" not in trouble
    server._start_seconds = patient
    await until(lambda: server.trouble is None)
    assert await answers(server)


async def test_one_that_keeps_dying_is_started_every_time(server, monkeypatch):
    monkeypatch.setattr(document_server, "_LONGEST_PAUSE_SECONDS", 0.1)
    for _ in range(7):
        old = server.pid
        os.kill(old, signal.SIGKILL)
        await until(partial(restarted, server, old))
        await until(lambda: server.trouble is None)
    assert await answers(server)


async def test_one_that_is_down_does_not_keep_its_owner_from_ending(server, monkeypatch):
    monkeypatch.setattr(document_server, "_LONGEST_PAUSE_SECONDS", 3600.0)
    monkeypatch.setattr(document_server, "_pause", lambda _: 3600.0)
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: "next try in 3600 s" in (server.trouble or ""))
    async with asyncio.timeout(30):
        await server.stop()
    assert server.pid is None


async def test_readiness_says_that_it_is_being_tried_again(server, monkeypatch):
    async def pinged() -> None:
        raise StoreUnavailable("ping")

    trouble = "the document server is down, 3 times in a row; next try in 2 s"
    result = await wiring._readiness(database_ping=pinged, store_trouble=lambda: trouble, cache=None)
    assert result["store"] == trouble
    result = await wiring._readiness(database_ping=pinged, store_trouble=lambda: None, cache=None)
    assert result["store"] == "store unavailable during ping"


async def test_a_store_that_died_is_at_most_unavailable_until_it_is_back(server):
    db = connect(server.url + "&serverSelectionTimeoutMS=200", "any")
    await ping(db)
    old = server.pid
    os.kill(old, signal.SIGKILL)
    async with asyncio.timeout(60):
        while True:
            with suppress(StoreUnavailable):  # Nothing else comes out; how often depends on the machine.
                await ping(db)
                if server.pid not in (None, old):
                    break
    await db.client.close()
