"""What the store's own calls take, on SQLite, PostgreSQL and MongoDB, side by side.

    python benchmarks/store.py [--stores sqlite,postgresql,mongodb] [--jobs 1000,100000]
        [--entries 100000,1000000] [--processes 1,8] [--folder DIR] [--seconds N] [--json]

Each store lies in a fresh folder below DIR (default: a temporary one), durable as in production: a write is
acknowledged when it is on the disk. So the disk's own time for one synced write stands beside (`sync`), and
what bare sqlite3 takes for the same update and commit (`bare`). Latencies are medians and 95th percentiles
in milliseconds of at most 300 calls or N seconds per process; `/s` is what all processes did together.

Jobs: how many are `pending of one` requester, which each submission asks, and the `counts` of all, which a
process asks once a second at most; `claim` a new key, `lease` a pending job, `renew` its lease, `position`
of one of the first and of the `last` in the queue, the jobs `due` to a dispatcher, the `depth` of the queue
by requester, a `batch of 10,000` files stored, its counts, what of it waits, eight files changed, and those
whose jobs moved, with that many jobs pending
(`./dev bench queue`: these alone, at 1e3 to 1e5 jobs and with 1 to 16 processes, as JSON). Catalog: `list`
and `search` are pages of 50 by several filters and texts, `import` is entries
put per second. Queues and catalogs are filled behind the store's back where it has a quicker way.

MongoDB is the server that DATABASE_URL names, else a mongod of its own, a replica set of one (the extra dev).
What is left out is said on standard error and, with `--json`, in `left_out`.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from _report import reporting
from sqlalchemy import insert

from gooseherd.devcloud.postgres import PostgresServer
from gooseherd.domain import formats
from gooseherd.domain.batch import MOST_FILES, BatchId, MemberChange, MemberState, NewBatch
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.job import Job, JobId, Owner, Requester, Submission
from gooseherd.domain.keys import Recipe, WorkflowKey
from gooseherd.domain.ports.batches import BatchLimits, BatchStore
from gooseherd.domain.ports.store import FileQuery, FileStore, JobStore
from gooseherd.domain.queueing import Priority, first_rank
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.store.mongo.batches import MongoBatches
from gooseherd.store.mongo.connect import connect
from gooseherd.store.mongo.documents import new_job as new_document
from gooseherd.store.mongo.files import MongoFiles
from gooseherd.store.mongo.jobs import MongoJobs
from gooseherd.store.mongo.schema import ensure_indexes
from gooseherd.store.sql.batches import SqlBatches
from gooseherd.store.sql.connect import open_database
from gooseherd.store.sql.files import SqlFiles
from gooseherd.store.sql.jobs import SqlJobs
from gooseherd.store.sql.rows import new_job
from gooseherd.store.sql.schema import job_requesters, jobs

CALLS = 300
STORES: Final = ("sqlite", "postgresql", "mongodb")
LIMIT = 100_000
"""Of running jobs of a requester: its slots are looked at, none is refused."""
LONG = timedelta(hours=1)
NAME = "bench"
NAMED_SERVER = os.environ.get("DATABASE_URL", "")
CACHE_GIGABYTES = 1.0
"""Of a mongod of its own; by default it would take half of the machine's memory."""
ROOT = str(Path(__file__).resolve().parents[1])
COLLECTIONS = ("4dn", "encode", "gtex")
AIMS = """Aims on SQLite, one process: claim, lease and renew p50 < 1 ms where a sync takes nothing, within
1.5 times of it from the smallest queue to the largest; list and search p95 < 3 ms at 1e5 entries and < 20 ms
at 1e6; import 20,000/s."""


