"""A cache that forgets: for tests, and as the simplest statement of what a back end does."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from gooseherd.blocking import in_thread
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import RangeNotSatisfiable
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import Body, CacheBackend, StoredObject
from gooseherd.storage.keys import check_key, check_prefix

_CHUNK = 1 << 20


class MemoryCache(CacheBackend):
    """CacheBackend in a dict; `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._objects: dict[CacheKey, tuple[bytes, float]] = {}

    async def head(self, key: CacheKey) -> StoredObject | None:
        found = self._objects.get(check_key(key))
        return StoredObject(key, len(found[0]), found[1]) if found else None

    def get(self, key: CacheKey, span: ByteRange | None = None) -> AsyncIterator[bytes]:
        return self._read(check_key(key), span)

    async def _read(self, key: CacheKey, span: ByteRange | None) -> AsyncIterator[bytes]:
        if (found := self._objects.get(key)) is None:
            return
        data = found[0]
        if span is None:
            span = ByteRange(0, len(data))
        if span.stop > len(data):
            raise RangeNotSatisfiable(len(data))
        for start in range(span.start, span.stop, _CHUNK):
            yield data[start : min(start + _CHUNK, span.stop)]

    async def put_if_absent(self, key: CacheKey, body: Body) -> bool:
        """Nothing survives the process."""
        check_key(key)
        if key in self._objects:
            return False
        if isinstance(body, bytes):
            data = body
        elif isinstance(body, Path):
            data = await in_thread(body.read_bytes)
        else:
            data = b"".join([chunk async for chunk in body])
        entry = (data, self._clock())
        return self._objects.setdefault(key, entry) is entry

    async def delete(self, key: CacheKey) -> bool:
        return self._objects.pop(check_key(key), None) is not None

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        return self._list(check_prefix(prefix))

    async def _list(self, prefix: str) -> AsyncIterator[StoredObject]:
        for key in sorted(key for key in self._objects if key.startswith(prefix)):
            if found := await self.head(key):
                yield found

    async def sweep(self, older_than_seconds: float) -> int:
        """Nothing is left."""
        return 0

    async def close(self) -> None:
        """What is stored stays."""
