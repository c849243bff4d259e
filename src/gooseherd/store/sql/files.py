"""The catalog."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, func, select, tuple_, update
from sqlalchemy.dialects import postgresql

from gooseherd.domain.ports.store import FilePage, FileQuery
from gooseherd.domain.source import AccessLevel, Dcc, Identity, LocalId, SourceFile
from gooseherd.store.sql import ordered, search, wordindex
from gooseherd.store.sql.columns import storable, to_json
from gooseherd.store.sql.database import Stored, Transaction, reading, writing
from gooseherd.store.sql.rows import to_file
from gooseherd.store.sql.schema import files
from gooseherd.store.sql.visible import only_visible

_BATCH: Final = 1000
"""Entries per transaction: others get to write in between."""

_NAMES_AT_ONCE: Final = 400
"""Two values each; older SQLite takes 999 in a statement."""

_BY_NAME: Final = (files.c.dcc, files.c.local_id)


class SqlFiles(Stored):
    """The FileStore port over SQLite and PostgreSQL."""

    @reading
    def get(self, tx: Transaction, dcc: Dcc, local_id: LocalId) -> SourceFile | None:
        """The entry, or None."""
        found = tx.connection.scalar(select(files.c.entry).where(*_named(dcc, local_id)))
        return None if found is None else _entry(found)

    async def put(self, entries: Sequence[SourceFile]) -> int:
        """Insert or replace entries by (dcc, local_id), the last of each name; how many were new.

        Entries go in by batches, each whole or not at all: after StoreUnavailable some may be there,
        and putting them again is safe.
        """
        named = {(entry.dcc, entry.local_id): entry for entry in entries}
        # Sorted, so that two imports at once wait for each other instead of locking each other out.
        ordered_names = sorted(named)
        new = 0
        for start in range(0, len(ordered_names), _BATCH):
            batch = [named[name] for name in ordered_names[start : start + _BATCH]]
            # Before the transaction: others write in the meantime.
            rows = await asyncio.to_thread(_file_rows, batch)
            new += await self._put(rows)
        return new

    @writing
    def _put(self, tx: Transaction, rows: Sequence[dict[str, Any]]) -> int:
        return ordered.put(tx, rows) if tx.dialect == "sqlite" else _upsert(tx, rows)

    @writing
    def remove(self, tx: Transaction, dcc: Dcc, local_id: LocalId) -> SourceFile | None:
        """Take one entry out; the entry as it was then, or None when there is none."""
        gone = delete(files).where(*_named(dcc, local_id)).returning(files.c.entry)
        found = tx.connection.scalar(gone)
        return None if found is None else _entry(found)

    @writing
    def fill_in(
        self, tx: Transaction, seen: SourceFile, *, size_in_bytes: int | None, version_tag: str | None
    ) -> SourceFile | None:
        """Set what the entry leaves open while it is as it was seen; the entry as it is stored then."""
        name = _named(seen.dcc, seen.local_id)
        # Locked, so that of many that come at once each sees what the one before has written.
        found = tx.connection.scalar(select(files.c.entry).where(*name).with_for_update())
        if found is None:
            return None
        stored = _entry(found)
        filled = stored.filled_in(seen, size_in_bytes=size_in_bytes, version_tag=version_tag)
        if filled != stored:
            tx.connection.execute(
                update(files)
                .where(*name)
                .values(
                    entry=to_json(filled.to_json()),
                    identity=str(filled.identity),
                    revision=files.c.revision + 1,
                )
            )
        return filled

    @reading
    def not_public(
        self, tx: Transaction, names: Collection[tuple[Dcc, LocalId]]
    ) -> frozenset[tuple[Dcc, LocalId]]:
        """Those of the names whose entries are there and not public."""
        found: set[tuple[Dcc, LocalId]] = set()
        ordered_names = sorted(names)
        for start in range(0, len(ordered_names), _NAMES_AT_ONCE):
            some = ordered_names[start : start + _NAMES_AT_ONCE]
            hidden = select(*_BY_NAME).where(tuple_(*_BY_NAME).in_(some), ~files.c.public)
            found.update((row.dcc, row.local_id) for row in tx.connection.execute(hidden))
        return frozenset(found)

    @reading
    def of_identity(self, tx: Transaction, identity: Identity, limit: int) -> Sequence[SourceFile]:
        """Entries of exactly that content, by (dcc, local_id), at most `limit`."""
        same = select(files.c.entry).where(files.c.identity == str(identity))
        return [_entry(text) for text in tx.connection.scalars(same.order_by(*_BY_NAME).limit(limit))]

    @reading
    def search(self, tx: Transaction, query: FileQuery) -> FilePage:
        """One page by (dcc, local_id). Each word of `text` must begin a word of local_id or filename."""
        text = search.wanted(query.text or "", query.file_format)
        found = _search_page(tx, text, query) if text.tokens else _page(tx, text, query)
        entries = list(map(_entry, found))
        page = tuple(entries[: query.limit])
        more = len(entries) > query.limit and page
        return FilePage(page, f"{page[-1].dcc} {page[-1].local_id}" if more else None)

    @reading
    def count(self, tx: Transaction) -> int:
        """How many entries there are."""
        return tx.connection.execute(select(func.count()).select_from(files)).scalar_one()


def _upsert(tx: Transaction, rows: Sequence[dict[str, Any]]) -> int:
    """Insert or replace rows; how many were new."""
    insert = postgresql.insert(files)
    values = {name: insert.excluded[name] for name in ordered.REPLACED}
    upsert = insert.on_conflict_do_update(
        index_elements=["dcc", "local_id"], set_=values | {"revision": files.c.revision + 1}
    ).returning(files.c.revision)
    return sum(revision == 1 for revision in tx.connection.scalars(upsert, list(rows)))


def _file_rows(entries: Sequence[SourceFile]) -> list[dict[str, Any]]:
    return list(map(file_row, entries))


def file_row(entry: SourceFile) -> dict[str, Any]:
    """The entry as a row; its id is chosen when it is written."""
    return {
        "dcc": entry.dcc,
        "local_id": entry.local_id,
        "revision": 1,
        "file_format": entry.file_format.name,
        "identity": str(entry.identity),
        "public": entry.access_level is AccessLevel.PUBLIC,
        "package": entry.package,
        "names": search.names(entry),
        "words": search.words(entry),
        "entry": to_json(entry.to_json()),
    }


def _entry(text: str) -> SourceFile:
    return to_file(json.loads(text))


def _named(dcc: Dcc, local_id: LocalId) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return files.c.dcc == storable(dcc), files.c.local_id == storable(local_id)


def _search_page(tx: Transaction, text: search.Wanted, query: FileQuery) -> Sequence[Any]:
    if tx.dialect == "sqlite":
        return wordindex.sqlite_page(tx, text, query, query.limit + 1)
    found = wordindex.postgresql_page(tx, text, query, query.limit + 1)
    return _page(tx, text, query) if found is None else found


def _page(tx: Transaction, text: search.Wanted, query: FileQuery) -> Sequence[Any]:
    """One entry more than a page, read in the order of names."""
    found = select(files.c.entry).where(*(func.strpos(files.c.names, token) > 0 for token in text.tokens))
    if query.file_format is not None:
        found = found.where(files.c.file_format == query.file_format.name)
    if query.dcc is not None:
        found = found.where(files.c.dcc == query.dcc)
    if query.package is not None:
        found = found.where(files.c.package == storable(query.package))
    visible = only_visible(files, query.visible)
    if visible is not None:
        found = found.where(visible)
    if query.after is not None:
        # A dcc holds no blank.
        dcc, _, local_id = storable(query.after).partition(" ")
        if query.dcc is None:
            found = found.where(tuple_(*_BY_NAME) > (dcc, local_id))
        elif query.dcc == dcc:
            found = found.where(files.c.local_id > local_id)
        elif query.dcc < dcc:
            return ()
    return tx.connection.scalars(found.order_by(*_BY_NAME).limit(query.limit + 1)).all()
