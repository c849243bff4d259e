"""The tables and their indexes, the same in SQLite and PostgreSQL.

A job is one row: what is asked for has a column, what is only read back is a document. Who asked
for a job and which workers it had are rows of their own besides, because they are looked up; they
are written in the transaction that changes the job.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    text,
)

from gooseherd.domain.states import Status
from gooseherd.domain.usage import AMOUNTS
from gooseherd.store.sql.columns import PLAIN, Json, Moment, Words
from gooseherd.store.sql.word_tables import add_word_index

metadata: Final = MetaData()

_STATUSES: Final = ", ".join(f"'{status.value}'" for status in Status)

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", Words, primary_key=True),
    Column("workflow_key", Words, nullable=False),
    # True while the job holds its workflow key.
    Column("active", Boolean, nullable=False),
    Column("status", Words, CheckConstraint(f"status IN ({_STATUSES})", name="known_status"), nullable=False),
    Column("priority", SmallInteger, nullable=False),
    # Its place in the queue, and whose turn it takes (domain/queueing.py).
    Column("rank", BigInteger, nullable=False),
    Column("queued_for", Words, nullable=False),
    # Leased under a running limit: which of that many.
    Column("running_slot", Integer),
    # Leased for a session, whose permit it has while it is leased.
    Column("session_id", Words),
    # Who waits now, in the order of asking; job_requesters remembers everybody who ever asked.
    Column("requesters", Json, nullable=False),
    Column("dcc", Words, nullable=False),
    Column("local_id", Words, nullable=False),
    # Whether the entry was public when the job was submitted.
    Column("public", Boolean, nullable=False),
    Column("source", Json, nullable=False),
    Column("recipe", Json, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("enqueued_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    # Equal to enqueued_at it means "at once".
    Column("not_before", Moment, nullable=False),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("attempt", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    # Without an owner a lease was handed over.
    Column("lease_owner", Words),
    Column("lease_expires_at", Moment),
    Column("cancel_requested", Boolean, nullable=False),
    Column("steps_completed", Json, nullable=False),
    Column("parts", Json, nullable=False),
    # Beside the other figures of the progress, because it never falls.
    Column("percent", Float(53), nullable=False),
    Column("progress", Json, nullable=False),
    Column("attempts", Json, nullable=False),
    Column("reason", Words),
    Column("detail", Words, nullable=False),
    Column("manifest_digest", Words),
)

ONE_ACTIVE: Final = Index(
    "one_active_job",
    jobs.c.workflow_key,
    unique=True,
    sqlite_where=text("active = 1"),
    postgresql_where=text("active"),
)
"""The workflow mutex: one active job per workflow key."""

_PENDING: Final = text("status = 'pending'")

# Who is next, and how many are before; the last two are what is passed over.
Index(
    "jobs_by_rank",
    jobs.c.rank,
    jobs.c.id,
    jobs.c.not_before,
    jobs.c.queued_for,
    sqlite_where=_PENDING,
    postgresql_where=_PENDING,
)
# A requester's last place in the queue, and who waits.
Index(
    "jobs_pending_for",
    jobs.c.queued_for,
    jobs.c.priority,
    jobs.c.rank,
    sqlite_where=_PENDING,
    postgresql_where=_PENDING,
)
# The running limit: one job in each slot. Not of ended jobs, whose slot an older program left set.
Index(
    "one_job_per_slot",
    jobs.c.queued_for,
    jobs.c.running_slot,
    unique=True,
    sqlite_where=text("active = 1 AND running_slot IS NOT NULL"),
    postgresql_where=text("active AND running_slot IS NOT NULL"),
)
# Single flight: one leased job has the permit of a session.
_PERMIT: Final = text("session_id IS NOT NULL AND status IN ('running', 'finalizing')")
Index(
    "one_job_per_session",
    jobs.c.session_id,
    unique=True,
    sqlite_where=_PERMIT,
    postgresql_where=_PERMIT,
)
# How long the newest jobs waited.
Index(
    "jobs_by_start",
    jobs.c.started_at,
    sqlite_where=text("started_at IS NOT NULL"),
    postgresql_where=text("started_at IS NOT NULL"),
)
# Which pending jobs are too old; the list of one status. Nothing that every heartbeat changes is in an
# index: jobs under way are few enough to look through.
Index("jobs_by_status", jobs.c.status, jobs.c.created_at, jobs.c.id)
# The newest job of a workflow key.
Index("jobs_by_key", jobs.c.workflow_key, jobs.c.created_at)
# The list of all jobs, and of one file's.
Index("jobs_by_age", jobs.c.created_at, jobs.c.id)
# The same for who sees public ones only, however many others there are.
Index(
    "jobs_public_by_age",
    jobs.c.created_at,
    jobs.c.id,
    sqlite_where=text("public = 1"),
    postgresql_where=text("public"),
)
Index("jobs_by_source", jobs.c.dcc, jobs.c.local_id, jobs.c.created_at, jobs.c.id)

job_requesters: Final = Table(
    "job_requesters",
    metadata,
    Column("job_id", Words, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("requester", Words, primary_key=True),
    # The job's own, to list a requester's jobs by age.
    Column("created_at", Moment, nullable=False),
    # The job is active, and the requester has not withdrawn.
    Column("waiting", Boolean, nullable=False),
)
Index("requesters_by_age", job_requesters.c.requester, job_requesters.c.created_at, job_requesters.c.job_id)
Index(
    "requesters_waiting",
    job_requesters.c.requester,
    sqlite_where=text("waiting = 1"),
    postgresql_where=text("waiting"),
)

job_workers: Final = Table(
    "job_workers",
    metadata,
    Column("worker_id", Words, primary_key=True),
    Column("job_id", Words, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
)
Index("workers_by_job", job_workers.c.job_id)

batches: Final = Table(
    "batches",
    metadata,
    Column("id", Words, primary_key=True),
    Column("requester", Words, nullable=False),
    # Of the Idempotency-Key header, and a digest of what was asked for with it.
    Column("idempotency_key", Words),
    Column("request_digest", Words, nullable=False),
    Column("retry", Boolean, nullable=False),
    Column("total", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("ended_at", Moment),
    # Members by state, once it has ended; before that they are counted.
    Column("counts", Json),
    # Which process submits its files, and until when no other does.
    Column("held_by", Words),
    Column("held_until", Moment),
    # What its requester could see beside public files.
    Column("visible", Json),
)
Index(
    "one_batch_per_key",
    batches.c.requester,
    batches.c.idempotency_key,
    unique=True,
    sqlite_where=text("idempotency_key IS NOT NULL"),
    postgresql_where=text("idempotency_key IS NOT NULL"),
)
Index(
    "batches_open",
    batches.c.created_at,
    batches.c.id,
    batches.c.requester,
    sqlite_where=text("ended_at IS NULL"),
    postgresql_where=text("ended_at IS NULL"),
)
Index("batches_by_age", batches.c.created_at, batches.c.id)
Index("batches_of_requester", batches.c.requester, batches.c.created_at, batches.c.id)

batch_members: Final = Table(
    "batch_members",
    metadata,
    Column("batch_id", Words, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    # In the order of asking, from 0.
    Column("number", Integer, primary_key=True),
    Column("dcc", PLAIN, nullable=False),
    Column("local_id", PLAIN, nullable=False),
    Column("state", PLAIN, nullable=False),
    # The newest job on the file's content, if any was needed. No reference: jobs are forgotten before.
    Column("job_id", Words),
    Column("reason", Words),
    Column("detail", Words, nullable=False),
)
Index("members_by_state", batch_members.c.batch_id, batch_members.c.state, batch_members.c.number)
Index(
    "members_by_job",
    batch_members.c.job_id,
    sqlite_where=text("job_id IS NOT NULL"),
    postgresql_where=text("job_id IS NOT NULL"),
)

access_times: Final = Table(
    "access_times",
    metadata,
    # An artifact's prefix, or what else is remembered with a time (domain/retention.py).
    Column("name", PLAIN, primary_key=True),
    Column("at", Moment, nullable=False),
)

reservations: Final = Table(
    "reservations",
    metadata,
    Column("id", Words, primary_key=True),
    Column("purpose", Words, nullable=False),
    Column("owner", Words, nullable=False),
    Column("slot", Integer, nullable=False),
    # True until it has ended.
    Column("live", Boolean, nullable=False),
    Column("state", Words, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("ended_at", Moment),
    # What is only read back.
    Column("details", Json, nullable=False),
)
# One session of a requester.
Index(
    "one_reservation_per_owner",
    reservations.c.purpose,
    reservations.c.owner,
    unique=True,
    sqlite_where=text("live = 1"),
    postgresql_where=text("live"),
)
# One worker in each slot of the floor, and so many sessions at most.
Index(
    "one_reservation_per_slot",
    reservations.c.purpose,
    reservations.c.slot,
    unique=True,
    sqlite_where=text("live = 1"),
    postgresql_where=text("live"),
)
# Which ended lately, and which may be forgotten.
Index("reservations_by_end", reservations.c.ended_at)

usage: Final = Table(
    "usage",
    metadata,
    # The same whoever writes the row again (domain/usage.py).
    Column("id", Words, primary_key=True),
    Column("kind", PLAIN, nullable=False),
    # YYYY-MM-DD, UTC.
    Column("day", PLAIN, nullable=False),
    Column("requester", Words, nullable=False),
    Column("dcc", Words, nullable=False),
    Column("capacity", PLAIN, nullable=False),
    Column("purpose", PLAIN, nullable=False),
    # No reference: jobs are forgotten before.
    Column("job_id", Words),
    Column("worker_id", Words),
    # Of a worker that is not known to have ended.
    Column("open", Boolean, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in AMOUNTS),
)
# A report of some days; what is old enough to be forgotten.
Index("usage_by_day", usage.c.day, usage.c.id)
# What one requester may still use.
Index("usage_of_requester", usage.c.requester, usage.c.day)
Index(
    "usage_open",
    usage.c.day,
    sqlite_where=text("open = 1"),
    postgresql_where=text("open"),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    # The public part of a key.
    Column("id", Words, primary_key=True),
    # SHA-256 of its whole text.
    Column("digest", Words, nullable=False),
    Column("owner", Words, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("collections", Json, nullable=False),
    Column("all_collections", Boolean, nullable=False),
    Column("label", Words, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
    Column("last_used_at", Moment),
    # What its owner may use, in the currency of the prices; NULL: what the settings say.
    Column("budget_per_day", Float(53)),
    Column("budget_per_month", Float(53)),
)

token_versions: Final = Table(
    "token_versions",
    metadata,
    # Whose tokens, and for what; without a row none was ever revoked.
    Column("subject", Words, primary_key=True),
    Column("resource", Words, primary_key=True),
    Column("version", Integer, nullable=False),
)

shared_secrets: Final = Table(
    "shared_secrets",
    metadata,
    Column("name", Words, primary_key=True),
    Column("value", Words, nullable=False),
)

files: Final = Table(
    "files",
    metadata,
    # In SQLite it has the order of (dcc, local_id), see ordered.py.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("dcc", PLAIN, nullable=False),
    Column("local_id", PLAIN, nullable=False),
    # 1 for a new entry, one more with each replacement.
    Column("revision", Integer, nullable=False),
    Column("file_format", PLAIN, nullable=False),
    Column("identity", PLAIN, nullable=False),
    Column("public", Boolean, nullable=False),
    # Of which import of a data package it is.
    Column("package", PLAIN),
    # What search.py reads, and the words that its index holds.
    Column("names", PLAIN, nullable=False),
    Column("words", PLAIN, nullable=False),
    # The whole entry as JSON in ASCII, made and read outside of transactions.
    Column("entry", PLAIN, nullable=False),
)
Index("files_by_name", files.c.dcc, files.c.local_id, unique=True)
# Pages for who sees public ones only, however many others there are.
Index(
    "files_public_by_name",
    files.c.dcc,
    files.c.local_id,
    sqlite_where=text("public = 1"),
    postgresql_where=text("public"),
)
# What an import of a package before has stored, to remove what the next one has not.
Index(
    "files_by_package",
    files.c.package,
    files.c.dcc,
    files.c.local_id,
    sqlite_where=text("package IS NOT NULL"),
    postgresql_where=text("package IS NOT NULL"),
)
Index("files_by_format", files.c.file_format, files.c.dcc, files.c.local_id)
Index("files_by_identity", files.c.identity, files.c.dcc, files.c.local_id)

add_word_index(files)
