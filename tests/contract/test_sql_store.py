"""SQLite and PostgreSQL as the store: what they refuse and how, what they promise, which indexes they use."""

from __future__ import annotations

import asyncio
import gc
import gzip
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, insert, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from gooseherd.domain import formats
from gooseherd.domain.batch import BatchId, MemberChange, MemberState, NewBatch
from gooseherd.domain.errors import InvalidInput, Misconfigured, StoreUnavailable
from gooseherd.domain.job import Fence, JobId, Owner, Requester, Submission, WorkerId
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.ports.batches import BatchLimits, BatchQuery
from gooseherd.domain.ports.store import FileQuery, JobQuery, StoreRefused
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.store.sql import filesystem, migrations, postgres
from gooseherd.store.sql.batches import SqlBatches
from gooseherd.store.sql.columns import to_milliseconds
from gooseherd.store.sql.connect import open_database
from gooseherd.store.sql.database import Transaction, ping
from gooseherd.store.sql.files import SqlFiles
from gooseherd.store.sql.filesystem import file_system
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.migrations import bring_up_to_date, schema_versions
from gooseherd.store.sql.postgres import PostgresDatabase, open_postgres
from gooseherd.store.sql.rows import new_job
from gooseherd.store.sql.schema import jobs as jobs_table
from gooseherd.store.sql.schema import metadata
from gooseherd.store.sql.sqlite import SqliteDatabase, open_sqlite

pytestmark = pytest.mark.integration

LONG = timedelta(hours=1)
SCHEMAS = Path(__file__).parents[1] / "data" / "store-schemas"


def entry(local_id: str, filename: str = "reads.bam") -> SourceFile:
    return SourceFile(
        Dcc("4dn"), LocalId(local_id), filename, formats.BAM, "https://example.org/f", md5="0" * 32
    )


def submission(number: int) -> Submission:
    return Submission(
        JobId(f"j{number:05}"), WorkflowKey(f"k{number:05}"), entry("f"), Recipe("bam", "1", formats.BAM),
        Priority.NORMAL, Requester("anne"),
    )  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.sqlite"
        return
    server = request.getfixturevalue("postgres")
    name = f"sql_{abs(hash(request.node.nodeid)):x}"
    server.sql(f"CREATE DATABASE {name}")
    yield server.url(name)
    server.sql(f"DROP DATABASE {name} WITH (FORCE)")


# -- where it may be -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://u:s3cret@host/x",
        "sqlite://",
        "sqlite:///",
        "sqlite://relative/s3cret.sqlite",
        "postgresql://u:s3cret@host:port/x",
        "postgresql://u:s3cret@[host/x",
        "postgresql://u:s3cret@host/x?target_session_attrs=none-of-these",
    ],
)
async def test_a_url_that_cannot_be_used_is_told_without_repeating_it(url):
    with pytest.raises(Misconfigured) as caught:
        await open_database(url, "any")
    assert caught.value.setting == "DATABASE_URL"
    assert "s3cret" not in str(caught.value)


async def test_a_server_that_is_away_is_unavailable(tmp_path):
    with pytest.raises(StoreUnavailable, match="open"):
        await open_database(f"postgresql://gooseherd@/any?host={tmp_path}", "any")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace("/sql_", "/none_"), "does not exist"),
        (lambda url: url.replace("gooseherd@", "nobody_here@"), "does not exist"),
    ],
    ids=["database", "role"],
)
async def test_what_a_server_refuses_for_good_names_the_setting(postgres, change, words):
    postgres.sql("CREATE DATABASE sql_refusals")
    with pytest.raises(Misconfigured, match=words) as caught:
        await open_database(change(postgres.url("sql_refusals")), "any")
    assert caught.value.setting == "DATABASE_URL"
    postgres.sql("DROP DATABASE sql_refusals")


async def test_a_url_without_a_database_gets_the_one_that_is_named(postgres):
    postgres.sql("CREATE DATABASE sql_named")
    database = await open_database(postgres.url(""), "sql_named")
    try:
        found = await database.read("t", lambda tx: tx.connection.scalar(text("SELECT current_database()")))
        assert found == "sql_named"
    finally:
        await database.close()
    postgres.sql("DROP DATABASE sql_named")


