"""Schema versions: an empty database gets the present one, an older one is brought up step by step.

A step is never changed once it was released: a later schema is a later step. Each is taken in a
transaction together with the row that records it, so a crash leaves the schema before or the one
after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Table,
    bindparam,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)

from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.queueing import Priority, first_rank
from gooseherd.store.edges import LEASED
from gooseherd.store.sql.columns import Moment
from gooseherd.store.sql.database import SqlDatabase, Transaction
from gooseherd.store.sql.schema import jobs, metadata

Step = Callable[[Transaction], None]

LOCK_SECONDS: Final = 10.0
"""How long a step waits for a table on PostgreSQL: others queue behind it, and give up after 20 s."""


def _rank_the_queue(tx: Transaction) -> None:
    """Jobs get a place in the queue and a slot of the running limit; those that wait go by age as before."""
    words = 'TEXT COLLATE "C"' if tx.dialect == "postgresql" else "TEXT"
    for column in (
        "rank BIGINT NOT NULL DEFAULT 0",
        f"queued_for {words} NOT NULL DEFAULT ''",
        "running_slot INTEGER",
    ):
        tx.connection.execute(text(f"ALTER TABLE jobs ADD COLUMN {column}"))
    active = select(jobs.c.id, jobs.c.status, jobs.c.priority, jobs.c.requesters, jobs.c.enqueued_at)
    slots: Counter[str] = Counter()
    changes = []
    for row in tx.connection.execute(active.where(jobs.c.active).order_by(jobs.c.created_at, jobs.c.id)):
        queued_for = row.requesters[0] if row.requesters else ""
        slot = None
        if row.status in LEASED:
            slot = slots[queued_for]
            slots[queued_for] += 1
        rank = first_rank(Priority(row.priority), row.enqueued_at)
        changes.append({"b_id": row.id, "b_rank": rank, "b_for": queued_for, "b_slot": slot})
    if changes:
        filling = update(jobs).where(jobs.c.id == bindparam("b_id"))
        values: dict[str, Any] = {
            "rank": bindparam("b_rank"),
            "queued_for": bindparam("b_for"),
            "running_slot": bindparam("b_slot"),
        }
        tx.connection.execute(filling.values(values), changes)
    active_now = ("active" if tx.dialect == "postgresql" else "active = 1") + " AND running_slot IS NOT NULL"
    for index in (
        "INDEX jobs_by_rank ON jobs (rank, id, not_before, queued_for) WHERE status = 'pending'",
        "INDEX jobs_pending_for ON jobs (queued_for, priority, rank) WHERE status = 'pending'",
        f"UNIQUE INDEX one_job_per_slot ON jobs (queued_for, running_slot) WHERE {active_now}",
        "INDEX jobs_by_start ON jobs (started_at) WHERE started_at IS NOT NULL",
    ):
        tx.connection.execute(text(f"CREATE {index}"))
    tx.connection.execute(text("DROP INDEX jobs_queue"))


def _add_batches_and_access_times(tx: Transaction) -> None:
    """Batches with their members, and when artifacts were used."""
    postgresql = tx.dialect == "postgresql"
    words = 'TEXT COLLATE "C"' if postgresql else "TEXT"
    moment = "TIMESTAMP WITH TIME ZONE" if postgresql else "BIGINT"
    for statement in (
        f"""
        CREATE TABLE batches (
            id {words} NOT NULL PRIMARY KEY, requester {words} NOT NULL, idempotency_key {words},
            request_digest {words} NOT NULL, retry BOOLEAN NOT NULL, total INTEGER NOT NULL,
            created_at {moment} NOT NULL, cancel_requested BOOLEAN NOT NULL, ended_at {moment}, counts TEXT,
            held_by {words}, held_until {moment}
        )
        """,
        """
        CREATE UNIQUE INDEX one_batch_per_key ON batches (requester, idempotency_key)
        WHERE idempotency_key IS NOT NULL
        """,
        "CREATE INDEX batches_open ON batches (created_at, id, requester) WHERE ended_at IS NULL",
        "CREATE INDEX batches_by_age ON batches (created_at, id)",
        "CREATE INDEX batches_of_requester ON batches (requester, created_at, id)",
        f"""
        CREATE TABLE batch_members (
            batch_id {words} NOT NULL REFERENCES batches (id) ON DELETE CASCADE, number INTEGER NOT NULL,
            dcc {words} NOT NULL, local_id {words} NOT NULL, state {words} NOT NULL, job_id {words},
            reason {words}, detail {words} NOT NULL, PRIMARY KEY (batch_id, number)
        )
        """,
        "CREATE INDEX members_by_state ON batch_members (batch_id, state, number)",
        "CREATE INDEX members_by_job ON batch_members (job_id) WHERE job_id IS NOT NULL",
        f"CREATE TABLE access_times (name {words} NOT NULL PRIMARY KEY, at {moment} NOT NULL)",
    ):
        tx.connection.execute(text(statement))


def _reserve_workers(tx: Transaction) -> None:
    """Workers are reserved, for the warm floor and for sessions; a job takes the permit of a session."""
    postgres = tx.dialect == "postgresql"
    words = 'TEXT COLLATE "C"' if postgres else "TEXT"
    moment = "TIMESTAMP WITH TIME ZONE" if postgres else "BIGINT"
    live = "live" if postgres else "live = 1"
    permit = "session_id IS NOT NULL AND status IN ('running', 'finalizing')"
    columns = (
        f"id {words} NOT NULL PRIMARY KEY, purpose {words} NOT NULL, owner {words} NOT NULL, "
        f"slot INTEGER NOT NULL, live BOOLEAN NOT NULL, state {words} NOT NULL, version INTEGER NOT NULL, "
        f"created_at {moment} NOT NULL, changed_at {moment} NOT NULL, ended_at {moment}, "
        "details TEXT NOT NULL"
    )
    for statement in (
        f"ALTER TABLE jobs ADD COLUMN session_id {words}",
        f"CREATE UNIQUE INDEX one_job_per_session ON jobs (session_id) WHERE {permit}",
        f"CREATE TABLE reservations ({columns})",
        f"CREATE UNIQUE INDEX one_reservation_per_owner ON reservations (purpose, owner) WHERE {live}",
        f"CREATE UNIQUE INDEX one_reservation_per_slot ON reservations (purpose, slot) WHERE {live}",
        "CREATE INDEX reservations_by_end ON reservations (ended_at)",
    ):
        tx.connection.execute(text(statement))


def _add_keys_and_visibility(tx: Transaction) -> None:
    """API keys; entries and jobs say whether they are public, batches what their requester saw."""
    postgres = tx.dialect == "postgresql"
    words = 'TEXT COLLATE "C"' if postgres else "TEXT"
    moment = "TIMESTAMP WITH TIME ZONE" if postgres else "BIGINT"
    public, yes, no = ("public", "TRUE", "FALSE") if postgres else ("public = 1", "1", "0")
    # A quotation mark inside of a text would be escaped. What a program of the schema before still writes
    # is in no list until it is written again: rather that than an entry that nobody should have seen.
    is_public = """LIKE '%"data_access_level":"public"%'"""
    columns = (
        f"id {words} NOT NULL PRIMARY KEY, digest {words} NOT NULL, owner {words} NOT NULL, "
        f"scopes TEXT NOT NULL, collections TEXT NOT NULL, all_collections BOOLEAN NOT NULL, "
        f"label {words} NOT NULL, created_at {moment} NOT NULL, expires_at {moment}, revoked_at {moment}, "
        f"last_used_at {moment}"
    )
    of_versions = (
        f"subject {words} NOT NULL, resource {words} NOT NULL, version INTEGER NOT NULL, "
        "PRIMARY KEY (subject, resource)"
    )
    for statement in (
        f"CREATE TABLE api_keys ({columns})",
        f"CREATE TABLE token_versions ({of_versions})",
        f"CREATE TABLE shared_secrets (name {words} NOT NULL PRIMARY KEY, value {words} NOT NULL)",
        f"ALTER TABLE files ADD COLUMN public BOOLEAN NOT NULL DEFAULT {no}",
        f"UPDATE files SET public = {yes} WHERE entry {is_public}",  # noqa: S608 - literals
        f"CREATE INDEX files_public_by_name ON files (dcc, local_id) WHERE {public}",
        f"ALTER TABLE jobs ADD COLUMN public BOOLEAN NOT NULL DEFAULT {no}",
        f"UPDATE jobs SET public = {yes} WHERE source {is_public}",  # noqa: S608 - literals
        f"CREATE INDEX jobs_public_by_age ON jobs (created_at, id) WHERE {public}",
        "ALTER TABLE batches ADD COLUMN visible TEXT",
    ):
        tx.connection.execute(text(statement))


def _add_usage_and_packages(tx: Transaction) -> None:
    """What was used, by day, and what key owners may use; entries name the package they are of.

    Attempts that ended before have no usage: they did not say since when.

    The index is not made CONCURRENTLY: that cannot be in the transaction which records the step, a try that
    breaks off leaves an invalid index behind, and no row is in it yet, so the table is read once
    (0.35 s for 500,000 entries) while it cannot be used.
    """
    postgres = tx.dialect == "postgresql"
    words = 'TEXT COLLATE "C"' if postgres else "TEXT"
    still_open = "open" if postgres else "open = 1"
    amounts = (
        "attempts", "milliseconds", "cpu_milliseconds", "memory_milliseconds", "disk_milliseconds",
        "bytes_in", "bytes_out", "bytes_served",
    )  # fmt: skip
    columns = (
        f"id {words} NOT NULL PRIMARY KEY, kind {words} NOT NULL, day {words} NOT NULL, "
        f"requester {words} NOT NULL, dcc {words} NOT NULL, capacity {words} NOT NULL, "
        f"purpose {words} NOT NULL, job_id {words}, worker_id {words}, open BOOLEAN NOT NULL, "
        + ", ".join(f"{name} BIGINT NOT NULL" for name in amounts)
    )
    for statement in (
        f"CREATE TABLE usage ({columns})",
        "CREATE INDEX usage_by_day ON usage (day, id)",
        "CREATE INDEX usage_of_requester ON usage (requester, day)",
        f"CREATE INDEX usage_open ON usage (day) WHERE {still_open}",
        "ALTER TABLE api_keys ADD COLUMN budget_per_day DOUBLE PRECISION",
        "ALTER TABLE api_keys ADD COLUMN budget_per_month DOUBLE PRECISION",
        f"ALTER TABLE files ADD COLUMN package {words}",
        "CREATE INDEX files_by_package ON files (package, dcc, local_id) WHERE package IS NOT NULL",
    ):
        tx.connection.execute(text(statement))


STEPS: Final[Sequence[Step]] = (
    _rank_the_queue,
    _add_batches_and_access_times,
    _reserve_workers,
    _add_keys_and_visibility,
    _add_usage_and_packages,
)
"""The first makes schema 2 of schema 1, and so on."""

schema_versions: Final = Table(
    "schema_versions",
    MetaData(),
    Column("version", Integer, primary_key=True),
    Column("applied_at", Moment, nullable=False),
)


async def bring_up_to_date(database: SqlDatabase, setting: str, steps: Sequence[Step] = STEPS) -> int | None:
    """Make the tables or take the steps that are missing. Safe for any number of processes at once.

    The answer is the version before; None: the database was empty.

    Raises:
        Misconfigured: naming `setting`; the schema is newer than this program, or the database
            holds tables of another program.
        StoreUnavailable: again later.
    """
    before = version = await database.write("open", lambda tx: _make(tx, setting, len(steps) + 1))
    while version is not None and version <= len(steps):
        version = await database.write("open", lambda tx: _take_next(tx, steps))
    return before


def _make(tx: Transaction, setting: str, newest: int) -> int | None:
    """The version that is there; None: there was none, now it is the newest."""
    _lock(tx)
    there = set(inspect(tx.connection).get_table_names())
    if schema_versions.name in there:
        version = _version(tx)
        if version > newest:
            raise Misconfigured(
                setting,
                f"the database was written by a newer gooseherd (schema {version}, this one knows {newest}): "
                "use that version, or a copy of the database from before",
            )
        return version
    if there & set(metadata.tables):
        raise Misconfigured(setting, "the database has tables of another program: name an empty one")
    metadata.create_all(tx.connection)
    schema_versions.create(tx.connection)
    _record(tx, newest)
    return None


def _take_next(tx: Transaction, steps: Sequence[Step]) -> int:
    """Take the next step, unless another process did; the version then."""
    _lock(tx)
    version = _version(tx)
    if version <= len(steps):
        if tx.dialect == "postgresql":
            milliseconds = f"{LOCK_SECONDS * 1000:.0f}"
            tx.connection.execute(select(func.set_config("lock_timeout", milliseconds, True)))
        steps[version - 1](tx)
        version += 1
        _record(tx, version)
    return version


def _version(tx: Transaction) -> int:
    newest: int = tx.connection.execute(
        select(func.coalesce(func.max(schema_versions.c.version), 0))
    ).scalar_one()
    return newest


def _record(tx: Transaction, version: int) -> None:
    tx.connection.execute(insert(schema_versions).values(version=version, applied_at=tx.now))


def _lock(tx: Transaction) -> None:
    """One process at a time changes the schema; SQLite's writers come one at a time anyway."""
    if tx.dialect == "postgresql":
        tx.connection.execute(select(func.pg_advisory_xact_lock(func.hashtext("gooseherd schema"))))
