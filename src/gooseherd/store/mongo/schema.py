"""Collections and indexes as plain data, made at start-up and printed as create-indexes.js.

    python -m gooseherd.store.mongo.schema > create-indexes.js

Partial filters use equality only: Amazon DocumentDB knows `$eq`, `$exists`, `$and` and the
comparisons there, not `$in`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo import IndexModel
from pymongo.errors import OperationFailure

from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.queueing import Priority, first_rank
from gooseherd.domain.states import ACTIVE
from gooseherd.store.mongo.connect import Database, store_operation

JOBS: Final = "jobs"
FILES: Final = "files"

BATCHES: Final = "batches"
BATCH_MEMBERS: Final = "batch_members"

ACCESS_TIMES: Final = "access_times"
"""When artifacts were used; found by their names, which are the documents' _id."""

RESERVATIONS: Final = "reservations"

API_KEYS: Final = "api_keys"
TOKEN_VERSIONS: Final = "token_versions"  # noqa: S105 - a collection's name
SHARED_SECRETS: Final = "shared_secrets"
"""Found by their _id, as keys and versions are."""

TURNS: Final = "turns"
"""The last rank given to each requester and priority."""

USAGE: Final = "usage"

ONE_ACTIVE: Final = "one_active_job"
"""The workflow mutex."""
ONE_PER_SLOT: Final = "one_job_per_slot"
ONE_PER_SESSION: Final = "one_job_per_session"

TURN_SECONDS: Final = 86400
"""A requester's last rank is forgotten a day after it was given."""


@dataclass(frozen=True, slots=True)
class Index:
    """One index. `why` names who needs it; keys are (field, 1 or -1)."""

    collection: str
    name: str
    keys: tuple[tuple[str, int], ...]
    why: str
    unique: bool = False
    partial: Mapping[str, Any] = field(default_factory=dict)
    expire_after_seconds: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """As createIndex takes them."""
        options: dict[str, Any] = {"name": self.name}
        if self.unique:
            options["unique"] = True
        if self.partial:
            options["partialFilterExpression"] = dict(self.partial)
        if self.expire_after_seconds is not None:
            options["expireAfterSeconds"] = self.expire_after_seconds
        return options


INDEXES: Final[tuple[Index, ...]] = (
    # A job's id is its document's _id, so its uniqueness needs no index of ours.
    Index(
        JOBS, ONE_ACTIVE, (("workflow_key", 1),),
        "the mutex: one active job per workflow key", unique=True, partial={"active": True},
    ),
    Index(
        JOBS, "rank", (("status", 1), ("rank", 1), ("_id", 1), ("not_before", 1), ("queued_for", 1)),
        "who is next, and how many are before; all that go by status",
    ),
    Index(
        JOBS, "rank_of_requester",
        (("status", 1), ("queued_for", 1), ("priority", 1), ("rank", 1), ("_id", 1)),
        "a requester's first and last places in the queue, and who waits",
    ),
    # `active` besides, so that the index alone tells.
    Index(
        JOBS, "pending_of_requester", (("requesters", 1), ("status", 1), ("active", 1)),
        "how many jobs a requester waits for", partial={"active": True},
    ),
    Index(
        JOBS, "newest_of_status", (("status", 1), ("created_at", -1), ("_id", -1)),
        "the list of one status; which pending jobs are too old",
    ),
    Index(
        JOBS, ONE_PER_SLOT, (("queued_for", 1), ("running_slot", 1)),
        "the running limit: one job in each slot of a requester", unique=True,
        partial={"active": True, "holds_slot": True},
    ),
    Index(
        JOBS, ONE_PER_SESSION, (("session_id", 1),),
        "single flight: one leased job has the permit of a session", unique=True,
        partial={"active": True, "holds_permit": True},
    ),
    Index(JOBS, "started", (("started_at", -1),), "how long the newest jobs waited"),
    # Nothing that every heartbeat changes is in an index: jobs under way are few enough to look through.
    Index(JOBS, "workers", (("attempts.worker_id", 1),), "what a worker has worked on"),
    Index(JOBS, "history", (("workflow_key", 1), ("created_at", -1)), "the newest job of a workflow key"),
    Index(JOBS, "newest", (("created_at", -1), ("_id", -1)), "the list of all jobs"),
    Index(
        JOBS, "newest_of_requester", (("asked_by", 1), ("created_at", -1), ("_id", -1)),
        "the list of one requester's jobs",
    ),
    Index(
        JOBS, "newest_of_collection", (("source.dcc", 1), ("created_at", -1), ("_id", -1)),
        "the list of one collection's jobs",
    ),
    Index(
        JOBS, "source", (("source.dcc", 1), ("source.local_id", 1), ("created_at", -1)),
        "the list of one file's jobs",
    ),
    Index(
        JOBS, "ended", (("expires_at", 1),), "forgets jobs that ended long ago", expire_after_seconds=0
    ),
    Index(
        JOBS, "usage_due", (("usage_due", 1),), "attempts whose usage is to be counted",
        partial={"usage_due": True},
    ),
    Index(USAGE, "day", (("day", 1), ("_id", 1)), "a report of some days; what may be forgotten"),
    Index(USAGE, "of_requester", (("requester", 1), ("day", 1)), "what one requester may still use"),
    Index(
        USAGE, "open", (("day", 1), ("worker_id", 1)), "workers that are not known to have ended",
        partial={"open": True},
    ),
    Index(
        TURNS, "at", (("at", 1),), "forgets requesters that no longer ask",
        expire_after_seconds=TURN_SECONDS,
    ),
    Index(
        BATCHES, "one_batch_per_key", (("requester", 1), ("idempotency_key", 1)),
        "an idempotency key names one batch of its requester", unique=True, partial={"has_key": True},
    ),
    Index(BATCHES, "oldest_open", (("ended", 1), ("created_at", 1), ("_id", 1)), "which batches go on"),
    Index(BATCHES, "newest", (("created_at", -1), ("_id", -1)), "the list of all batches"),
    Index(
        BATCHES, "newest_of_requester", (("requester", 1), ("created_at", -1), ("_id", -1)),
        "one requester's batches",
    ),
    Index(
        BATCH_MEMBERS, "by_state", (("batch_id", 1), ("state", 1), ("number", 1)),
        "what of a batch waits, and how much of it is in which state",
    ),
    Index(BATCH_MEMBERS, "by_job", (("job_id", 1),), "which batches want a job"),
    Index(
        RESERVATIONS, "one_reservation_per_owner", (("purpose", 1), ("owner", 1)),
        "one session of a requester", unique=True, partial={"live": True},
    ),
    Index(
        RESERVATIONS, "one_reservation_per_slot", (("purpose", 1), ("slot", 1)),
        "one worker in each slot of the floor, so many sessions at most", unique=True,
        partial={"live": True},
    ),
    Index(RESERVATIONS, "ended", (("ended_at", 1),), "which ended lately"),
    Index(FILES, "name", (("dcc", 1), ("local_id", 1)), "one entry per name", unique=True),
    Index(FILES, "words", (("words", 1),), "search by the beginning of a word"),
    Index(FILES, "identity", (("identity", 1), ("_id", 1)), "the entries of one content"),
    Index(
        FILES, "package", (("package", 1), ("_id", 1)), "what an import of a package before has stored",
        partial={"of_package": True},
    ),
    Index(FILES, "file_format", (("file_format", 1), ("_id", 1)), "the list of one format's files"),
)  # fmt: skip

