"""The part of the cache one attempt may touch: keys under its own prefix and no others."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import Body, CacheBackend, StoredObject
from gooseherd.storage.keys import check_key, check_prefix


class PrefixCache(CacheBackend):
    """CacheBackend over the keys below `prefix`; keys are the whole keys, not shortened.

    Every call with a key outside raises InvalidInput and does not reach the back end.
    """

    def __init__(self, backend: CacheBackend, prefix: str) -> None:
        if not check_prefix(prefix).endswith("/"):
            # "a/b" would let "a/bc" in as well.
            raise InvalidInput("prefix", "must end in a slash")
        self._backend = backend
        self._prefix = prefix

    async def head(self, key: CacheKey) -> StoredObject | None:
        return await self._backend.head(self._inside(key))

    def get(self, key: CacheKey, span: ByteRange | None = None) -> AsyncIterator[bytes]:
        return self._backend.get(self._inside(key), span)

    async def put_if_absent(self, key: CacheKey, body: Body) -> bool:
        return await self._backend.put_if_absent(self._inside(key), body)

    async def delete(self, key: CacheKey) -> bool:
        return await self._backend.delete(self._inside(key))

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """What lies inside, of all that starts with `prefix`."""
        if self._prefix.startswith(check_prefix(prefix)):
            return self._backend.list(self._prefix)
        return self._backend.list(self._inside(prefix))

    async def sweep(self, older_than_seconds: float) -> int:
        """Nothing: what is left may be somebody else's."""
        return 0

    async def close(self) -> None:
        """Does nothing: the back end belongs to whoever made it."""

    def _inside(self, key: str) -> CacheKey:
        # The check comes first: "a/b/../x" starts with "a/b/" too.
        if key != self._prefix and not check_key(key.removesuffix("/")).startswith(self._prefix):
            raise InvalidInput("key", "lies outside what this attempt may touch")
        return CacheKey(key)
