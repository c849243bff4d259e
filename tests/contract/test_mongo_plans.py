"""What is asked of MongoDB is found by an index in the order in which it is wanted, however much there is.

The server's own profile says how many keys and documents each command read. Amazon DocumentDB has none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.contract.test_job_store import HERE, LONG, submission

from gooseherd.domain import formats
from gooseherd.domain.batch import BatchId, MemberState, NewBatch
from gooseherd.domain.job import Requester, WorkerId
from gooseherd.domain.keys import WorkflowKey
from gooseherd.domain.ports.batches import BatchLimits, BatchQuery
from gooseherd.domain.ports.store import FileQuery, JobQuery
from gooseherd.domain.queueing import Priority, first_rank
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.domain.states import Status
from gooseherd.store.mongo.batches import MongoBatches
from gooseherd.store.mongo.connect import Database
from gooseherd.store.mongo.documents import from_file, new_job
from gooseherd.store.mongo.files import MongoFiles
from gooseherd.store.mongo.jobs import MongoJobs
from gooseherd.store.mongo.schema import BATCHES, FILES, JOBS, rank_older_jobs

pytestmark = pytest.mark.integration

MANY = 600
"""Jobs that wait, those that ended, entries, and files of a batch."""
NOW = datetime(2026, 6, 1, tzinfo=UTC)
COLLECTIONS = ("4dn", "encode", "gtex")
ONE, TWO = Requester("r1"), Requester("r2")

Call = Callable[[], Awaitable[object]]


@dataclass
class Reads:
    """What one call made the server read, all its commands together."""

    keys: int = 0
    documents: int = 0
    sorted: bool = False
    plans: tuple[str, ...] = ()


async def reads_of(database: Database, call: Call) -> Reads:
    profile = database["system.profile"]
    await profile.drop()
    await database.command("profile", 2)
    try:
        await call()
    finally:
        await database.command("profile", 0)
    done = Reads()
    async for entry in profile.find({"ns": {"$ne": f"{database.name}.system.profile"}}):
        done.keys += entry.get("keysExamined", 0)
        done.documents += entry.get("docsExamined", 0)
        done.sorted |= entry.get("hasSortStage", False)
        done.plans += (entry.get("planSummary", ""),)
    assert done.plans
    return done


def entry(number: int) -> SourceFile:
    return SourceFile(
        dcc=Dcc(COLLECTIONS[number * len(COLLECTIONS) // MANY]),
        local_id=LocalId(f"F{number:06}"),
        filename=f"sample_{number:06}.bam",
        file_format=formats.BED if number % 3 == 0 else formats.BAM,
        access_url="https://example.org/x",
        md5=f"{number:032x}",
    )


def pending(number: int) -> dict[str, Any]:
    asked = NOW - timedelta(seconds=number)
    priority = list(Priority)[number % 3]
    one = submission(
        f"p{number}", job_id=f"p{number}", requester=Requester(f"r{number % 6}"), priority=priority
    )
    return new_job(one, asked, first_rank(priority, asked) + number)


def ended(number: int) -> dict[str, Any]:
    asked = NOW - timedelta(days=40, seconds=number)
    one = submission(
        f"e{number}", job_id=f"e{number}", requester=Requester(f"r{number % 6}"), source=entry(number)
    )
    attempt = {"number": 1, "worker_id": f"w{number}", "started_at": asked, "ended_at": asked}
    return new_job(one, asked, number) | {
        "active": False,
        "status": (Status.FAILED if number % 10 == 0 else Status.COMPLETED).value,
        "requesters": [],
        "started_at": asked,
        "finished_at": asked,
        "expires_at": None,
        "attempts": [{**attempt, "reason": "published", "detail": ""}],
    }


@pytest.fixture
async def full(database: Database) -> Database:
    """Many jobs that wait and many that ended, entries, and batches of which most have ended."""
    await database[JOBS].insert_many([job(number) for job in (pending, ended) for number in range(MANY)])
    await database[FILES].insert_many([from_file(entry(number)) for number in range(MANY)])
    batches = MongoBatches(database)
    for number in range(20):
        names = tuple((Dcc("4dn"), LocalId(f"f{file}")) for file in range(MANY if number > 17 else 1))
        new = NewBatch(BatchId(f"b{number}"), Requester(f"r{number % 6}"), names, "digest")
        await batches.create(new, BatchLimits(100, 100))
        if number < 18:
            await database[BATCHES].update_one(
                {"_id": new.batch_id}, {"$set": {"ended": True, "ended_at": NOW, "counts": {"ready": 1}}}
            )
    return database


async def test_no_more_is_read_than_is_returned(full: Database) -> None:
    """Each with as many documents as are read, the next page's first among them; of keys few more."""
    jobs, files, batches = MongoJobs(full), MongoFiles(full), MongoBatches(full)
    await jobs.now()
    held = await jobs.lease((await jobs.due(1))[0], HERE, LONG, 5)
    assert held is not None
    calls: Mapping[str, tuple[int, Call]] = {
        "claim": (0, lambda: jobs.claim_workflow(submission("new", requester=ONE))),
        "due": (32, lambda: jobs.due(32)),
        "due but": (32, lambda: jobs.due(32, [ONE])),
        "due of one": (20, lambda: jobs.due_for(TWO, 20)),
        "renew": (1, lambda: jobs.renew(held.job_id, held.fence, LONG)),
        "at work": (1, jobs.at_work),
        "owned": (1, lambda: jobs.owned(HERE)),
        "at work by requester": (0, jobs.running_by_requester),
        "starts": (10, lambda: jobs.recent_starts(10)),
        "naming": (1, lambda: jobs.naming([WorkerId("w3")], NOW)),
        "newest of a key": (1, lambda: jobs.latest(WorkflowKey("e7"))),
        "pending of one, as many as count": (0, lambda: jobs.pending_of(ONE, 10)),
        "queued for one, as many as count": (0, lambda: jobs.queued_for(ONE, 10)),
        "list": (11, lambda: jobs.find(JobQuery(limit=10))),
        "list, failed": (11, lambda: jobs.find(JobQuery(limit=10, status=Status.FAILED))),
        "list, completed": (11, lambda: jobs.find(JobQuery(limit=10, status=Status.COMPLETED))),
        "list, pending": (11, lambda: jobs.find(JobQuery(limit=10, status=Status.PENDING))),
        "list of one": (11, lambda: jobs.find(JobQuery(limit=10, requester=TWO))),
        "list of a collection": (11, lambda: jobs.find(JobQuery(limit=10, dcc=Dcc("4dn")))),
        "too old": (0, lambda: jobs.expire(NOW - timedelta(days=50), 10)),
        "forget nothing": (0, lambda: jobs.forget_ended(NOW - timedelta(days=50), 10)),
        "forget": (20, lambda: jobs.forget_ended(NOW - timedelta(days=39), 10)),
        "without a rank": (0, lambda: rank_older_jobs(full)),
        "entries": (11, lambda: files.search(FileQuery(limit=10))),
        "entries of a collection": (11, lambda: files.search(FileQuery(limit=10, dcc=Dcc("gtex")))),
        "entries after": (
            11, lambda: files.search(FileQuery(limit=10, dcc=Dcc("encode"), after=f"encode F{MANY // 2:06}")),
        ),
        "entries of a format": (11, lambda: files.search(FileQuery(limit=10, file_format=formats.BED))),
        "a word of one": (1, lambda: files.search(FileQuery(limit=10, text=f"F{MANY // 2:06}"))),
        "a word of all": (11, lambda: files.search(FileQuery(limit=10, text="sample"))),
        "a word of none": (0, lambda: files.search(FileQuery(limit=10, text="nothing"))),
        "of a content": (1, lambda: files.of_identity(entry(5).identity, 10)),
        "batches": (4, lambda: batches.find(BatchQuery(limit=3))),
        "batches of one": (4, lambda: batches.find(BatchQuery(limit=3, requester=Requester("r3")))),
        "open batches": (2, lambda: batches.unfinished(10)),
        "members": (10, lambda: batches.members(BatchId("b19"), limit=10)),
        "members after": (10, lambda: batches.members(BatchId("b19"), limit=10, after=MANY // 2)),
        "members that wait": (10, lambda: batches.members(BatchId("b19"), MemberState.WAITING, limit=10)),
        "moved": (0, lambda: batches.moved(BatchId("b19"), 10)),
    }  # fmt: skip
    wrong = {}
    for name, (documents, call) in calls.items():
        done = await reads_of(full, call)
        # Of a batch under way its files are counted besides, in the index.
        counted = 2 * MANY if "batches" in name else 0
        # So many are counted, or passed over in the index.
        some = 20 if name.endswith(("count", "but")) else 0
        keys = documents + 3 * len(done.plans) + counted + some
        sorts = done.sorted and name not in ("newest of a key", "a word of one", "a word of none")
        few = done.documents <= documents and done.keys <= keys
        if not few or sorts or "COLLSCAN" in done.plans:
            wrong[name] = done
    assert wrong == {}


async def test_what_is_counted_is_counted_in_an_index(full: Database) -> None:
    """A position as far as the job's place, the others as many as there are; none of it reads a document."""
    jobs, batches = MongoJobs(full), MongoBatches(full)
    first, last = (await jobs.due(MANY))[:: MANY - 1]
    await jobs.now()
    near = await reads_of(full, lambda: jobs.position(first))
    assert (near.keys <= 4, near.documents) == (True, 0), near
    counts: Mapping[str, Call] = {
        "position": lambda: jobs.position(last),
        "counts": jobs.counts,
        "depth": jobs.queue_depth,
        "of a batch": lambda: batches.get(BatchId("b19")),
    }
    for name, call in counts.items():
        done = await reads_of(full, call)
        assert MANY - 1 <= done.keys <= MANY + 5, (name, done)
        assert done.documents <= (name == "of a batch"), (name, done)
        assert "COLLSCAN" not in done.plans
