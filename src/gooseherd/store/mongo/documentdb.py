"""Amazon DocumentDB speaks MongoDB's protocol and differs: what of that matters here, looked at one by one.

| looked at | what differs | how |
| --- | --- | --- |
| no retryable writes | it refuses them: `retryWrites=false` in the URL | the client's option |
| partial indexes | from engine 5.0 on, no `$in` in them; ours have equality only | the engine's version |
| indexes | not every kind; ours has a nested array field (`attempts.worker_id`) | all that are there |
| the clock | no `$currentDate` in pipelines: it is read by `hello` | `hello` has a time near ours |
| `$group` and `$sum` | the queue, batches and usage need them | each pipeline, of no document |
| `$elemMatch` with a range | the search by words needs it | the same |

Not looked at here: whether TLS verifies Amazon's certificate (`url_dangers`, of every store's URL), and when
the server removes ended jobs, within minutes (TTL): nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pymongo.errors import OperationFailure

from gooseherd.store.mongo.batches import states_of
from gooseherd.store.mongo.connect import Database, Document
from gooseherd.store.mongo.reading import ACTIVE_COUNTS, QUEUE_DEPTH
from gooseherd.store.mongo.schema import BATCH_MEMBERS, FILES, INDEXES, JOBS, USAGE
from gooseherd.store.mongo.usage import sums_of
from gooseherd.store.report import Danger

_HOSTS: Final = ".docdb.amazonaws.com"
_OLDEST: Final = 5
"""Engine version with partial indexes: docs.aws.amazon.com/documentdb, "Partial index"."""
_CLOCKS_APART: Final = timedelta(minutes=5)
"""Leases follow the server's clock alone; so far apart one of both is wrong, and somebody should know."""
AGGREGATIONS: Final[Sequence[tuple[str, Sequence[Document]]]] = (
    (JOBS, QUEUE_DEPTH),
    (JOBS, ACTIVE_COUNTS),
    (BATCH_MEMBERS, states_of([""])),
    (USAGE, sums_of({"day": ""}, by_job=True)),
)
"""All that stores send."""
_INDEXES_MISSING: Final = "run mongosh create-indexes.js, or let the service make them at its start"


async def is_documentdb(db: Database) -> bool:
    """By the name of its hosts, which Amazon gives."""
    await db.client.admin.command("ping")
    return any(host.endswith((_HOSTS, f"{_HOSTS}.cn")) for host, _ in db.client.nodes)


async def check_documentdb(db: Database) -> tuple[tuple[str, ...], tuple[Danger, ...]]:
    """What was looked at and is well, and what is not. Changes nothing."""
    well: list[str] = []
    dangers: list[Danger] = []

    def judge(name: str, good: bool, what: str, remedy: str) -> None:
        if good:
            well.append(name)
        else:
            dangers.append(Danger(what, remedy))

    judge(
        "no retryable writes", not db.client.options.retry_writes,
        "the URL lets writes be retried, which DocumentDB refuses", "add retryWrites=false to DATABASE_URL",
    )  # fmt: skip
    build = await db.client.admin.command("buildInfo")
    major = str(build.get("version", "0")).partition(".")[0]
    judge(
        "partial indexes", major.isdecimal() and int(major) >= _OLDEST,
        f"engine {build.get('version')} has no partial indexes: one job of a file may run twice",
        f"upgrade the cluster to engine {_OLDEST}.0 or later, instance-based",
    )  # fmt: skip
    missing = await _missing_indexes(db)
    judge(
        "indexes", not missing,
        f"indexes are missing or differ: {', '.join(missing)}", _INDEXES_MISSING,
    )  # fmt: skip
    judge(
        "the clock", await _tells_time(db),
        "hello answers no time near this machine's: leases would end too early or too late",
        "report this with the engine version, after a look at this machine's clock",
    )  # fmt: skip
    for name, call in (("$group and $sum", _groups), ("$elemMatch with a range", _ranges)):
        try:
            await call(db)
            judge(name, True, "", "")
        except OperationFailure as error:
            judge(
                name, False, f"{name} is refused (code {error.code})", "report this with the engine version"
            )
    return tuple(well), tuple(dangers)


async def _missing_indexes(db: Database) -> list[str]:
    """Those of ours that are not there as they should be."""
    there: dict[str, dict[str, Any]] = {}
    missing = []
    for index in INDEXES:
        if index.collection not in there:
            there[index.collection] = dict(await db[index.collection].index_information())
        found = there[index.collection].get(index.name)
        same = found is not None and [tuple(key) for key in found["key"]] == list(index.keys)
        if not same or (found or {}).get("partialFilterExpression", {}) != dict(index.partial):
            missing.append(f"{index.collection}.{index.name}")
    return missing


async def _tells_time(db: Database) -> bool:
    local_time = (await db.client.admin.command("hello")).get("localTime")
    if not isinstance(local_time, datetime):
        return False
    aware = local_time if local_time.tzinfo else local_time.replace(tzinfo=UTC)
    return abs(aware - datetime.now(UTC)) < _CLOCKS_APART


async def _groups(db: Database) -> None:
    """Each aggregation that a store makes, over nothing."""
    for collection, stages in AGGREGATIONS:
        await (await db[collection].aggregate([{"$match": {"_id": ""}}, *stages])).to_list()


async def _ranges(db: Database) -> None:
    await db[FILES].find_one(
        {"words": {"$all": [{"$elemMatch": {"$gte": "\U0010fffe", "$lt": "\U0010ffff"}}]}}
    )
