"""The stores that tests of many rooms share: one server per pytest process, a fresh database per test."""

from __future__ import annotations

import os
import signal
import sqlite3
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import hypothesis
import pytest
from pymongo import MongoClient
from sqlalchemy import delete, select, update

from gooseherd.devcloud.postgres import PostgresServer
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.ports.access import AccessTimes
from gooseherd.domain.ports.batches import BatchStore
from gooseherd.domain.ports.keys import KeyStore
from gooseherd.domain.ports.reservations import ReservationStore
from gooseherd.domain.ports.store import FileStore, JobStore
from gooseherd.domain.ports.usage import UsageStore
from gooseherd.store.mongo.access import MongoAccessTimes
from gooseherd.store.mongo.batches import MongoBatches
from gooseherd.store.mongo.clock import StoreClock
from gooseherd.store.mongo.connect import Database, connect
from gooseherd.store.mongo.files import MongoFiles
from gooseherd.store.mongo.jobs import MongoJobs
from gooseherd.store.mongo.keys import MongoKeys
from gooseherd.store.mongo.reservations import MongoReservations
from gooseherd.store.mongo.schema import ensure_indexes
from gooseherd.store.mongo.usage import MongoUsage
from gooseherd.store.sql.access import SqlAccessTimes
from gooseherd.store.sql.batches import SqlBatches
from gooseherd.store.sql.connect import open_database
from gooseherd.store.sql.database import SqlDatabase
from gooseherd.store.sql.files import SqlFiles
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.keys import SqlKeys
from gooseherd.store.sql.reservations import SqlReservations
from gooseherd.store.sql.schema import batches as batches_table
from gooseherd.store.sql.schema import jobs as jobs_table
from gooseherd.store.sql.schema import usage as usage_table
from gooseherd.store.sql.usage import SqlUsage
from tests import dropped_sockets, made_once
from tests.cloud_key import CLOUD_KEY
from tests.servers.mongod import MongoServer

if TYPE_CHECKING:
    from conftest import Needs


made_once.make_once()
dropped_sockets.close_when_dropped()

# Neither says anything about the code: on a busy machine the first text alone takes seconds to draw.
hypothesis.settings.register_profile(
    "here", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
# Before a change lands everybody draws the same examples: whether it lands is no matter of luck.
# By hand, and in `./dev long`, they are drawn anew in each run.
hypothesis.settings.register_profile(
    "same everywhere", hypothesis.settings.get_profile("here"), derandomize=True, database=None
)
hypothesis.settings.load_profile("same everywhere" if os.environ.get("GOOSEHERD_TESTS_COMPLETE") else "here")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job: what tests start would ignore Ctrl-C as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_genome_library_opens_urls() -> Iterator[None]:
    """htslib loads libcurl when it is given a URL: bare machines have none, so neither code nor tests may.

    That mongod of the tests does is nothing to this process.
    """
    yield
    with Path("/proc/self/maps").open(encoding="utf-8") as maps:
        assert not [line for line in maps if "/libcurl.so" in line], "something opened a URL by pysam"


@pytest.fixture(autouse=True)
def _the_environment_stays() -> Iterator[None]:
    """What one test leaves there another would come to need, or be misled by, in one order only."""
    before = _environment()
    yield
    if (after := _environment()) != before:
        os.environ.clear()
        os.environ.update(before)
        changed = sorted({name for name, _ in before.items() ^ after.items()})
        pytest.fail(f"the test leaves another environment behind: {', '.join(changed)}")


_NOT_OF_TESTS = ("PYTEST_CURRENT_TEST", "_RJEM_MALLOC_CONF")
"""Of pytest, and of polars when it is imported."""


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _NOT_OF_TESTS}


