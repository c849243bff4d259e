"""The catalog as the API reads it: entries are cached for a moment, and each caller sees its own."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from gooseherd.domain.errors import Gone, NotFound, NoVisibleFile
from gooseherd.domain.ports.source import SourceDetails
from gooseherd.domain.ports.store import FilePage, FileQuery, FileStore
from gooseherd.domain.source import Dcc, LocalId, SourceFile, parse_dcc, parse_local_id
from gooseherd.domain.visibility import EVERYTHING, Visibility

_log = logging.getLogger(__name__)

REMEMBERED_SECONDS: Final = 2.0
"""A browser's view asks 14 to 130 ranges of the same few files within seconds; a withdrawn
file may be served this much longer by another process than the one that withdrew it."""
REMEMBERED_ENTRIES: Final = 4096
JUST_READ_SECONDS: Final = 1.0
"""For whoever keeps the answer by himself for some time."""
_READ_AHEAD_SECONDS: Final = 1.0
"""An entry that is in use is read again so long before it is forgotten: else all its readers would wait for
the store at the same moment, every two seconds."""

WITHDRAWN: Final = frozenset({"deleted", "withdrawn"})

_Ids = tuple[Dcc, LocalId]


@dataclass(slots=True)
class _Known:
    entry: SourceFile
    until: float
    read_again_at: float


@dataclass(frozen=True, slots=True)
class _Reading:
    task: asyncio.Task[SourceFile | None]
    writes: int
    """How many there had been when it began: what was written since may be missing in it."""


class Catalog:
    """The file store behind a small cache, which its own writes clear."""

    def __init__(self, files: FileStore, clock: Callable[[], float]) -> None:
        self._files = files
        self._clock = clock
        self._known: OrderedDict[_Ids, _Known] = OrderedDict()
        """Those that are expired, too: an entry that has not changed stays the same object."""
        self._reading: dict[_Ids, _Reading] = {}
        self._writes = 0
        self.changes = 0
        """How often this process has registered or removed entries."""

    async def entry(self, dcc: str, local_id: str, visible: Visibility) -> SourceFile:
        """The entry by the parts of a path.

        One that is not seen is answered as one that is not there, in the same words and after the same
        look into the store: else whoever guesses names learns which there are.

        Raises:
            InvalidInput: they cannot be ids.
            NotFound: no such entry that is seen.
        """
        entry = await self._stored(parse_dcc(dcc), parse_local_id(local_id))
        if not visible.shows(entry):
            raise NoVisibleFile("file", entry.name, hidden=True)
        return entry

    async def _stored(self, dcc: Dcc, local_id: LocalId) -> SourceFile:
        ids = dcc, local_id
        known = self.remembered(ids)
        if known is not None:
            return known
        # Whoever asked first may leave; the others still want the answer.
        found = await asyncio.shield(self._read(ids))
        if found is None:
            raise NoVisibleFile("file", f"{ids[0]}/{ids[1]}")
        return found

    def _read(self, ids: _Ids) -> asyncio.Task[SourceFile | None]:
        """The entry from the store, read once for all who ask meanwhile."""
        reading = self._reading.get(ids)
        if reading is None or reading.writes != self._writes:
            reading = self._reading[ids] = _Reading(
                asyncio.create_task(self._read_now(ids, self._writes)), self._writes
            )
            reading.task.add_done_callback(lambda _: self._has_read(ids, reading))
        return reading.task

    def _has_read(self, ids: _Ids, reading: _Reading) -> None:
        if self._reading.get(ids) is reading:
            del self._reading[ids]
        if not reading.task.cancelled() and (error := reading.task.exception()) is not None:
            # Whoever waits for it is told; of one that was read ahead nobody does.
            _log.debug("an entry could not be read", extra={"error": str(error)})

    async def _read_now(self, ids: _Ids, writes: int) -> SourceFile | None:
        found = await self._files.get(*ids)
        reading = self._reading.get(ids)
        if writes != self._writes or reading is None or reading.task is not asyncio.current_task():
            return found  # it may be older than what was written, or read anew, meanwhile
        known = self._known.pop(ids, None)
        if found is None:
            return None
        if known is not None and known.entry == found:
            found = known.entry
        until = self._clock() + REMEMBERED_SECONDS
        self._known[ids] = _Known(found, until, until - _READ_AHEAD_SECONDS)
        while len(self._known) > REMEMBERED_ENTRIES:
            self._known.popitem(last=False)
        return found

    def remembered(self, ids: _Ids) -> SourceFile | None:
        """The entry, if it was read a moment ago. On the event loop: it may be read again meanwhile."""
        known = self._known.get(ids)
        if known is None:
            return None
        now = self._clock()
        if now >= known.until:
            return None
        if now >= known.read_again_at:
            known.read_again_at = known.until  # once, also if it fails
            self._read(ids)
        return known.entry

    def was_just_read(self, ids: _Ids) -> bool:
        """Whether what is remembered was read within the last second."""
        known = self._known.get(ids)
        return known is not None and self._clock() < known.until - REMEMBERED_SECONDS + JUST_READ_SECONDS

    async def read_just_now(self, ids: _Ids) -> None:
        """Remember the entry as it is stored, unless that was just read. Raises StoreUnavailable."""
        if not self.was_just_read(ids):
            await asyncio.shield(self._read(ids))

    async def servable(self, dcc: str, local_id: str, visible: Visibility) -> SourceFile:
        """The entry, if its bytes may leave.

        Raises:
            Gone: it was withdrawn.
            NotFound: none that is seen, or not active.
        """
        entry = await self.entry(dcc, local_id, visible)
        status = entry.status.lower()
        if status in WITHDRAWN:
            raise Gone(entry.name, status)
        if status != "active":
            raise NotFound("active file", entry.name)
        return entry

    async def put(self, entries: Sequence[SourceFile]) -> int:
        """Insert or replace; how many were new."""
        try:
            return await self._files.put(entries)
        finally:
            self._writes += 1
            self.changes += 1
            for entry in entries:
                self._known.pop((entry.dcc, entry.local_id), None)

    async def refreshed(self, entry: SourceFile) -> SourceFile:
        """The entry as it is stored now, whatever is remembered. Raises NotFound when it is gone."""
        ids = entry.dcc, entry.local_id
        self._known.pop(ids, None)
        self._reading.pop(ids, None)  # what is being read may be older
        return await self.entry(entry.dcc, entry.local_id, EVERYTHING)

    async def fill_in(self, seen: SourceFile, details: SourceDetails) -> SourceFile:
        """Store the details that the source gave; the entry as it is stored then (see FileStore.fill_in).

        Raises:
            NotFound: it was removed meanwhile.
        """
        try:
            stored = await self._files.fill_in(
                seen, size_in_bytes=details.size_in_bytes, version_tag=details.version_tag
            )
        finally:
            self._writes += 1
            self._known.pop((seen.dcc, seen.local_id), None)
        if stored is None:
            raise NotFound("file", seen.name)
        return stored

    async def remove(self, dcc: str, local_id: str) -> SourceFile:
        """Take the entry out; as it was at that moment.

        This process serves nothing by that name from now on; another one that has looked the
        entry up may for REMEMBERED_SECONDS more.

        Raises:
            InvalidInput: they cannot be ids.
            NotFound: no such entry.
        """
        ids = parse_dcc(dcc), parse_local_id(local_id)
        try:
            removed = await self._files.remove(*ids)
        finally:
            # Also when the outcome is unknown: whoever asks next looks into the store.
            self._writes += 1
            self.changes += 1
            self._known.pop(ids, None)
        if removed is None:
            raise NotFound("file", f"{ids[0]}/{ids[1]}")
        return removed

    async def of_the_same_content(self, entry: SourceFile, limit: int) -> Sequence[SourceFile]:
        """Entries with the content of `entry`, straight from the store; itself too, while it is there."""
        return await self._files.of_identity(entry.identity, limit)

    async def not_public(self, names: Collection[tuple[Dcc, LocalId]]) -> frozenset[tuple[Dcc, LocalId]]:
        """Those of the names whose entries are there and not public, straight from the store."""
        return await self._files.not_public(names)

    async def search(self, query: FileQuery) -> FilePage:
        """One page of matching entries, straight from the store."""
        return await self._files.search(query)
