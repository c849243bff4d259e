"""How a search reads each database's index of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import TextClause, text
from sqlalchemy.sql.selectable import TextualSelect

from gooseherd.domain.ports.store import FileQuery
from gooseherd.store.sql.columns import storable
from gooseherd.store.sql.database import Transaction
from gooseherd.store.sql.schema import files
from gooseherd.store.sql.search import FORMAT, LAST, Wanted
from gooseherd.store.sql.visible import visible_words

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
    for number, token in enumerate(wanted.tokens):
        conditions += f" AND instr(files.names, :token_{number})"
        values[f"token_{number}"] = token
    seen, seen_values = visible_words(query.visible, "sqlite")
    conditions += seen
    values |= seen_values
    page = text(_PAGE.format(conditions=conditions)).columns(files.c.entry)
    return tx.connection.scalars(page, values).all()


FEW: Final = 5000
"""Names that PostgreSQL sorts within some milliseconds."""

_FREQUENCY: Final = """
    (SELECT count(*) FROM (SELECT word FROM file_words WHERE {term} ORDER BY word LIMIT {most}) AS bounded)
"""

_FEW: Final = """
    SELECT found.entry FROM (
        SELECT DISTINCT dcc, local_id FROM file_words WHERE {term} {of_names} ORDER BY dcc, local_id
    ) AS name CROSS JOIN LATERAL (
        SELECT entry FROM files WHERE dcc = name.dcc AND local_id = name.local_id {of_entries} OFFSET 0
    ) AS found ORDER BY name.dcc, name.local_id LIMIT :limit
"""
"""OFFSET 0 keeps the planner from reading all entries instead of those that are named."""


def postgresql_page(tx: Transaction, wanted: Wanted, query: FileQuery, limit: int) -> Sequence[Any] | None:
    """The first `limit` entries that match, in the order of names; None: too many have each of the words.

    Where few names have a word, they are all sorted. Where many have each of the words one need not
    look far: then the caller reads entries in their order and looks at each. The planner cannot
    choose, to it all words are equally frequent.
    """
    values: dict[str, object] = {"limit": limit}
    terms: list[str] = []
    for number, word in enumerate(word for word in wanted.whole if not word.startswith(FORMAT)):
        terms.append(f"word = :whole_{number}")
        values[f"whole_{number}"] = word
    for number, word in enumerate(wanted.prefixes):
        terms.append(f"word >= :first_{number} AND word < :last_{number}")
        values |= {f"first_{number}": word, f"last_{number}": word + LAST}
    fewest, term = min(zip(_frequencies(tx, terms, values), terms, strict=True))
    if fewest > FEW:
        return None
    of_names, of_entries = "", ""
    if query.dcc is not None:
        of_names += " AND dcc = :dcc"
        values["dcc"] = query.dcc
    if query.after is not None:
        of_names += " AND (dcc, local_id) > (:after_dcc, :after_local_id)"
        values["after_dcc"], _, values["after_local_id"] = storable(query.after).partition(" ")
    if query.file_format is not None:
        of_entries += " AND file_format = :file_format"
        values["file_format"] = query.file_format.name
    for number, token in enumerate(wanted.tokens):
        of_entries += f" AND strpos(names, :token_{number}) > 0"
        values[f"token_{number}"] = token
    seen, seen_values = visible_words(query.visible, "postgresql")
    of_entries += seen
    values |= seen_values
    page = text(_FEW.format(term=term, of_names=of_names, of_entries=of_entries)).columns(files.c.entry)
    return tx.connection.scalars(page, _used(page, values)).all()


def _frequencies(tx: Transaction, terms: Sequence[str], values: Mapping[str, object]) -> Sequence[int]:
    """How many names have each of the words, at most `FEW` + 1: read in the index's order, no farther."""
    counts = [_FREQUENCY.format(term=term, most=FEW + 1) for term in terms]
    counting = text(f"SELECT {', '.join(counts)}")
    return tx.connection.execute(counting, _used(counting, values)).one()


def _used(statement: TextClause | TextualSelect, values: Mapping[str, object]) -> dict[str, object]:
    """Those that the statement names."""
    names = statement.compile().params
    return {name: value for name, value in values.items() if name in names}
