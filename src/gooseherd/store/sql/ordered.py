"""SQLite: catalog rows whose ids have the order of their names.

The word index of SQLite gives matches in the order of ids and in no other. Pages of a search come by
(dcc, local_id): so an entry's id is chosen between those of its neighbours, and a page costs what is
on it, however many entries match. This is list labelling: ids are spread over 48 bits, and where a
gap is used up its surroundings are spread again (Bender et al., Two simplified algorithms for
maintaining order in a list, 2002). Not over 63, because the word index stores their differences.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, func, insert, select, text, update
from sqlalchemy.dialects import sqlite

from gooseherd.store.sql.database import Transaction
from gooseherd.store.sql.schema import files

_BITS: Final = 48
LAST: Final = 1 << _BITS
"""Ids lie between 0 and this, both excluded."""

_STEP: Final = 1 << 20
"""Between entries that are appended, so that many find room between them later."""

_SHARE: Final = 16
"""Of a gap that several entries share they take this part: an import goes on behind them, batch by batch."""

_THINNING: Final = 1.4
"""A window of 2^n ids takes 2^n / 1.4^n entries when it is spread again, and is widened if it has more."""

_NEIGHBOURS: Final = text(
    """
    WITH found AS (
        SELECT name.key AS place, own.id AS own, CASE WHEN own.id IS NULL THEN (
            SELECT files.id FROM files
            WHERE (dcc, local_id) > (json_extract(name.value, '$[0]'), json_extract(name.value, '$[1]'))
            ORDER BY dcc, local_id LIMIT 1
        ) END AS later
        FROM json_each(:names) AS name LEFT JOIN files AS own
            ON own.dcc = json_extract(name.value, '$[0]') AND own.local_id = json_extract(name.value, '$[1]')
    )
    SELECT own, CASE WHEN own IS NULL THEN coalesce(later, :last) END AS later, CASE WHEN own IS NULL THEN (
        SELECT coalesce(max(id), 0) FROM files WHERE id < coalesce(later, :last)
    ) END AS earlier
    FROM found ORDER BY place
    """
)

REPLACED: Final = ("file_format", "identity", "public", "package", "names", "words", "entry")
"""What a new version of an entry brings."""

# Straight to the driver: an import spends its time here, and all values are ready.
_INSERT: Final = str(insert(files).compile(dialect=sqlite.dialect()))
_IN_ORDER: Final = itemgetter(*(column.name for column in files.columns))
_INSERT_WORDS: Final = "INSERT INTO file_words (rowid, words) VALUES (?, ?)"

_REPLACE: Final = (
    update(files)
    .where(files.c.id == bindparam("own"))
    .values({name: bindparam(f"new_{name}") for name in REPLACED} | {"revision": files.c.revision + 1})
)

_MOVE: Final = update(files).where(files.c.id == bindparam("old")).values(id=bindparam("new"))


@dataclass(frozen=True, slots=True)
class Run:
    """New entries, next to each other in the order of names, and the ids on both sides of them."""

    earlier: int
    later: int
    count: int


def put(tx: Transaction, rows: Sequence[dict[str, Any]]) -> int:
    """Insert or replace rows, which come in the order of their names; how many were new."""
    names = json.dumps([[row["dcc"], row["local_id"]] for row in rows])
    while True:
        found = tx.connection.execute(_NEIGHBOURS, {"names": names, "last": LAST}).all()
        crowded = None
        ids: list[int] = []
        for run in _runs(found):
            chosen = choose(run)
            if chosen is None:
                crowded = run
                break
            ids += chosen
        if crowded is None:
            break
        _spread(tx, crowded)
    chosen_ids = iter(ids)
    new = [
        {**row, "id": next(chosen_ids)} for row, there in zip(rows, found, strict=True) if there.own is None
    ]
    old = [
        {"own": there.own, **{f"new_{name}": row[name] for name in REPLACED}}
        for row, there in zip(rows, found, strict=True)
        if there.own is not None
    ]
    if new:
        tx.connection.exec_driver_sql(_INSERT, list(map(_IN_ORDER, new)))
        tx.connection.exec_driver_sql(_INSERT_WORDS, [(row["id"], row["words"]) for row in new])
    if old:
        tx.connection.execute(_REPLACE, old)
    return len(new)


def _runs(found: Sequence[Any]) -> Iterator[Run]:
    missing = (row for row in found if row.own is None)
    for (earlier, later), members in groupby(missing, lambda row: (row.earlier, row.later)):
        yield Run(earlier, later, sum(1 for _ in members))


def choose(run: Run) -> list[int] | None:
    """Ids for the run, ascending, within its gap; None: the gap has no room."""
    gap = run.later - run.earlier
    if run.earlier == 0 and run.later == LAST:
        step = gap // (2 * (run.count + 1))
        return _ascending(gap // 4, step, run.count)
    if run.later == LAST:
        step = min(_STEP, gap // (2 * run.count + 1))
    elif run.earlier == 0:
        step = min(_STEP, gap // (2 * run.count + 1))
        return _ascending(run.later - step * (run.count + 1), step, run.count) if step else None
    elif run.count == 1:
        step = gap // 2
    else:
        step = gap // (_SHARE * run.count) or gap // (run.count + 1)
    return _ascending(run.earlier, step, run.count) if step else None


def _ascending(after: int, step: int, count: int) -> list[int]:
    return [after + step * number for number in range(1, count + 1)]


def _spread(tx: Transaction, run: Run) -> None:
    """Spread the ids around a gap that is used up, as far around it as that gives room."""
    start, end = _window(tx, run)
    old = list(tx.connection.scalars(select(files.c.id).where(*_within(start, end)).order_by(files.c.id)))
    step = (end - start) // (len(old) + run.count + 1)
    before = sum(1 for place in old if place <= run.earlier)
    places = [*range(1, before + 1), *range(before + run.count + 1, len(old) + run.count + 1)]
    moves = [(place, start + step * number) for place, number in zip(old, places, strict=True)]
    # In this order none moves to where another one still is.
    up = sorted((move for move in moves if move[1] > move[0]), reverse=True)
    down = sorted(move for move in moves if move[1] < move[0])
    for part in (up, down):
        if part:
            tx.connection.execute(_MOVE, [{"old": place, "new": target} for place, target in part])


def _window(tx: Transaction, run: Run) -> tuple[int, int]:
    """The smallest one around the gap that is not crowded."""
    start, end = 0, LAST
    for bits in range(run.count.bit_length() + 1, _BITS):
        start = run.earlier >> bits << bits
        end = start + (1 << bits)
        count = tx.connection.scalar(select(func.count()).select_from(files).where(*_within(start, end)))
        if count is not None and count + run.count <= (2 / _THINNING) ** bits:
            return start, end
    return 0, LAST


def _within(start: int, end: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return files.c.id > start, files.c.id < end
