"""The server behind store/mongo is killed: acknowledged writes are kept, and callers get errors of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.servers.mongod import MongoServer

from gooseherd.domain import formats
from gooseherd.domain.errors import StoreUnavailable
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.store.mongo.connect import connect, ping, server_pid
from gooseherd.store.mongo.files import MongoFiles

if TYPE_CHECKING:
    from conftest import Needs

pytestmark = pytest.mark.fault


@pytest.fixture
def server(tmp_path: Path, needs: Needs) -> Iterator[MongoServer]:
    missing = MongoServer.missing()
    if missing is not None:
        needs.missing(missing)
    server = MongoServer(tmp_path / "mongod")
    server.start()
    yield server
    server.stop()


def quick(url: str) -> str:
    return url.replace("serverSelectionTimeoutMS=60000", "serverSelectionTimeoutMS=500")


def entry(number: int) -> SourceFile:
    return SourceFile(
        Dcc("t"), LocalId(f"f{number:06}"), "x.bam", formats.BAM, "https://example.org/x", md5="0" * 32
    )


async def test_no_entry_that_was_acknowledged_is_lost_when_the_server_is_killed_while_writing(server):
    db = connect(quick(server.url), "kept")
    files = MongoFiles(db)
    acknowledged: set[str] = set()
    numbers = iter(range(1_000_000))
    done = asyncio.Event()

    async def write() -> None:
        for number in numbers:
            if done.is_set():
                return
            with suppress(StoreUnavailable):
                await files.put([entry(number)])
                acknowledged.add(entry(number).name)

    async def until(count: int) -> None:
        deadline = asyncio.get_running_loop().time() + 60
        while len(acknowledged) < count:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)

    writers = [asyncio.create_task(write()) for _ in range(4)]
    for _ in range(2):
        await until(len(acknowledged) + 60)
        await asyncio.to_thread(server.kill)
        server.start()
    await until(len(acknowledged) + 40)  # the same client goes on
    done.set()
    await asyncio.gather(*writers)
    kept = {f"{document['dcc']}/{document['local_id']}" for document in await db["files"].find().to_list()}
    assert acknowledged <= kept
    await db.client.close()


async def test_a_server_that_died_is_at_most_unavailable_until_it_is_back(server):
    db = connect(quick(server.url), "any")
    await ping(db)
    old = server.pid
    server.kill()
    with pytest.raises(StoreUnavailable):
        await ping(db)
    server.start()
    async with asyncio.timeout(60):
        while True:
            with suppress(StoreUnavailable):  # Nothing else comes out; how often depends on the machine.
                await ping(db)
                break
    assert await server_pid(db) not in (None, old)
    await db.client.close()
