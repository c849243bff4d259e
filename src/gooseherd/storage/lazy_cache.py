"""A cache that is opened when it is first asked, beside what else is going on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress

from gooseherd.blocking import in_thread
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import Body, CacheBackend, StoredObject


class LazyCache(CacheBackend):
    """CacheBackend that `make` makes, in a thread, with the first call.

    What `make` raises, each call raises. Closing it closes what was made.
    """

    def __init__(self, make: Callable[[], CacheBackend]) -> None:
        self._make = make
        self._made: asyncio.Task[CacheBackend] | None = None

    async def head(self, key: CacheKey) -> StoredObject | None:
        return await (await self._opened()).head(key)

    async def get(self, key: CacheKey, span: ByteRange | None = None) -> AsyncIterator[bytes]:
        chunks = (await self._opened()).get(key, span)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            if isinstance(chunks, AsyncGenerator):  # An early end is passed on at once.
                await chunks.aclose()

    async def put_if_absent(self, key: CacheKey, body: Body) -> bool:
        return await (await self._opened()).put_if_absent(key, body)

    async def delete(self, key: CacheKey) -> bool:
        return await (await self._opened()).delete(key)

    async def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        async for found in (await self._opened()).list(prefix):
            yield found

    async def sweep(self, older_than_seconds: float) -> int:
        return await (await self._opened()).sweep(older_than_seconds)

    async def close(self) -> None:
        if self._made is None:
            return
        with suppress(Exception):  # There is nothing to close; every call has raised the reason.
            await (await self._opened()).close()

    async def _opened(self) -> CacheBackend:
        if self._made is None:
            self._made = asyncio.create_task(in_thread(self._make), name="opening the cache")
        # Of many that wait, one that is cancelled must not take the rest along.
        return await asyncio.shield(self._made)
