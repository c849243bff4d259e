"""How a statement says that a job is pending: that decides by which index the database looks for it."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import UnaryExpression

from gooseherd.domain.states import Status
from gooseherd.store.sql.schema import jobs

# A literal: that a parameter will be 'pending' no database knows when it chooses a partial index.
_STATUS: Final[ColumnElement[str]] = literal_column(f"'{Status.PENDING.value}'")

PENDING: Final = jobs.c.status == _STATUS


class _Likely(UnaryExpression[bool]):
    """A condition that many rows meet. SQLite, which keeps no counts, would look for them by it alone."""

    inherit_cache = True


@compiles(_Likely)
def _plain(condition: _Likely, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(condition.element, **options)


@compiles(_Likely, "sqlite")
def _likely(condition: _Likely, compiler: SQLCompiler, **options: Any) -> str:
    return f"likely({compiler.process(condition.element, **options)})"


IN_THE_QUEUE: Final = _Likely(PENDING)
"""Pending, found by an index of pending jobs and not by that of all statuses."""

PENDING_BY_AGE: Final = jobs.c.status.between(_STATUS, _STATUS)
"""Pending, found by the index of status and age, for an ORDER BY that begins with the status.

As an equality PostgreSQL takes it out of the order and may walk the index of all jobs by age, past
everything that has ended since the oldest one that is kept.
"""
