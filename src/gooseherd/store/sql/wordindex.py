"""How a search reads each database's index of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, cast, func, literal_column, text
from sqlalchemy.dialects.postgresql import TSQUERY

from gooseherd.domain.ports.store import FileQuery
from gooseherd.store.sql.columns import storable
from gooseherd.store.sql.database import Transaction
from gooseherd.store.sql.schema import files
from gooseherd.store.sql.search import Wanted

_PAGE: Final = """
    SELECT files.entry FROM file_words CROSS JOIN files ON files.id = file_words.rowid
    WHERE file_words MATCH :words {conditions} ORDER BY file_words.rowid LIMIT :limit
"""
"""CROSS JOIN is SQLite's way to say that the words come first; they come in the order of ids."""

_AFTER: Final = """
    AND file_words.rowid > coalesce((
        SELECT id FROM files WHERE (dcc, local_id) <= (:after_dcc, :after_local_id)
        ORDER BY dcc DESC, local_id DESC LIMIT 1
    ), 0)
"""

_OF_DCC: Final = """
    AND file_words.rowid >= (SELECT id FROM files WHERE dcc = :dcc ORDER BY local_id LIMIT 1)
    AND file_words.rowid <= (SELECT id FROM files WHERE dcc = :dcc ORDER BY local_id DESC LIMIT 1)
"""


def sqlite_page(tx: Transaction, wanted: Wanted, query: FileQuery, limit: int) -> Sequence[Any]:
    """The first `limit` entries that match, in the order of names."""
    terms = [f'"{word}"' for word in wanted.whole] + [f'"{word}"*' for word in wanted.prefixes]
    values: dict[str, object] = {"words": " AND ".join(terms), "limit": limit}
    conditions = ""
    if query.dcc is not None:
        conditions += _OF_DCC
        values["dcc"] = query.dcc
    if query.after is not None:
        conditions += _AFTER
        values["after_dcc"], _, values["after_local_id"] = storable(query.after).partition(" ")
    for number, piece in enumerate(wanted.pieces):
        conditions += f" AND instr(files.names, :piece_{number})"
        values[f"piece_{number}"] = piece
    page = text(_PAGE.format(conditions=conditions)).columns(files.c.entry)
    return tx.connection.scalars(page, values).all()


def postgresql_matches(wanted: Wanted) -> list[ColumnElement[bool]]:
    """What the text demands of a row; the planner knows when the index helps."""
    terms = [f"'{word}'" for word in wanted.whole] + [f"'{word}':*" for word in wanted.prefixes]
    vector = func.array_to_tsvector(func.string_to_array(files.c.words, literal_column("' '")))
    found = vector.op("@@", is_comparison=True)(cast(" & ".join(terms), TSQUERY))
    return [found, *(func.strpos(files.c.names, piece) > 0 for piece in wanted.pieces)]
