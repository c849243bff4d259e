"""INSERT … ON CONFLICT, which SQLite and PostgreSQL share and SQLAlchemy spells twice; made once each."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Executable, Table
from sqlalchemy.dialects import postgresql, sqlite

from gooseherd.store.sql.schema import job_requesters


def insert_into(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT of that dialect."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


@cache
def insert_if_absent(dialect: str, table: Table) -> Executable:
    """Insert a row unless it would break a unique index; returns it if it was inserted."""
    return insert_into(dialect, table).on_conflict_do_nothing().returning(table)


@cache
def wait_for_job(dialect: str) -> Executable:
    """The requester waits for the job, whether or not they asked before."""
    waits: dict[str, Any] = {"waiting": True}
    insert = insert_into(dialect, job_requesters)
    return insert.on_conflict_do_update(index_elements=["job_id", "requester"], set_=waits)
