"""Entries that came without a size or a version get them from their source, before keys are made of them."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gooseherd.api.catalog import Catalog
from gooseherd.domain.errors import GooseherdError
from gooseherd.domain.ports.source import SourceDetails, Sources
from gooseherd.domain.source import MOST_BYTES, Dcc, IdentityKind, LocalId, SourceFile, is_storable
from gooseherd.domain.visibility import Visibility

_log = logging.getLogger(__name__)

DETAILS_TIMEOUT_SECONDS: Final = 3.0
"""A client waits for its 202 meanwhile; most hosts answer a HEAD in well under a second."""

_Key = tuple[Dcc, LocalId, str]


def lacks_details(entry: SourceFile) -> bool:
    """Whether a HEAD would tell more than the catalog: its size, or what stands in for a digest."""
    if entry.size_in_bytes is None:
        return True
    return entry.identity.kind is IdentityKind.WEAK and entry.version_tag is None


class Describing:
    """Asks sources for what their entries lack, once per entry however many requests want it."""

    def __init__(self, catalog: Catalog, sources: Sources) -> None:
        self._catalog = catalog
        self._sources = sources
        self._asking: dict[_Key, asyncio.Task[SourceFile]] = {}

    async def servable(self, dcc: str, local_id: str, visible: Visibility) -> SourceFile:
        """The entry, if its bytes may leave (see Catalog.servable)."""
        return await self._catalog.servable(dcc, local_id, visible)

    async def described(self, entry: SourceFile) -> SourceFile:
        """The entry as the store has it once its source was asked for what it lacks.

        Size and version may change the identity. What is stored decides, so that all requests and all
        API processes make the same keys of it. A source that refuses, or does not answer in time,
        leaves the entry as it is.

        Raises:
            NotFound: the entry was removed meanwhile.
            StoreUnavailable: whether it has changed is not known.
        """
        if not lacks_details(entry):
            return entry
        key = entry.dcc, entry.local_id, entry.access_url
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(entry))
            asking.add_done_callback(lambda done: self._forget(key, done))
        # Whoever asked first may leave; the others still want the answer.
        return await asyncio.shield(asking)

    def _forget(self, key: _Key, done: asyncio.Task[SourceFile]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()  # looked at here, because everybody who waited may have left

    async def _ask(self, entry: SourceFile) -> SourceFile:
        # What was remembered may be older than what another process has stored.
        stored = await self._catalog.refreshed(entry)
        if not lacks_details(stored):
            return stored
        try:
            async with asyncio.timeout(DETAILS_TIMEOUT_SECONDS):
                details = await self._sources.details(stored.access_url)
        except (GooseherdError, TimeoutError) as error:
            problem = str(error) or "no answer in time"
            _log.info("a file's size is not known", extra={"file": stored.name, "problem": problem})
            return await self._catalog.refreshed(stored)
        size, tag = details.size_in_bytes, details.version_tag
        wanted = SourceDetails(
            # What a host says of itself may be more than a store holds.
            size if size is not None and 0 <= size <= MOST_BYTES else None,
            # Beside a digest a version says nothing.
            tag if stored.identity.kind is IdentityKind.WEAK and tag and is_storable(tag) else None,
        )
        return await self._catalog.fill_in(stored, wanted)
