"""The catalog in MongoDB."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError

from gooseherd.domain.errors import StoreUnavailable
from gooseherd.domain.ports.store import FilePage, FileQuery
from gooseherd.domain.source import AccessLevel, Dcc, Identity, LocalId, SourceFile
from gooseherd.store.mongo.connect import Database, Document, durable, store_operation
from gooseherd.store.mongo.documents import file_id, from_file, only_visible
from gooseherd.store.mongo.schema import FILES

_BATCH: Final = 500
"""Entries per round trip: about 1 MB, far below a message's 48 MB."""
_DUPLICATE_KEY: Final = 11000
_LAST: Final = "\U0010ffff"
"""Sorts after every character a word may hold."""


class MongoFiles:
    """The FileStore port over MongoDB and what speaks its protocol."""

    def __init__(self, db: Database) -> None:
        self._files = durable(db, FILES)

    @store_operation
    async def get(self, dcc: Dcc, local_id: LocalId) -> SourceFile | None:
        """The entry, or None."""
        document = await self._files.find_one({"_id": file_id(dcc, local_id)})
        return SourceFile.from_json(document) if document else None

    @store_operation
    async def put(self, entries: Sequence[SourceFile]) -> int:
        """Insert or replace entries by (dcc, local_id), the last of each name; how many were new.

        Each entry is one atomic write, the whole is not: after StoreUnavailable some may be
        there, and putting them again is safe.
        """
        documents = list({document["_id"]: document for document in map(from_file, entries)}.values())
        new = 0
        for start in range(0, len(documents), _BATCH):
            new += await self._put(documents[start : start + _BATCH])
        return new

    async def _put(self, documents: Sequence[Document]) -> int:
        pending = list(documents)
        new = 0
        for _ in range(3):
            writes = [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in pending]
            try:
                result = await self._files.bulk_write(writes, ordered=False)
                return new + result.upserted_count
            except BulkWriteError as error:
                refused = error.details.get("writeErrors") or []
                # Two upserts of one name may both decide to insert; the loser replaces, the next time.
                if not refused or any(item["code"] != _DUPLICATE_KEY for item in refused):
                    raise
                new += int(error.details.get("nUpserted", 0))
                pending = [pending[item["index"]] for item in refused]
        raise StoreUnavailable("put")

    @store_operation
    async def remove(self, dcc: Dcc, local_id: LocalId) -> SourceFile | None:
        """Take one entry out; the entry as it was then, or None when there is none."""
        document = await self._files.find_one_and_delete({"_id": file_id(dcc, local_id)})
        return SourceFile.from_json(document) if document else None

    @store_operation
    async def fill_in(
        self, seen: SourceFile, *, size_in_bytes: int | None, version_tag: str | None
    ) -> SourceFile | None:
        """Set what the entry leaves open while it is as it was seen; the entry as it is stored then."""
        filled = seen.filled_in(seen, size_in_bytes=size_in_bytes, version_tag=version_tag)
        name = {"_id": file_id(seen.dcc, seen.local_id)}
        if filled != seen:
            # All that the identity is made of, so that the one that is written is that of the entry.
            unchanged = {
                "access_url": seen.access_url,
                "md5": seen.md5,
                "sha256": seen.sha256,
                "size_in_bytes": seen.size_in_bytes,
                "version_tag": seen.version_tag,
            }
            news = {
                "size_in_bytes": filled.size_in_bytes,
                "version_tag": filled.version_tag,
                "identity": str(filled.identity),
            }
            await self._files.update_one({**name, **unchanged}, {"$set": news})
        document = await self._files.find_one(name)
        return SourceFile.from_json(document) if document else None

    @store_operation
    async def not_public(self, names: Collection[tuple[Dcc, LocalId]]) -> frozenset[tuple[Dcc, LocalId]]:
        """Those of the names whose entries are there and not public."""
        found: set[tuple[Dcc, LocalId]] = set()
        ids = sorted(file_id(*name) for name in names)
        for start in range(0, len(ids), _BATCH):
            hidden = {
                "_id": {"$in": ids[start : start + _BATCH]},
                "data_access_level": {"$ne": AccessLevel.PUBLIC.value},
            }
            documents = await self._files.find(hidden, projection={"dcc": 1, "local_id": 1}).to_list()
            found.update((Dcc(one["dcc"]), LocalId(one["local_id"])) for one in documents)
        return frozenset(found)

    @store_operation
    async def of_identity(self, identity: Identity, limit: int) -> Sequence[SourceFile]:
        """Entries of exactly that content, by (dcc, local_id), at most `limit`."""
        found = self._files.find({"identity": str(identity)}, sort=[("_id", 1)], limit=limit)
        return [SourceFile.from_json(document) for document in await found.to_list()]

    @store_operation
    async def search(self, query: FileQuery) -> FilePage:
        """One page by (dcc, local_id). Each word of `text` must begin a word of local_id or filename."""
        wanted: Document = {}
        names: Document = {}
        if query.dcc is not None:
            # By name, as the page goes; the collection's own index has another order.
            names |= {"$gte": f"{query.dcc} ", "$lt": f"{query.dcc}!"}
        if query.file_format is not None:
            wanted["file_format"] = query.file_format.name
        if query.package is not None:
            wanted |= {"package": query.package, "of_package": True}
        prefixes = (query.text or "").lower().split()
        if prefixes:
            # A range within one element, not an anchored expression: every server finds it by index.
            wanted["words"] = {"$all": [{"$elemMatch": {"$gte": p, "$lt": p + _LAST}} for p in prefixes]}
        if query.after is not None:
            names["$gt"] = query.after
        if names:
            wanted["_id"] = names
        wanted |= only_visible(query.visible)
        documents = await self._files.find(wanted, sort=[("_id", 1)], limit=query.limit + 1).to_list()
        page = documents[: query.limit]
        more = len(documents) > query.limit and page
        return FilePage(tuple(map(SourceFile.from_json, page)), page[-1]["_id"] if more else None)

    @store_operation
    async def count(self) -> int:
        """How many entries there are, from the collection's own books."""
        return await self._files.estimated_document_count()
