"""How a search reads each database's index of words.

Pages come in the order of names, and no index of words has that order. Where few entries match, they
are all fetched and sorted. Where many match, one need not look far: the entries are read in their
order and each is looked at until the page is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, cast, column, func, literal_column, select, table, text
from sqlalchemy.dialects.postgresql import TSQUERY

from gooseherd.store.sql.database import Transaction
from gooseherd.store.sql.schema import files
from gooseherd.store.sql.search import Wanted

_FEW: Final = 1500
"""Entries that are fetched and sorted within two milliseconds."""

_file_words: Final = table("file_words", column("rowid"))


def matching(tx: Transaction, wanted: Wanted, filters: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """The entries that match and pass the filters, without an order."""
    if tx.dialect == "postgresql":
        return _postgresql(wanted, filters)
    return _sqlite(tx, wanted, filters)


def _sqlite(tx: Transaction, wanted: Wanted, filters: Sequence[ColumnElement[bool]]) -> Select[Any]:
    terms = [f'"{word}"' for word in wanted.whole] + [f'"{word}"*' for word in wanted.prefixes]
    found = text("file_words MATCH :words").bindparams(words=" AND ".join(terms))
    checks = [func.instr(files.c.names, piece) > 0 for piece in wanted.pieces]
    some = select(_file_words.c.rowid).where(found).limit(_FEW + 1).subquery()
    few = tx.connection.execute(select(func.count()).select_from(some)).scalar_one() <= _FEW
    if few:
        ids = select(_file_words.c.rowid).where(found)
        return select(files.c.entry).where(files.c.id.in_(ids), *checks, *filters)
    return select(files.c.entry).where(*checks, *filters)


def _postgresql(wanted: Wanted, filters: Sequence[ColumnElement[bool]]) -> Select[Any]:
    terms = [f"'{word}'" for word in wanted.whole] + [f"'{word}':*" for word in wanted.prefixes]
    vector = func.array_to_tsvector(func.string_to_array(files.c.words, literal_column("' '")))
    found = vector.op("@@", is_comparison=True)(cast(" & ".join(terms), TSQUERY))
    checks = [func.strpos(files.c.names, piece) > 0 for piece in wanted.pieces]
    return select(files.c.entry).where(found, *checks, *filters)