@pytest.mark.parametrize("content", [b"SQLite format 3\0 and then nothing of the kind" * 100, b"text " * 999])
async def test_a_file_that_is_no_database_is_named(tmp_path, content):
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=r"store\.sqlite is no SQLite database") as caught:
        await open_sqlite(path, setting="THE_SETTING")
    assert caught.value.setting == "THE_SETTING"
    assert path.read_bytes() == content


async def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "store.sqlite"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(Misconfigured, match="another program's"):
        await open_sqlite(path, setting="X")
    assert path.read_bytes() == before


async def test_another_programs_tables_are_left_alone(postgres):
    postgres.sql("CREATE DATABASE sql_theirs")
    postgres.sql("CREATE TABLE jobs (x int)", "sql_theirs")
    with pytest.raises(Misconfigured, match="another program"):
        await open_database(postgres.url("sql_theirs"), "any")
    postgres.sql("DROP DATABASE sql_theirs")


OPEN = """
import asyncio, sys
from pathlib import Path
from gooseherd.domain.errors import GooseherdError
from gooseherd.store.sql.sqlite import open_sqlite
try:
    asyncio.run(open_sqlite(Path(sys.argv[1]), setting="X"))
except GooseherdError as error:
    print(error)
"""


def opened_without_privileges(path: Path) -> str:
    """What a process says that may write only what its permissions allow, also when tests run as root."""
    setpriv = shutil.which("setpriv")
    unprivileged = [setpriv, "--bounding-set=-all"] if setpriv else []
    done = subprocess.run(
        [*unprivileged, sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("there", [False, True], ids=["no file yet", "a file"])
async def test_a_folder_that_cannot_be_written_is_named(tmp_path, there):
    folder = tmp_path / "state"
    folder.mkdir()
    if there:
        await (await open_sqlite(folder / "store.sqlite", setting="X")).close()
        (folder / "store.sqlite").chmod(0o444)
    folder.chmod(0o555)
    try:
        assert re.search(r"X: store\.sqlite and its folder must be writable", opened_without_privileges(
            folder / "store.sqlite"
        ))  # fmt: skip
    finally:
        folder.chmod(0o755)


async def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="cannot be made"):
        await open_sqlite(tmp_path / "file" / "store.sqlite", setting="X")


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:26 / /home rw - nfs4 server:/home rw
31 30 0:27 / /home/me/scratch\\040disk rw - xfs /dev/sdb rw
32 22 0:28 / /mnt rw - tmpfs none rw
33 22 0:29 / /mnt rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib/gooseherd", "ext4"),
        ("/home/me/state", "nfs4"),
        ("/homes", "ext4"),
        ("/home/me/scratch disk/state", "xfs"),
        ("/mnt/x", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount(folder, kind):
    assert file_system(Path(folder), MOUNTS) == kind


async def test_a_network_file_system_is_refused_with_what_to_do(tmp_path, monkeypatch):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 0:1 / {tmp_path} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr(filesystem, "_MOUNTS", mounts)
    with pytest.raises(Misconfigured, match=r"network file system \(nfs4\).*local disk"):
        await open_sqlite(tmp_path / "state" / "store.sqlite", setting="X")
    assert not (tmp_path / "state").exists()


# -- what it promises ----------------------------------------------------------------------------


async def test_every_connection_is_durable_and_checks_references(tmp_path):
    database = await open_sqlite(tmp_path / "store.sqlite", setting="X")

    def pragmas(tx: Transaction) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [tx.connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await database.write("t", pragmas) == ["wal", 2, 1]
    assert await database.read("t", pragmas) == ["wal", 2, 1]
    await database.close()


async def test_a_file_that_another_process_holds_is_read_and_not_written(tmp_path):
    database = await open_sqlite(tmp_path / "store.sqlite", setting="X", busy_seconds=0.1)
    jobs = SqlJobs(database)
    await jobs.claim_workflow(submission(1))
    with closing(sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="claim_workflow"):
            await jobs.claim_workflow(submission(2))
        assert await jobs.get(JobId("j00001")) is not None
        other.execute("ROLLBACK")
    assert (await jobs.claim_workflow(submission(2))).created
    await database.close()


async def test_of_many_that_write_all_the_time_each_gets_its_turn(tmp_path):
    """SQLite's own waiting doubles its pauses: of eight that write for 30 ms each, some wait in vain."""
    databases = [await open_sqlite(tmp_path / "store.sqlite", setting="X", busy_seconds=5) for _ in range(8)]

    async def write_again_and_again(database: SqliteDatabase) -> None:
        for _ in range(15):
            await database.write("write", lambda tx: time.sleep(0.03))

    await asyncio.gather(*map(write_again_and_again, databases))
    for database in databases:
        await database.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    try:
        mounting = ("mount", "-t", "tmpfs", "-o", "size=1m", "none", str(path))
        done = subprocess.run(mounting, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("a small disk cannot be made: mount is not installed")
    if done.returncode:
        pytest.skip(f"a small disk cannot be made: {done.stderr.strip()}")
    yield path
    subprocess.run(("umount", "--lazy", str(path)), check=True)


async def test_a_full_disk_loses_nothing_and_is_told(small_disk, caplog):
    database = await open_sqlite(small_disk / "store.sqlite", setting="X")
    jobs, catalog = SqlJobs(database), SqlFiles(database)
    await jobs.claim_workflow(submission(0))
    stored = 0
    with pytest.raises(StoreUnavailable, match="_put"):
        while True:
            await catalog.put([entry(f"f{stored:05}", "reads of a long name.bam") for _ in range(1)])
            stored += 1
    assert "no space left for the store" in caplog.text
    assert await catalog.count() == stored
    assert await jobs.get(JobId("j00000")) is not None
    with pytest.raises(StoreUnavailable):
        await catalog.put([entry("late")])
    await database.close()
    database = await open_sqlite(small_disk / "store.sqlite", setting="X")
    assert await SqlFiles(database).count() == stored
    await database.close()


async def test_a_store_that_was_closed_is_unavailable(tmp_path):
    database = await open_sqlite(tmp_path / "store.sqlite", setting="X")
    await database.close()
    await database.close()
    with pytest.raises(StoreUnavailable, match="ping"):
        await ping(database)


async def test_the_clock_is_the_stores_to_the_millisecond(sql_url):
    database = await open_database(sql_url, "any")
    jobs = SqlJobs(database)
    before = datetime.now(UTC)
    now = await jobs.now()
    assert before - timedelta(milliseconds=1) <= now <= datetime.now(UTC)
    assert now.tzinfo is UTC
    assert now.microsecond % 1000 == 0
    await database.close()


@pytest.mark.parametrize("strange", ["a\0b", "a\ud800b", "é\U0001f9ec", "\x1f"])
async def test_text_that_no_database_takes_harms_nothing(sql_url, strange):
    database = await open_database(sql_url, "any")
    jobs, catalog = SqlJobs(database), SqlFiles(database)
    assert await jobs.get(JobId(strange)) is None
    assert await jobs.attach(WorkflowKey(strange), Requester(strange), Priority.NORMAL) is None
    assert await catalog.get(Dcc("4dn"), LocalId(strange)) is None
    assert (await catalog.search(FileQuery(text=strange))).files == ()
    assert (await catalog.search(FileQuery(after=strange))).files == ()
    assert (await jobs.find(JobQuery(requester=Requester(strange), local_id=LocalId(strange)))).jobs == ()
    named = entry("f", filename=f"{strange}.bam")
    await catalog.put([named])
    assert await catalog.get(Dcc("4dn"), LocalId("f")) == named
    assert (await catalog.search(FileQuery(text="bam"))).files == (named,)
    await database.close()


async def test_a_cancellation_during_a_call_is_never_lost(sql_url):
    database = await open_database(sql_url, "any")

    async def call() -> None:
        await ping(database)
        await asyncio.sleep(0)  # Only a call that had ended before can be let through.

    await ping(database)
    lost = 0
    for number in range(200):
        task = asyncio.create_task(call())
        async with asyncio.timeout(10):
            await asyncio.sleep(number % 30 / 10_000)
            ended = task.done()
            task.cancel()
            await asyncio.wait({task})
        lost += not ended and not task.cancelled()
    assert lost == 0
    await ping(database)
    await database.close()
    gc.collect()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("28P01", StoreRefused),
        ("42501", StoreRefused),
        ("53100", StoreUnavailable),
        ("57P01", StoreUnavailable),
        ("25006", StoreUnavailable),
        ("40P01", StoreUnavailable),
        ("42P01", StoreUnavailable),
    ],
)
def test_what_a_server_answers_becomes_the_domains(code, expected):
    error = asyncpg.PostgresError.new({"C": code, "M": "words"})
    assert isinstance(postgres._translated("asking", error), expected)


# -- schema versions -----------------------------------------------------------------------------


async def test_many_processes_may_open_an_empty_database_at_once(sql_url):
    databases = await asyncio.gather(*(open_database(sql_url, "any") for _ in range(4)))
    versions = await databases[0].read("t", lambda tx: tx.connection.scalars(schema_versions.select()).all())
    assert versions == [1 + len(migrations.STEPS)]
    for database in databases:
        await database.close()


async def test_a_newer_schema_is_refused_with_words(sql_url):
    database = await open_database(sql_url, "any")
    newest = 1 + len(migrations.STEPS)
    add = schema_versions.insert().values(version=newest + 1, applied_at=datetime.now(UTC))
    await database.write("t", lambda tx: tx.connection.execute(add).close())
    await database.close()
    with pytest.raises(
        Misconfigured, match=rf"newer gooseherd \(schema {newest + 1}, this one knows {newest}\)"
    ):
        await open_database(sql_url, "any")


async def test_an_older_schema_is_brought_up_step_by_step_by_one_of_many(sql_url):
    def add_column(tx: Transaction) -> None:
        tx.connection.execute(text("ALTER TABLE files ADD COLUMN colour TEXT"))

    def fill_it(tx: Transaction) -> None:
        tx.connection.execute(text("UPDATE files SET colour = 'grey'"))

    database = await open_database(sql_url, "any")
    await SqlFiles(database).put([entry("f")])
    before = 1 + len(migrations.STEPS)
    steps = [*migrations.STEPS, add_column, fill_it]
    told = await asyncio.gather(*(bring_up_to_date(database, "X", steps) for _ in range(3)))
    assert set(told) <= {before, before + 1, before + 2}
    colours = await database.read(
        "t", lambda tx: tx.connection.scalars(text("SELECT colour FROM files")).all()
    )
    assert colours == ["grey"]
    await database.close()


async def test_a_step_that_fails_leaves_the_schema_before(sql_url):
    def half(tx: Transaction) -> None:
        tx.connection.execute(text("ALTER TABLE files ADD COLUMN colour TEXT"))
        raise StoreUnavailable("half")

    database = await open_database(sql_url, "any")
    with pytest.raises(StoreUnavailable):
        await bring_up_to_date(database, "X", [*migrations.STEPS, half])
    columns = await database.read(
        "t", lambda tx: [c["name"] for c in inspect(tx.connection).get_columns("files")]
    )
    assert "colour" not in columns
    await database.close()
    await (await open_database(sql_url, "any")).close()


async def test_a_step_on_postgresql_may_take_longer_than_a_command(postgres, monkeypatch):
    """An index over a large catalog takes minutes."""
    postgres.sql("CREATE DATABASE sql_slow_step")
    url = postgres.url("sql_slow_step")
    await (await open_database(url, "any")).close()

    def slow(tx: Transaction) -> None:
        tx.connection.execute(text("SELECT pg_sleep(2)"))

    monkeypatch.setattr("gooseherd.store.sql.postgres.COMMAND_SECONDS", 1.0)
    steps = [*migrations.STEPS, slow]
    opening = partial(bring_up_to_date, steps=steps)
    monkeypatch.setattr("gooseherd.store.sql.postgres.bring_up_to_date", opening)
    first, second = await asyncio.gather(open_database(url, "any"), open_database(url, "any"))
    with pytest.raises(StoreUnavailable):
        await first.write("t", slow)
    await ping(second)
    await first.close()
    await second.close()
    postgres.sql("DROP DATABASE sql_slow_step")


async def test_a_step_on_postgresql_waits_for_a_table_for_a_moment_only(postgres, monkeypatch):
    postgres.sql("CREATE DATABASE sql_held_table")
    database = await open_database(postgres.url("sql_held_table"), "any")
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 0.2)

    def add_column(tx: Transaction) -> None:
        tx.connection.execute(text("ALTER TABLE files ADD COLUMN colour TEXT"))

    steps = [*migrations.STEPS, add_column]
    holder = await asyncpg.connect(postgres.url("sql_held_table"))
    held = holder.transaction()
    await held.start()
    await holder.execute("LOCK TABLE files IN ACCESS SHARE MODE")
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(bring_up_to_date(database, "X", steps), 15)
    await held.rollback()
    await holder.close()
    assert await bring_up_to_date(database, "X", steps) == 1 + len(migrations.STEPS)
    await database.close()
    postgres.sql("DROP DATABASE sql_held_table")


async def test_a_file_of_every_version_before_is_opened_and_read(tmp_path):
    """One of each lies in tests/data/store-schemas, see make.py there."""
    for version in range(1, 2 + len(migrations.STEPS)):
        path = tmp_path / f"{version}.sqlite"
        path.write_bytes(gzip.decompress((SCHEMAS / f"schema-{version}.sqlite.gz").read_bytes()))
        database = await open_sqlite(path, setting="X")
        job = await SqlJobs(database).get(JobId("j00001"))
        assert job is not None
        assert (job.workflow_key, job.status, job.worker_id) == ("k00001", "running", "w1")
        (waiting,) = await SqlJobs(database).due(9)
        assert (waiting.job_id, waiting.queued_for) == ("j00002", "anne")
        assert waiting.rank > to_milliseconds(waiting.enqueued_at)
        assert await SqlJobs(database).lease(waiting, Owner("here"), LONG, 1) is None, "one of hers runs"
        found = await SqlFiles(database).search(FileQuery(text="reads"))
        assert [file.name for file in found.files] == ["4dn/f1", "4dn/f2"]
        tables = await database.read("t", lambda tx: set(inspect(tx.connection).get_table_names()))
        assert set(metadata.tables) <= tables
        await database.close()


# -- no statement reads a whole table ------------------------------------------------------------


async def test_every_question_is_answered_by_an_index(tmp_path):
    database = await open_sqlite(tmp_path / "store.sqlite", setting="X")
    jobs, catalog, batches = SqlJobs(database), SqlFiles(database), SqlBatches(database)
    names = tuple((Dcc("4dn"), LocalId(f"f{number}")) for number in range(20))
    batch = NewBatch(BatchId("b1"), Requester("anne"), names, "digest", idempotency_key="k")
    change = MemberChange(1, MemberState.WAITING, MemberState.PENDING, JobId("j00001"))
    for number in range(20):
        await jobs.claim_workflow(submission(number))
    await catalog.put([entry(f"f{number}") for number in range(20)])
    first, second, third = await jobs.due(3)
    seen = _listening(database)
    before = await jobs.now()
    held = await jobs.lease(first, Owner("me"), LONG)
    assert held is not None
    calls: dict[str, Callable[[], Any]] = {
        "claim": lambda: jobs.claim_workflow(submission(2)),
        "attach": lambda: jobs.attach(WorkflowKey("k00002"), Requester("bert"), Priority.BATCH),
        "latest": lambda: jobs.latest(WorkflowKey("k00002")),
        "latest of many": lambda: jobs.latest_of([WorkflowKey(f"k{n:05}") for n in range(9)]),
        "list": lambda: jobs.find(JobQuery()),
        "list of a requester": lambda: jobs.find(JobQuery(requester=Requester("anne"))),
        "list of a file": lambda: jobs.find(JobQuery(dcc=Dcc("4dn"), local_id=LocalId("f"))),
        "list of a status": lambda: jobs.find(JobQuery(status=second.status)),
        "due": lambda: jobs.due(5),
        "unowned": lambda: jobs.unowned(5),
        "owned": lambda: jobs.owned(Owner("me")),
        "at work": jobs.at_work,
        "naming": lambda: jobs.naming([WorkerId("w")], before),
        "position": lambda: jobs.position(third),
        "position behind others": lambda: jobs.position(third, [Requester("bert")]),
        "due but": lambda: jobs.due(5, [Requester("bert")]),
        "running": jobs.running_by_requester,
        "depth": jobs.queue_depth,
        "starts": lambda: jobs.recent_starts(5),
        "lease": lambda: jobs.lease(third, Owner("me"), LONG, 3),
        "lease for a session": lambda: jobs.lease(third, Owner("me"), LONG, None, "s1"),
        "due for": lambda: jobs.due_for(Requester("anne"), 5),
        "counts": jobs.counts,
        "pending": lambda: jobs.pending_of(Requester("anne"), 5),
        "queued for": lambda: jobs.queued_for(Requester("anne"), 5),
        "renew": lambda: jobs.renew(held.job_id, Fence(1), LONG),
        "worker": lambda: jobs.assign_worker(held.job_id, Fence(1), WorkerId("w")),
        "finalizing": lambda: jobs.begin_finalize(held.job_id, Fence(1)),
        "finalize": lambda: jobs.finalize(held.job_id, Fence(1), "d" * 64, []),
        "cancel": lambda: jobs.request_cancel(second.job_id, None),
        "hand over": lambda: jobs.hand_over(Owner("me")),
        "expire": lambda: jobs.expire(before, 5),
        "files": lambda: catalog.search(FileQuery()),
        "files after": lambda: catalog.search(FileQuery(after="4dn f1")),
        "files of a collection": lambda: catalog.search(FileQuery(dcc=Dcc("4dn"), after="4dn f1")),
        "files of a format": lambda: catalog.search(FileQuery(file_format=formats.BAM, after="4dn f1")),
        "search": lambda: catalog.search(FileQuery(text="reads", dcc=Dcc("4dn"), after="4dn f1")),
        "identity": lambda: catalog.of_identity(entry("f").identity, 5),
        "put": lambda: catalog.put([entry("f3"), entry("new")]),
        "fill in": lambda: catalog.fill_in(entry("f3"), size_in_bytes=3, version_tag=None),
        "remove": lambda: catalog.remove(Dcc("4dn"), LocalId("f3")),
        "batch": lambda: batches.create(batch, BatchLimits(9, 9)),
        "batch by key": lambda: batches.create(replace(batch, batch_id=BatchId("b2")), BatchLimits(9, 9)),
        "a batch": lambda: batches.get(BatchId("b1")),
        "batches": lambda: batches.find(BatchQuery()),
        "batches of a requester": lambda: batches.find(BatchQuery(requester=Requester("anne"))),
        "batches under way": lambda: batches.unfinished(5),
        "members": lambda: batches.members(BatchId("b1"), limit=5),
        "members in a state": lambda: batches.members(BatchId("b1"), MemberState.WAITING, limit=5),
        "hold": lambda: batches.hold(BatchId("b1"), Owner("me"), LONG),
        "record": lambda: batches.record(BatchId("b1"), [change]),
        "moved": lambda: batches.moved(BatchId("b1"), 5),
        "wanted": lambda: batches.wanted_by_another(BatchId("b1"), JobId("j00001"), Requester("anne")),
        "cancel batch": lambda: batches.cancel(BatchId("b1")),
        "end batch": lambda: batches.end(BatchId("b1")),
        "forget batches": lambda: batches.forget_ended(before, 5),
    }  # fmt: skip
    for name, call in calls.items():
        seen.clear()
        await call()
        assert seen, name
        for statement, parameters in list(seen):
            plan = await database.read("plan", partial(_plan, statement=statement, parameters=parameters))
            for line in plan:
                assert not _whole_table(line), (name, line, statement)
                if name in QUEUE_READS:
                    assert "jobs_by_rank" in line, (name, line, statement)
    await database.close()


QUEUE_READS = ("due", "due but", "position", "position behind others")
"""By rank in the index: looked for by status alone, all that wait would be read and sorted."""


def _whole_table(line: str) -> bool:
    """An index in its own order is read as far as the page goes; the word index by words.

    `counted` is a question inside of a question, with a limit.
    """
    in_order = (
        "USING INDEX jobs_by_age", "USING INDEX jobs_by_rank", "USING INDEX jobs_by_start",
        "INDEX jobs_pending_for", "USING INDEX files_by_name", "VIRTUAL TABLE", "CONSTANT ROW",
        "USING INDEX batches_open", "USING COVERING INDEX batches_open", "USING INDEX batches_by_age",
        "SCAN counted",
    )  # fmt: skip
    return line.startswith("SCAN") and not any(words in line for words in in_order)


def _plan(tx: Transaction, statement: str, parameters: Any) -> list[str]:
    rows = tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    return [row[3] for row in rows]


@pytest.mark.parametrize("analysed", [False, True])
async def test_what_is_asked_often_reads_few_rows_of_postgresql_however_many_jobs_there_are(
    postgres, analysed
):
    """Without statistics it expects few rows everywhere; with some, to meet what it looks for early."""
    name = f"sql_few_rows_{analysed}".lower()
    postgres.sql(f"CREATE DATABASE {name}")
    database = await open_postgres(postgres.url(name), "any")
    await database.write("off", partial(_run, "ALTER TABLE jobs SET (autovacuum_enabled = off)"))
    await database.write("fill", _fill)
    if analysed:
        await database.write("analyse", partial(_run, "ANALYZE jobs"))
    jobs = SqlJobs(database)
    now = await jobs.now()
    calls: dict[str, Callable[[], Any]] = {
        "a place": lambda: jobs.claim_workflow(submission(9999)),
        "since when": jobs.queue_depth,
        "too old": lambda: jobs.expire(now - LONG, 32),
        "due": lambda: jobs.due(32),
        "some of a requester": lambda: jobs.queued_for(Requester("bert"), 32),
    }
    seen = _listening(database)
    for call in calls.values():
        await call()
    reads = [(statement, parameters) for statement, parameters in seen if "LIMIT" in statement]
    assert len(reads) == len(calls)
    for statement, parameters in reads:
        explain = f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) {statement}"
        plan = await database.write("plan", partial(_run, explain, parameters=parameters))
        counts = re.findall(r"(?:actual rows=|Rows Removed by Filter: )(\d+)", "\n".join(plan))
        assert max(map(int, counts)) <= 32, (statement, plan)
    await database.close()
    postgres.sql(f"DROP DATABASE {name}")


