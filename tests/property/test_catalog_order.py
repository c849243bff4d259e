"""SQLite's catalog: whatever is put in and taken out, ids keep the order of names, and a search finds all."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, StaticPool, create_engine, delete, select

from gooseherd.domain import formats
from gooseherd.domain.ports.store import FileQuery
from gooseherd.domain.source import Dcc, LocalId, SourceFile
from gooseherd.store.sql import ordered, search, wordindex
from gooseherd.store.sql.database import Transaction
from gooseherd.store.sql.files import file_row
from gooseherd.store.sql.schema import files, metadata

LOCAL_IDS = st.text("aAbB01.-_", min_size=1, max_size=4).filter(
    lambda text: text[0].isalnum() and ".." not in text
)
FILENAMES = st.text("aAbB01.-_ éß", min_size=1, max_size=6)
TEXTS = st.text("aAbB01.-_ éß", min_size=1, max_size=4).filter(lambda text: text.split())
FORMATS = st.sampled_from([formats.BAM, formats.BED])
ENTRIES = st.builds(
    lambda dcc, local_id, filename, file_format: SourceFile(
        Dcc(dcc), LocalId(local_id), filename, file_format, "https://example.org/f", md5="0" * 32
    ),
    st.sampled_from(["a", "b", "c"]), LOCAL_IDS, FILENAMES, FORMATS,
)  # fmt: skip
STEPS = st.lists(st.tuples(st.booleans(), st.lists(ENTRIES, min_size=1, max_size=12)), max_size=12)


@contextmanager
def catalog() -> Iterator[Transaction]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    try:
        with engine.begin() as connection:
            metadata.create_all(connection)
            yield Transaction(connection, lambda _: datetime.now(UTC))
    finally:
        engine.dispose()


def put(tx: Transaction, entries: list[SourceFile]) -> int:
    named = {(entry.dcc, entry.local_id): entry for entry in entries}
    return ordered.put(tx, [file_row(named[name]) for name in sorted(named)])


def names_by_id(connection: Connection) -> list[tuple[str, str]]:
    return [
        tuple(row) for row in connection.execute(select(files.c.dcc, files.c.local_id).order_by(files.c.id))
    ]


def check_word_index(connection: Connection) -> None:
    """FTS5 compares its index with the table it is of, and raises when they differ."""
    connection.exec_driver_sql("INSERT INTO file_words(file_words, rank) VALUES('integrity-check', 1)")


def matches(entry: SourceFile, text: str) -> bool:
    """The promise in plain words: each piece begins a word of a name, or a name, and goes on as it does."""
    names = [entry.local_id.lower(), entry.filename.lower()]
    tails = [name[found.start() :] for name in names for found in re.finditer(r"[^\W_]+", name)] + names
    return all(any(tail.startswith(piece) for tail in tails) for piece in text.lower().split())


@given(steps=STEPS, texts=st.lists(TEXTS, min_size=1, max_size=4))
@settings(max_examples=150)
def test_pages_are_what_a_look_at_every_entry_would_give(steps, texts):
    known: dict[tuple[str, str], SourceFile] = {}
    with catalog() as tx:
        for removing, entries in steps:
            named = {(entry.dcc, entry.local_id): entry for entry in entries}
            if removing:
                for dcc, local_id in named:
                    tx.connection.execute(
                        delete(files).where(files.c.dcc == dcc, files.c.local_id == local_id)
                    )
                    known.pop((dcc, local_id), None)
            else:
                assert put(tx, entries) == len(named.keys() - known.keys())
                known |= named
            assert names_by_id(tx.connection) == sorted(known)
        check_word_index(tx.connection)
        for text in texts:
            for file_format in (None, formats.BED):
                for dcc in (None, Dcc("b")):
                    expected = [
                        name
                        for name, entry in sorted(known.items())
                        if matches(entry, text)
                        and file_format in (None, entry.file_format)
                        and dcc in (None, entry.dcc)
                    ]
                    assert _all_pages(tx, text, dcc, file_format) == expected


def test_no_text_is_found_across_the_end_of_an_id() -> None:
    with catalog() as tx:
        put(tx, [_entry("a.", filename="b"), _entry("c", filename="a.b")])
        assert _all_pages(tx, "a.b", None, None) == [("a", "c")]


def _all_pages(tx: Transaction, text: str, dcc: Any, file_format: Any) -> list[tuple[str, str]]:
    shown: list[tuple[str, str]] = []
    after = None
    while True:
        query = FileQuery(text=text, dcc=dcc, file_format=file_format, after=after)
        page = wordindex.sqlite_page(tx, search.wanted(text, file_format), query, 3)
        shown += [(entry["dcc"], entry["local_id"]) for entry in map(json.loads, page)]
        if len(page) < 3:
            return shown
        after = " ".join(shown[-1])


@pytest.mark.parametrize("order", ["ascending", "descending", "inwards", "shuffled"])
@pytest.mark.parametrize("batch", [1, 7, 300])
def test_gaps_that_are_used_up_are_made_again(order, batch, monkeypatch):
    """With ids of so few bits every order uses up gaps."""
    monkeypatch.setattr(ordered, "_BITS", 18)
    monkeypatch.setattr(ordered, "LAST", 1 << 18)
    monkeypatch.setattr(ordered, "_STEP", 1 << 6)
    numbers = list(range(900))
    if order == "descending":
        numbers.reverse()
    elif order == "inwards":
        numbers = [number for pair in zip(numbers[:450], numbers[:449:-1], strict=True) for number in pair]
    elif order == "shuffled":
        numbers.sort(key=lambda number: number * 7919 % 900)
    spread = 0
    spread_again = ordered._spread

    def counted(tx, run):
        nonlocal spread
        spread += 1
        spread_again(tx, run)

    monkeypatch.setattr(ordered, "_spread", counted)
    with catalog() as tx:
        for start in range(0, 900, batch):
            part = numbers[start : start + batch]
            assert put(tx, [_entry(f"{number:04}") for number in part]) == len(part)
        assert names_by_id(tx.connection) == [("a", f"{number:04}") for number in range(900)]
        check_word_index(tx.connection)
        ids = tx.connection.scalars(select(files.c.id)).all()
        assert all(0 < number < 1 << 18 for number in ids)
    assert spread < 300


def test_a_second_collection_that_sorts_between_two_finds_room_for_a_whole_import():
    with catalog() as tx:
        for dcc in ("a", "c"):
            put(tx, [_entry(f"{number:05}", dcc) for number in range(100)])
        for start in range(0, 20_000, 500):
            put(tx, [_entry(f"{number:05}", "b") for number in range(start, start + 500)])
        assert names_by_id(tx.connection) == [
            *(("a", f"{number:05}") for number in range(100)),
            *(("b", f"{number:05}") for number in range(20_000)),
            *(("c", f"{number:05}") for number in range(100)),
        ]


def test_a_new_version_of_an_entry_is_found_by_its_new_words_only():
    with catalog() as tx:
        put(tx, [_entry("1", filename="old.bam")])
        put(tx, [_entry("1", filename="new.bam")])
        assert _all_pages(tx, "old", None, None) == []
        assert _all_pages(tx, "new", None, None) == [("a", "1")]
        check_word_index(tx.connection)


def test_the_word_index_is_of_a_kind_that_this_python_has():
    with closing(sqlite3.connect(":memory:")) as database:
        options = {row[0] for row in database.execute("PRAGMA compile_options")}
    assert "ENABLE_FTS5" in options, json.dumps(sorted(options))


def _entry(local_id: str, dcc: str = "a", filename: str = "f.bam") -> SourceFile:
    return SourceFile(
        Dcc(dcc), LocalId(local_id), filename, formats.BAM, "https://example.org/f", md5="0" * 32
    )
