"""How a statement says that a job is pending: that decides by which index the database looks for it."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, FromClause, Select, literal_column
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler

from gooseherd.domain.states import Status
from gooseherd.store.sql.schema import jobs

S = TypeVar("S", bound=Select[Any])

# A literal: that a parameter will be 'pending' no database knows when it chooses a partial index.
_STATUS: Final[ColumnElement[str]] = literal_column(f"'{Status.PENDING.value}'")

PENDING: Final = jobs.c.status == _STATUS

PENDING_BY_AGE: Final = jobs.c.status.between(_STATUS, _STATUS)
"""Pending, found by the index of status and age, for an ORDER BY that begins with the status.

As an equality PostgreSQL takes it out of the order and may walk the index of all jobs by age, past
everything that has ended since the oldest one that is kept.
"""


def in_the_queue(statement: S, index: str) -> S:
    """Of pending jobs alone, found by that index of them.

    SQLite keeps no counts: it would look for all of them by the index of statuses, and sort them. What
    `likely(…)` does about that depends on its version; a name that cannot be followed is an error in each.
    """
    return statement.where(PENDING).with_hint(jobs, f"INDEXED BY {index}", "sqlite")


class HintingCompiler(SQLiteCompiler):
    """SQLAlchemy has hints for other databases than SQLite."""

    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:
        return text