@pytest.fixture
def cloud_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's libraries find the key of the local clouds of this process."""
    for name, value in CLOUD_KEY.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory, needs: Any) -> Iterator[str]:
    """A MongoDB: `DATABASE_URL` if it is set, else a server of this process's own."""
    named = os.environ.get("DATABASE_URL")
    if named:
        yield named
        return
    missing = MongoServer.missing()
    if missing is not None:
        needs.missing(f"{missing}; DATABASE_URL may name a MongoDB")
    server = MongoServer(tmp_path_factory.mktemp("mongod"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def mongodb_version(database_url: str) -> str:
    """Such as `MongoDB 6.0.5`."""
    with MongoClient[dict[str, Any]](database_url) as client:
        return f"MongoDB {client.server_info()['version']}"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh database with all indexes."""
    db = connect(database_url, f"test_{uuid.uuid4().hex}")
    try:
        await ensure_indexes(db)
        yield db
    finally:
        await _leave(db)


async def _leave(db: Database) -> None:
    """Close the client; on a server that outlives the tests drop the database too."""
    try:
        if os.environ.get("DATABASE_URL"):
            await db.client.drop_database(db.name)
    finally:
        await db.client.close()


# -- every store -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres(needs: Needs) -> Iterator[PostgresServer]:
    """A PostgreSQL server of this process's own. It need not survive a power cut, so it is fast."""
    try:
        server = PostgresServer(durable=False)
    except Misconfigured as error:
        needs.missing(str(error))
    try:
        server.start()
        yield server
    finally:
        server.stop()


class StoreUnderTest(Protocol):
    """One store, empty at first, and what tests must do behind its back."""

    @property
    def url(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def jobs(self) -> JobStore: ...

    @property
    def files(self) -> FileStore: ...

    @property
    def batches(self) -> BatchStore: ...

    @property
    def access(self) -> AccessTimes: ...

    @property
    def reservations(self) -> ReservationStore: ...

    @property
    def keys(self) -> KeyStore: ...

    @property
    def usage(self) -> UsageStore: ...

    async def records(self) -> dict[str, dict[str, Any]]:
        """All jobs as they are stored, by id."""
        ...

    async def set_created_at(self, moment: datetime) -> None:
        """All jobs are from that moment."""
        ...

    async def forget_jobs(self) -> None:
        """Remove all jobs and batches."""
        ...


class MongoStore:
    def __init__(self, url: str, database: Database) -> None:
        self.url, self.name, self.database = url, database.name, database
        clock = StoreClock(database)
        self.jobs, self.files = MongoJobs(database, clock=clock), MongoFiles(database)
        self.batches = MongoBatches(database, clock=clock)
        self.access = MongoAccessTimes(database, clock=clock)
        self.keys, self.usage = MongoKeys(database, clock=clock), MongoUsage(database, clock=clock)
        self.reservations = MongoReservations(database, clock=clock)

    async def records(self) -> dict[str, dict[str, Any]]:
        # Whether its usage is counted yet is nobody's business but the usage store's.
        found = self.database["jobs"].find(projection={"usage_due": 0})
        return {document["_id"]: document for document in await found.to_list()}

    async def set_created_at(self, moment: datetime) -> None:
        await self.database["jobs"].update_many({}, {"$set": {"created_at": moment}})

    async def forget_jobs(self) -> None:
        for name in ("jobs", "batches", "batch_members", "usage"):
            await self.database[name].delete_many({})


class SqlStore:
    def __init__(self, url: str, name: str, database: SqlDatabase) -> None:
        self.url, self.name, self.database = url, name, database
        self.jobs, self.files = SqlJobs(database), SqlFiles(database)
        self.batches, self.access = SqlBatches(database), SqlAccessTimes(database)
        self.keys, self.usage = SqlKeys(database), SqlUsage(database)
        self.reservations = SqlReservations(database)

    async def records(self) -> dict[str, dict[str, Any]]:
        rows = await self.database.read(
            "records", lambda tx: tx.connection.execute(select(jobs_table)).mappings().all()
        )
        return {
            row["id"]: {**row, "progress": {**row["progress"], "percent": row["percent"]}} for row in rows
        }

    async def set_created_at(self, moment: datetime) -> None:
        await self._write(update(jobs_table).values(created_at=moment))

    async def forget_jobs(self) -> None:
        await self._write(delete(batches_table))
        await self._write(delete(usage_table))
        await self._write(delete(jobs_table))

    async def _write(self, statement: Any) -> None:
        await self.database.write("test", lambda tx: tx.connection.execute(statement).close())


@pytest.fixture(params=["sqlite", "postgresql", "mongo"])
def store_kind(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> str:
    """Every store in turn; the run's last lines say which it had."""
    kind: str = request.param
    if kind == "sqlite":
        record_property("store", f"SQLite {sqlite3.sqlite_version}")
    elif kind == "postgresql":
        record_property("store", request.getfixturevalue("postgres").version)
    else:
        record_property("store", request.getfixturevalue("mongodb_version"))
    return kind


@pytest.fixture
def open_store(
    store_kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], AbstractAsyncContextManager[StoreUnderTest]]]:
    """Opens an empty store, for as long as the block lasts."""
    name = f"test_{uuid.uuid4().hex}"
    if store_kind == "mongo":
        database_url = request.getfixturevalue("database_url")
        yield lambda: _open_mongo(database_url, name)
    elif store_kind == "sqlite":
        yield lambda: _open_sql(f"sqlite:///{tmp_path}/store.sqlite", name)
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        server.sql(f"CREATE DATABASE {name}")
        yield lambda: _open_sql(server.url(name), name)
        server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def _open_mongo(url: str, name: str) -> AsyncIterator[StoreUnderTest]:
    db = connect(url, name)
    try:
        await ensure_indexes(db)
        yield MongoStore(url, db)
    finally:
        await _leave(db)


@asynccontextmanager
async def _open_sql(url: str, name: str) -> AsyncIterator[StoreUnderTest]:
    database = await open_database(url, name)
    try:
        yield SqlStore(url, name, database)
    finally:
        await database.close()


@pytest.fixture
async def store(
    open_store: Callable[[], AbstractAsyncContextManager[StoreUnderTest]],
) -> AsyncIterator[StoreUnderTest]:
    """An empty store of each kind."""
    async with open_store() as opened:
        yield opened


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which stores this run's contract tests had."""
    covered = Counter(
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "store"
    )
    for store, tests in sorted(covered.items()):
        terminalreporter.write_line(f"store covered: {store} ({tests} tests)")
