"""INSERT … ON CONFLICT, which SQLite and PostgreSQL share and SQLAlchemy spells twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

from gooseherd.store.sql.database import Transaction


def insert_into(tx: Transaction, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT of the transaction's dialect."""
    return sqlite.insert(table) if tx.dialect == "sqlite" else postgresql.insert(table)


def insert_if_absent(tx: Transaction, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert those rows that break no unique index; the others stay as they are."""
    tx.connection.execute(insert_into(tx, table).on_conflict_do_nothing(), list(rows))
