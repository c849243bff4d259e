"""Amazon DocumentDB speaks MongoDB's protocol and differs: what of that matters here, looked at one by one.

| difference | here | looked at |
| --- | --- | --- |
| no retryable writes | `retryWrites=false` in the URL | the URL's option |
| partial indexes from engine 5.0 on, no `$in` in them | ours have equality only | engine and filters |
| a collection's index on a nested array field is one of few | ours has one | the indexes that are there |
| no `$currentDate` in what updates a pipeline | the clock is read by `hello` | it answers a time |
| `$group` with `$sum`, `$elemMatch` with a range | used by usage and search | asked of an empty filter |
| TTL within minutes | ended jobs may stay so long | no check: nothing depends on when |
| TLS with Amazon's own root certificates | `tls=true&tlsCAFile=…` | the connection is there |
"""

from __future__ import annotations

from typing import Any, Final

from pymongo.errors import OperationFailure

from gooseherd.store.mongo.connect import Database, Document
from gooseherd.store.mongo.schema import FILES, INDEXES, USAGE
from gooseherd.store.report import Danger

_HOSTS: Final = ".docdb.amazonaws.com"
_OLDEST: Final = 5
"""Engine version with partial indexes: docs.aws.amazon.com/documentdb, "Partial index"."""
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
        f"{len(INDEXES)} indexes", not missing,
        f"indexes are missing or differ: {', '.join(missing)}", _INDEXES_MISSING,
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


async def _groups(db: Database) -> None:
    stages: list[Document] = [
        {"$match": {"day": ""}},
        {"$group": {"_id": {"kind": "$kind"}, "n": {"$sum": "$attempts"}}},
    ]
    await (await db[USAGE].aggregate(stages)).to_list()


async def _ranges(db: Database) -> None:
    await db[FILES].find_one(
        {"words": {"$all": [{"$elemMatch": {"$gte": "\U0010fffe", "$lt": "\U0010ffff"}}]}}
    )