@dataclass(frozen=True)
class Place:
    """Where a store answers."""

    kind: str
    url: str
    name: str = NAME

    @asynccontextmanager
    async def open(self) -> Any:
        if self.kind == "mongodb":
            db = connect(self.url, self.name)
            try:
                yield MongoJobs(db), MongoFiles(db), db
            finally:
                await db.client.close()
        else:
            database = await open_database(self.url, self.name)
            try:
                yield SqlJobs(database), SqlFiles(database), database
            finally:
                await database.close()


def entry(number: int, of: int) -> SourceFile:
    bed = number % 3 == 0
    return SourceFile(
        dcc=Dcc(COLLECTIONS[number * len(COLLECTIONS) // of]),
        local_id=LocalId(f"ENCFF{number:07}AB"),
        filename=f"sample_{number:07}_rep{number % 7}.{'bed' if bed else 'bam'}",
        file_format=formats.BED if bed else formats.BAM,
        access_url=f"https://files.example.org/ENCFF{number:07}AB",
        md5=f"{number:032x}",
        size_in_bytes=number,
    )


def submission(name: str) -> Submission:
    return Submission(
        JobId(name), WorkflowKey(name), entry(1, 3), Recipe("bam", "1", formats.BAM), Priority.NORMAL,
        Requester(f"r{hash(name) % 50}"),
    )  # fmt: skip


# -- filling -----------------------------------------------------------------------------------


async def fill_queue(place: Place, count: int) -> None:
    """So many pending jobs, p0000000 and on, without a sync for each."""
    async with place.open() as (_, _, database):
        now = datetime.now(UTC)
        for start in range(0, count, 1000):
            names = [f"p{number:07}" for number in range(start, min(start + 1000, count))]
            asked = now + timedelta(milliseconds=start)
            # As if one requester had asked after the other: the ranks differ.
            wanted = [
                (submission(name), asked, first_rank(Priority.NORMAL, asked) + 5 * (start + index))
                for index, name in enumerate(names)
            ]
            if place.kind == "mongodb":
                await database["jobs"].insert_many([new_document(*one) for one in wanted])
                continue
            rows = [new_job(*one) for one in wanted]
            requesters = [
                {
                    "job_id": row["id"],
                    "requester": row["requesters"][0],
                    "created_at": row["created_at"],
                    "waiting": True,
                }
                for row in rows
            ]

            def add(tx: Any, rows: Any = rows, requesters: Any = requesters) -> None:
                tx.connection.execute(insert(jobs), rows)
                tx.connection.execute(insert(job_requesters), requesters)

            await database.write("fill", add)


async def fill_catalog(place: Place, count: int) -> float:
    """So many entries through the store's own call, as they come in a dump; entries per second."""
    batches = [range(start, min(start + 1000, count)) for start in range(0, count, 1000)]
    spent = 0.0
    async with place.open() as (_, files, _):
        for batch in batches:
            entries = [entry(number, count) for number in batch]
            began = time.perf_counter()
            await files.put(entries)
            spent += time.perf_counter() - began
    return count / spent


# -- measuring ---------------------------------------------------------------------------------

Call = Callable[[], Awaitable[object]]
Calls = Callable[[JobStore, FileStore, int, int, str], Iterator[tuple[str, Call]]]


async def measure(
    place: Place, what: str, count: int, process: int, tag: str, seconds: float
) -> dict[str, list[float]]:
    """Seconds of each call of one process, by operation."""
    taken: dict[str, list[float]] = {}
    async with place.open() as (job_store, file_store, database):
        await job_store.now()
        calls = job_calls if what == "jobs" else catalog_calls
        all_calls = [call async for call in calls(job_store, file_store, count, process, tag)]
        if what == "jobs":
            all_calls += batch_calls(batch_store(place, database), process, tag)
        for name, call in all_calls:
            times = taken.setdefault(name, [])
            until = time.perf_counter() + seconds
            for number in range(CALLS):
                began = time.perf_counter()
                await call(number)
                times.append(time.perf_counter() - began)
                if times[-1] + began > until:
                    break
    return taken


async def job_calls(store: JobStore, _: FileStore, count: int, process: int, tag: str) -> Any:
    chance = random.Random(process)
    mine = range(process * CALLS, (process + 1) * CALLS)
    seen: dict[int, Job] = {}
    for number in mine:
        job = await store.get(JobId(f"p{number:07}"))
        assert job is not None
        seen[number] = job
    last = await store.get(JobId(f"p{count - 1:07}"))
    assert last is not None
    held: list[Any] = []

    async def pending(number: int) -> None:
        await store.pending_of(Requester(f"r{number % 50}"), 1000)

    async def counts(_: int) -> None:
        await store.counts()

    async def claim(number: int) -> None:
        await store.claim_workflow(submission(f"{tag}-{process}-{number}"))

    async def lease(number: int) -> None:
        held.append(await store.lease(seen[mine[number]], Owner(f"o{process}"), LONG, LIMIT))

    async def renew(number: int) -> None:
        job = held[number % len(held)]
        if job is not None:
            await store.renew(job.job_id, job.fence, LONG)

    async def position(number: int) -> None:
        await store.position(seen[chance.choice(mine)])

    async def last_position(_: int) -> None:
        await store.position(last)

    async def due(_: int) -> None:
        await store.due(32)

    async def depth(_: int) -> None:
        await store.queue_depth()

    yield "pending of one", pending
    yield "counts", counts
    yield "claim", claim
    yield "lease", lease
    yield "renew", renew
    yield "position", position
    yield "position, last", last_position
    yield "due", due
    yield "depth", depth


def batch_store(place: Place, database: Any) -> BatchStore:
    return MongoBatches(database) if place.kind == "mongodb" else SqlBatches(database)


def batch_calls(store: BatchStore, process: int, tag: str) -> list[tuple[str, Any]]:
    """Batches of ten thousand files: stored, counted, and changed as the loop does, eight at a time."""
    names = tuple((Dcc("4dn"), LocalId(f"f{number}")) for number in range(MOST_FILES))
    made: list[BatchId] = []

    async def create(number: int) -> None:
        made.append(BatchId(f"{tag}-{process}-{number}"))
        new = NewBatch(made[-1], Requester(f"r{process}"), names, "digest")
        await store.create(new, BatchLimits(LIMIT, LIMIT))

    async def counts(_: int) -> None:
        await store.get(made[0])

    async def waiting(_: int) -> None:
        await store.members(made[0], MemberState.WAITING, limit=8)

    async def record(number: int) -> None:
        members = range(8 * number, 8 * number + 8)
        job_id = JobId("p0000000")
        seen, then = MemberState.WAITING, MemberState.PENDING
        await store.record(made[0], [MemberChange(member, seen, then, job_id) for member in members])

    async def moved(_: int) -> None:
        await store.moved(made[0], 500)

    return [
        ("batch of 10,000", create),
        ("its counts", counts),
        ("8 that wait", waiting),
        ("8 changed", record),
        ("what moved", moved),
    ]


async def catalog_calls(_: JobStore, store: FileStore, count: int, process: int, tag: str) -> Any:
    chance = random.Random(process)

    def somewhere() -> str:
        found = entry(chance.randrange(count), count)
        return f"{found.dcc} {found.local_id}"

    lists: list[Callable[[], FileQuery]] = [
        lambda: FileQuery(after=somewhere()),
        lambda: FileQuery(dcc=Dcc(chance.choice(COLLECTIONS))),
        lambda: FileQuery(file_format=formats.BED, after=somewhere()),
        lambda: FileQuery(dcc=Dcc("gtex"), file_format=formats.BAM),
    ]
    texts: list[Callable[[], str]] = [
        lambda: chance.choice("esr"),
        lambda: "encff",
        lambda: f"ENCFF{chance.randrange(count):07}"[: chance.randrange(6, 12)],
        lambda: f"sample_{chance.randrange(count):07}"[: chance.randrange(8, 14)],
        lambda: f"rep{chance.randrange(7)}",
        lambda: f"rep{chance.randrange(7)}.bed",
        lambda: f"sample rep{chance.randrange(7)} bam",
        lambda: f"ENCFF{chance.randrange(count):07}AB",
        lambda: "nothingofthekind",
    ]

    async def listing(number: int) -> None:
        await store.search(lists[number % len(lists)]())

    async def search(number: int) -> None:
        await store.search(FileQuery(text=texts[number % len(texts)]()))

    async def put(number: int) -> None:
        first = count + (process * CALLS + number) * 500
        await store.put([entry(first + place, 2 * first) for place in range(500)])

    yield "list", listing
    yield "search", search
    if tag.startswith("import"):
        yield "import", put


def one_process(*arguments: Any) -> Any:
    return asyncio.run(measure(*arguments))


def measured(
    place: Place,
    what: str,
    count: int,
    processes: int,
    tag: str,
    seconds: float,
) -> dict[str, Any]:
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        asked = [pool.submit(one_process, place, what, count, n, tag, seconds) for n in range(processes)]
        results = [one.result() for one in asked]
    operations: dict[str, Any] = {}
    for name in results[0]:
        times = sorted(value for one in results for value in one[name])
        factor = 500 if name == "import" else 1
        operations[name] = {
            "p50_ms": round(statistics.median(times) * 1e3, 3),
            "p95_ms": round(times[int(len(times) * 0.95)] * 1e3, 3),
            "per_second": round(sum(len(one[name]) * factor / sum(one[name]) for one in results)),
            "calls": len(times),
        }
    return operations


# -- peers -------------------------------------------------------------------------------------


def sync_ms(folder: Path) -> float:
    """One page appended to a file and synced: what no durable write is faster than."""
    times = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(100):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    (folder / "probe").unlink()
    return round(statistics.median(times) * 1e3, 3)


def bare_ms(folder: Path) -> float:
    """An update by primary key and its commit in sqlite3, without any of ours."""
    path = folder / "bare.sqlite"
    times = []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE jobs (id TEXT PRIMARY KEY, expires INTEGER, document TEXT)")
        connection.executemany(
            "INSERT INTO jobs VALUES (?, 0, ?)", [(f"j{n}", "x" * 600) for n in range(1000)]
        )
        for number in range(CALLS):
            began = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE jobs SET expires = ? WHERE id = 'j5'", (number,))
            connection.execute("COMMIT")
            times.append(time.perf_counter() - began)
    return round(statistics.median(times) * 1e3, 3)


# -- the run -----------------------------------------------------------------------------------


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Callable[[], Place]]:
    """Gives empty stores, one after the other."""
    number = iter(range(100))
    if kind == "sqlite":
        yield lambda: Place(kind, f"sqlite:///{folder}/{next(number)}.sqlite")
    elif kind == "postgresql":
        server = PostgresServer(folder=folder)
        server.start()

        def fresh() -> Place:
            name = f"bench_{next(number)}"
            server.sql(f"CREATE DATABASE {name}")
            return Place(kind, server.url(name))

        try:
            yield fresh
        finally:
            server.stop()
    else:
        with running_mongo(folder) as url:
            yield lambda: Place(kind, url, f"{NAME}_{uuid.uuid4().hex}")


@contextmanager
def running_mongo(folder: Path) -> Iterator[str]:
    if NAMED_SERVER:
        yield NAMED_SERVER
        return
    sys.path.insert(0, ROOT)
    from tests.servers.mongod import MongoServer

    missing = MongoServer.missing()
    if missing is not None:
        raise Misconfigured("MongoDB", f"not on this machine: {missing}")
    server = MongoServer(folder, cache_gigabytes=CACHE_GIGABYTES)
    try:
        yield server.start()
    finally:
        server.stop()


@asynccontextmanager
async def ready(place: Place) -> Any:
    """Its tables or indexes are made; a database of MongoDB is there for as long as the block lasts."""
    async with place.open() as (_, _, database):
        if place.kind == "mongodb":
            await ensure_indexes(database)
    try:
        yield place
    finally:
        if place.kind == "mongodb":
            async with place.open() as (_, _, database):
                await database.client.drop_database(database.name)


async def run_store(
    kind: str,
    folder: Path,
    options: argparse.Namespace,
    rows: list[dict[str, Any]],
) -> None:
    """Add its rows, each as soon as it is known."""

    def keep(what: str, count: int, processes: int, operations: dict[str, Any]) -> None:
        for name, figures in operations.items():
            rows.append({"store": kind, what: count, "processes": processes, "operation": name, **figures})
            # As JSON it comes at the end; whoever waits minutes for it sees that it goes on.
            print(line(rows[-1]), file=sys.stderr if options.json else sys.stdout, flush=True)

    with running(kind, folder) as fresh:
        for count in options.jobs:
            for processes in options.processes:
                filled = max(count, processes * CALLS)  # each process leases some of its own
                async with ready(fresh()) as place:
                    await fill_queue(place, filled)
                    arguments = (place, "jobs", filled, processes, "new", options.seconds)
                    keep("jobs", filled, processes, await asyncio.to_thread(measured, *arguments))
        for count in options.entries:
            async with ready(fresh()) as place:
                rate = round(await fill_catalog(place, count))
                keep("entries", count, 1, {"import": {"per_second": rate}})
                for processes in options.processes:
                    tag = "import" if processes > 1 else "read"
                    arguments = (place, "catalog", count, processes, tag, options.seconds)
                    keep("entries", count, processes, await asyncio.to_thread(measured, *arguments))


def line(row: dict[str, Any]) -> str:
    size = f"{row['jobs']} jobs" if "jobs" in row else f"{row['entries']} entries"
    figures = f"{row.get('p50_ms', ''):>10} {row.get('p95_ms', ''):>10} {row['per_second']:>10}"
    return f"{row['store']:12} {size:>16} {row['processes']:>3} {row['operation']:16} {figures}"


def numbers(text: str) -> list[int]:
    return [int(float(word)) for word in text.split(",") if word]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", default=STORES, type=lambda text: tuple(text.split(",")))
    parser.add_argument("--jobs", default=[1_000, 100_000], type=numbers)
    parser.add_argument("--entries", default=[100_000, 1_000_000], type=numbers)
    parser.add_argument("--processes", default=[1, 8], type=numbers)
    parser.add_argument("--seconds", default=10.0, type=float)
    parser.add_argument("--folder", type=lambda name: Path(name).absolute())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if unknown := set(options.stores) - set(STORES):
        parser.error(f"--stores: {', '.join(sorted(unknown))}: {', '.join(STORES)} are known")
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    peers: dict[str, float] = {}
    with (
        reporting(lambda: {**peers, "left_out": left_out, "rows": rows}, indent=1) as print_whole,
        tempfile.TemporaryDirectory(dir=options.folder, prefix="gooseherd-bench-") as name,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        peers |= {"sync_ms": sync_ms(folder), "bare_ms": bare_ms(folder)}
        if not options.json:
            print(f"sync {peers['sync_ms']} ms, bare sqlite3 update and commit {peers['bare_ms']} ms")
            print(AIMS)
            print(f"{'store':12} {'':>16} {'n':>3} {'':10} {'p50 ms':>10} {'p95 ms':>10} {'/s':>10}")
        for kind in options.stores:
            below = folder / kind
            below.mkdir()
            try:
                asyncio.run(run_store(kind, below, options, rows))
            except Misconfigured as error:
                left_out.append(f"{kind}: {error}")
                print(left_out[-1], file=sys.stderr)
        if options.json:
            print_whole()


if __name__ == "__main__":
    main()
