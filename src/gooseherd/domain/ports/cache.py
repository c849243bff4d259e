"""Where artifacts live: immutable objects under relative keys."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.keys import CacheKey


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of the cache. `modified_at` is Unix seconds, for age-based cleaning only."""

    key: CacheKey
    size: int
    modified_at: float


Body = bytes | Path | AsyncIterable[bytes]
"""What can be stored. A Path is read, never moved: it stays the caller's."""


class StorageRefused(Misconfigured):
    """The storage refuses these credentials: once the right is given back, the same call works."""


class CacheBackend(Protocol):
    """Immutable objects under relative keys.

    An object appears whole or not at all, also when the writer is killed. Keys that could
    leave the root (absolute, `..`, empty segments, NUL) raise InvalidInput everywhere.
    All methods raise CacheUnavailable when the storage does not answer or is full, and StorageRefused.
    """

    async def head(self, key: CacheKey) -> StoredObject | None:
        """The object's size, or None when there is no such object."""
        ...

    def get(self, key: CacheKey, span: ByteRange | None = None) -> AsyncIterator[bytes]:
        """The object's bytes in chunks of at most 1 MiB, or those of `span`.

        `span` must lie in the object. Reading an absent object yields nothing. Closing the
        iterator early frees what it holds.
        """
        ...

    async def put_if_absent(self, key: CacheKey, body: Body) -> bool:
        """Store `body` unless the key exists; say whether it was stored.

        Of many writers of one key exactly one gets True, and its bytes are the object.
        True means durable: it survives a power cut.
        """
        ...

    async def delete(self, key: CacheKey) -> bool:
        """Remove the object; say whether there was one."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """All objects whose key starts with `prefix`, in key order."""
        ...

    async def sweep(self, older_than_seconds: float) -> int:
        """Free what writers that died have left under no key, if untouched for that long; how many."""
        ...

    async def close(self) -> None:
        """Free connections and handles; idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class FileSpan:
    """`count` bytes from `offset` of the open file `descriptor`."""

    descriptor: int
    offset: int
    count: int
    in_memory: bool = False
    """A moment ago they were all in page cache: to send them waits for no disk."""


@runtime_checkable
class LocalObjects(Protocol):
    """What a cache can do beside whose objects are files of this machine."""

    def read_now(self, key: CacheKey, span: ByteRange) -> memoryview | None:
        """The bytes of `span`, if nothing has to be waited for; None: ask `get`.

        They are overwritten by the next call of the same thread.
        """
        ...

    def span_now(self, key: CacheKey, span: ByteRange) -> FileSpan | None:
        """Where the bytes are, of up to 1 MiB, if nothing has to be waited for; None: ask `spans`.

        The file is open until anything else happens on the loop.
        """
        ...

    def spans(self, key: CacheKey, span: ByteRange) -> AsyncIterator[FileSpan]:
        """As `get`, without reading: where the bytes are, at most 1 MiB at a time, to be sent from there.

        The file is open until the iterator is asked again or closed.
        """
        ...


@runtime_checkable
class SignedObjects(Protocol):
    """What a cache can do beside whose storage lets others read by a signed address."""

    async def signed_url(self, key: CacheKey, seconds: int) -> str:
        """An address at which anybody can GET the object, by range too, for so long.

        Raises:
            CacheUnavailable: it cannot be signed now.
        """
        ...