def _run(statement: str, tx: Transaction, parameters: Any = None) -> list[str]:
    result = tx.connection.exec_driver_sql(statement, parameters)
    return [row[0] for row in result] if result.returns_rows else []


def _fill(tx: Transaction) -> None:
    """Jobs of anne and, all behind those, as many of bert; before them all many more that have ended."""
    now = datetime.now(UTC)
    waiting = [
        {**new_job(replace(submission(n), requester=Requester(who)), now + timedelta(seconds=n), n)}
        for who, numbers in (("anne", range(1000)), ("bert", range(1000, 2000)))
        for n in numbers
    ]
    ended = [
        {**new_job(submission(n), now - timedelta(days=1), 0), "status": "completed", "active": False}
        for n in range(2000, 5000)
    ]
    tx.connection.execute(insert(jobs_table), [*waiting, *ended])


def _listening(database: SqliteDatabase | PostgresDatabase) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []

    def listen(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "EXPLAIN", "PRAGMA", "INSERT")):
            one = parameters[0] if isinstance(parameters, list) else parameters
            seen.append((statement, one))

    engine = database._engine
    engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    event.listen(engine, "before_cursor_execute", listen)
    return seen


# -- forged pages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "after", ["WzEsMl0=", "WyJhIiwiYiJd", "WzFlOTksImEiXQ==", "WzEwMDAwMDAwMDAwMDAwMDAsImEiXQ=="]
)
async def test_a_page_mark_of_another_kind_is_refused(sql_url, after):
    database = await open_database(sql_url, "any")
    with pytest.raises(InvalidInput, match="after"):
        await SqlJobs(database).find(JobQuery(after=after))
    await database.close()


OPENER = """
import sys, time
from pathlib import Path
from gooseherd.store.sql.sqlite import _prepare

print("ready", flush=True)
began = float(sys.stdin.readline())
for number in range(100):
    while time.time() < began + number / 50:
        pass
    _prepare(Path(sys.argv[1]) / f"{number}.sqlite", "DATABASE_URL")
"""


def test_processes_that_find_an_empty_file_at_the_same_moment_can_all_open_it(tmp_path):
    """SQLite's own waiting does not cover the change of its journal's mode."""
    argv = [sys.executable, "-c", OPENER, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(argv, text=True, **pipes) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    began = time.time() + 0.2
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{began}\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
