"""Indexes for clients that take gzip: a browser reads a BAI whole before it draws anything."""

from __future__ import annotations

import gzip
import re
from functools import partial
from typing import Final

from gooseherd.api.shared_loads import SharedLoads
from gooseherd.blocking import in_thread
from gooseherd.domain.artifact import Kind, Part
from gooseherd.domain.ports.cache import CacheBackend

MOST_BYTES: Final = 32 << 20
"""Of an index that is coded; a BAI of a human genome has 9 MB."""
_LEAST_BYTES: Final = 1024
_KEPT_BYTES: Final = 64 << 20
"""Of coded indexes that are kept in memory."""
_PAYS: Final = 0.9
"""A TBI or CSI is compressed as it is stored: coding it again takes off nothing."""
_LEVEL: Final = 4
_KINDS: Final = frozenset({Kind.INDEX, Kind.GZI, Kind.ANNOTATION_INDEX, Kind.SECOND_END_INDEX})
_GZIP: Final = re.compile(
    rb"(?:^|,)\s*+(?:gzip|x-gzip|\*)\s*+(?:;\s*+q\s*+=\s*+([0-9.]++)\s*+)?(?=,|$)", re.IGNORECASE
)


def may_be_coded(part: Part) -> bool:
    """Whether what is sent for it depends on Accept-Encoding."""
    return part.kind in _KINDS and _LEAST_BYTES <= part.size <= MOST_BYTES


def accepts_gzip(accept_encoding: bytes | None) -> bool:
    """Whether the client takes gzip (RFC 9110 §12.5.3); one that says nothing gets no coding."""
    found = _GZIP.search(accept_encoding or b"")
    return found is not None and (found[1] is None or found[1].strip(b"0.") != b"")


class CodedParts:
    """The gzip-coded bytes of parts, made once each, in a thread."""

    def __init__(self, cache: CacheBackend) -> None:
        self._cache = cache
        self._coded: SharedLoads[bytes | None] = SharedLoads(_KEPT_BYTES)

    async def of(self, part: Part) -> bytes | None:
        """The coded bytes; None where they are hardly fewer, or the part is not there.

        Raises:
            CacheUnavailable: it could not be read.
        """
        return await self._coded.get(part.sha256, partial(self._make, part))

    async def _make(self, part: Part) -> tuple[bytes | None, int]:
        data = b"".join([chunk async for chunk in self._cache.get(part.key)])
        if len(data) != part.size:
            return None, 0
        coded = await in_thread(gzip.compress, data, _LEVEL, mtime=0)
        return (coded, len(coded)) if len(coded) < _PAYS * part.size else (None, 0)
