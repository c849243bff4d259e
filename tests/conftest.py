"""The document server that tests of many rooms share: one per pytest process, a fresh database per test."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from gooseherd.devcloud.docserver import DocumentServer
from gooseherd.store.connect import Database, connect
from gooseherd.store.schema import ensure_indexes

# Neither says anything about the code: on a busy machine the first text alone takes seconds to draw.
hypothesis.settings.register_profile(
    "here", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("here")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job: what tests start would ignore Ctrl-C as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_genome_library_opens_urls() -> Iterator[None]:
    """htslib loads libcurl when it is given a URL: bare machines have none, so neither code nor tests may."""
    yield
    with Path("/proc/self/maps").open(encoding="utf-8") as maps:
        assert not [line for line in maps if "/libcurl.so" in line], "something opened a URL by pysam"


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`DATABASE_URL` if it is set, else an embedded server of this process's own.

    The server is watched by a loop in a thread of its own, so that tests may have any loop
    they like; the thread lives as long as the server, which ends with the thread that forked it.
    """
    named = os.environ.get("DATABASE_URL")
    if named:
        yield named
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="document-server", daemon=True)
    thread.start()

    directory: Path = tmp_path_factory.mktemp("documents")
    server = DocumentServer(directory)
    try:
        url = asyncio.run_coroutine_threadsafe(server.start(), loop).result(60)
        # Without a second connection per client that measures round trips: closing a client while
        # it connects leaves its socket to the collector, and here a warning is an error.
        yield url + "&serverMonitoringMode=poll"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh database with all indexes; dropped after the test."""
    db = connect(database_url, f"test_{uuid.uuid4().hex}")
    await ensure_indexes(db)
    yield db
    await db.client.drop_database(db.name)
    await db.client.close()