_CONFLICTS = frozenset({85, 86})
"""IndexOptionsConflict, IndexKeySpecsConflict."""
_DUPLICATE_KEY = 11000


@store_operation
async def ensure_indexes(db: Database) -> None:
    """Create what is missing. Idempotent, and safe for any number of processes at once.

    Raises:
        Misconfigured: an index of that name or on those keys exists with other options, or
            documents already there violate a unique one; names the index and the remedy.
        StoreUnavailable: again later.
    """
    for collection in sorted({index.collection for index in INDEXES}):
        wanted = [index for index in INDEXES if index.collection == collection]
        try:
            await db[collection].create_indexes([_model(index) for index in wanted])
        except OperationFailure as error:
            if error.code not in _CONFLICTS | {_DUPLICATE_KEY}:
                raise
            for index in wanted:
                await _ensure_one(db, index)


@store_operation
async def rank_older_jobs(db: Database) -> None:
    """Give jobs of a version before ranks a place in the queue: by their age and priority. Idempotent."""
    # Active, in the words that an index has.
    unranked: dict[str, Any] = {"status": {"$in": sorted(ACTIVE)}, "rank": None}
    fields = {"priority": 1, "requesters": 1, "enqueued_at": 1}
    async for document in db[JOBS].find(unranked, projection=fields):
        rank = first_rank(Priority(document["priority"]), document["enqueued_at"])
        queued_for = next(iter(document["requesters"]), "")
        await db[JOBS].update_one(
            {"_id": document["_id"], "rank": None}, {"$set": {"rank": rank, "queued_for": queued_for}}
        )


async def _ensure_one(db: Database, index: Index) -> None:
    """As above, one at a time: the server's answer to many does not say reliably which it was."""
    try:
        await db[index.collection].create_indexes([_model(index)])
    except OperationFailure as error:
        if error.code in _CONFLICTS:
            there = await _rival(db, index)
            raise Misconfigured(
                f"index {index.collection}.{index.name}",
                f"{there!r} exists with other options; drop it (db.{index.collection}.dropIndex({there!r})) "
                "while no gooseherd runs, then start again",
            ) from error
        if error.code == _DUPLICATE_KEY:
            fields = ", ".join(name for name, _ in index.keys)
            raise Misconfigured(
                f"index {index.collection}.{index.name}",
                f"documents share a value of ({fields}) that must be unique; "
                "remove all but one of each, then start again",
            ) from error
        raise


async def _rival(db: Database, index: Index) -> str:
    known = await db[index.collection].index_information()
    if index.name in known:
        return index.name
    return next((name for name, there in known.items() if list(there["key"]) == list(index.keys)), index.name)


def _model(index: Index) -> IndexModel:
    return IndexModel(list(index.keys), **index.options)


def render_create_indexes_js() -> str:
    """The script for a Mongo shell that makes the same indexes, for operators who grant no createIndex."""
    lines = [
        "// Generated by: python -m gooseherd.store.mongo.schema > create-indexes.js",
        "// Do not edit: change src/gooseherd/store/mongo/schema.py.",
        "//",
        '//     DATABASE_NAME=gooseherd mongosh "$DATABASE_URL" create-indexes.js',
        "//",
        "// Idempotent. An error means that an index exists with other options: drop it, run again.",
        "// The job id is the document's _id in jobs, so it is unique without an index here.",
        "",
        'const named = typeof process === "object" ? process.env.DATABASE_NAME : undefined;',
        "const target = named ? db.getSiblingDB(named) : db;",
    ]
    for index in INDEXES:
        keys = json.dumps(dict(index.keys))
        options = json.dumps(index.options)
        lines += [
            "",
            f"// {index.why}",
            f'target.getCollection("{index.collection}").createIndex({keys}, {options});',
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render_create_indexes_js())
