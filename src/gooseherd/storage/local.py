"""Artifacts in a local folder: written once, atomically, and read by range without leaving the page cache."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from gooseherd.blocking import in_thread, in_thread_or_undo, in_thread_until
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import CacheUnavailable, RangeNotSatisfiable
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import Body, CacheBackend, FileSpan, LocalObjects, StoredObject
from gooseherd.storage.draft import Draft, open_regular, sweep
from gooseherd.storage.keys import check_key, check_prefix
from gooseherd.storage.openfiles import OpenFile, OpenFiles
from gooseherd.storage.page_cache import is_cached
from gooseherd.storage.tree import FileTree

log = logging.getLogger(__name__)

CHUNK: Final = 1 << 20
"""The port's bound for one chunk, in bytes."""
INLINE: Final = 512 << 10
"""Up to here copying from page cache on the event loop is cheaper than handing over to a
thread and back (about 60 microseconds); most ranges of genome browsers are below."""
_LIST_BATCH: Final = 256
_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)


class _Scratch(threading.local):
    """A buffer per thread: asking for fresh memory costs more than the read."""

    def __init__(self) -> None:
        self.bytes = bytearray(INLINE)


class LocalFsCache(CacheBackend, LocalObjects):
    """CacheBackend below `root`, safe for many processes on one file system.

    `root` is made if need be, and drafts of killed writers that are older than an hour are
    removed. `open_files` is how many objects stay open between reads.

    On this back end a key cannot be both an object and the folder of another one; putting
    such a key raises InvalidInput. Use an instance in one event loop.
    """

    def __init__(self, root: Path, *, open_files: int = 128) -> None:
        try:
            self._tree = FileTree(root)
            sweep(self._tree, older_than_seconds=3600)
        except OSError as error:
            log.error("cache folder cannot be used: %s", error.strerror)
            raise CacheUnavailable("start") from error
        self._files = OpenFiles(self._tree.open, open_files)
        self._scratch = _Scratch()
        self._nowait = bool(_NOWAIT)
        self._closed = False

    async def head(self, key: CacheKey) -> StoredObject | None:
        check_key(key)
        with self._responding("head"):
            file = await self._files.borrow(key)
        if file is None:
            return None
        self._files.give_back(file)
        return StoredObject(key, file.size, file.modified_at)

    def get(self, key: CacheKey, span: ByteRange | None = None) -> AsyncIterator[bytes]:
        """Read without a thread where the bytes are cached.

        Raises:
            RangeNotSatisfiable: `span` does not lie in the object.
        """
        return self._read(check_key(key), span)

    async def _read(self, key: CacheKey, span: ByteRange | None) -> AsyncIterator[bytes]:
        with self._responding("get"):
            file = await self._files.borrow(key)
        if file is None:
            return
        try:
            if span is None:
                span = ByteRange(0, file.size)
            if span.stop > file.size:
                raise RangeNotSatisfiable(file.size)
            at = span.start
            while at < span.stop:
                with self._responding("get"):
                    data = await self._chunk(file, at, min(CHUNK, span.stop - at))
                at += len(data)
                yield data
        finally:
            self._files.give_back(file)

    def read_now(self, key: CacheKey, span: ByteRange) -> memoryview | None:
        """From page cache, of an object that is open, up to INLINE bytes."""
        size = len(span)
        if size > INLINE or not self._nowait or self._closed:
            return None
        file = self._files.kept(key)
        if file is None:
            return None
        buffer = memoryview(self._scratch.bytes)[:size]
        try:
            return buffer if os.preadv(file.fd, [buffer], span.start, _NOWAIT) == size else None
        except OSError:
            return None  # whoever asks again in the usual way is told what is wrong

    def span_now(self, key: CacheKey, span: ByteRange) -> FileSpan | None:
        """Of an object that is open, what is in page cache, up to CHUNK bytes."""
        file = self._files.kept(key) if len(span) <= CHUNK and self._nowait and not self._closed else None
        if file is None or span.stop > file.size or not is_cached(file.fd, span.start, len(span)):
            return None
        return FileSpan(file.fd, span.start, len(span), in_memory=True)

    async def spans(self, key: CacheKey, span: ByteRange) -> AsyncIterator[FileSpan]:
        """Raises RangeNotSatisfiable: `span` does not lie in the object."""
        check_key(key)
        with self._responding("spans"):
            file = await self._files.borrow(key)
        if file is None:
            return
        try:
            if span.stop > file.size:
                raise RangeNotSatisfiable(file.size)
            for at in range(span.start, span.stop, CHUNK):
                count = min(CHUNK, span.stop - at)
                # Where reads cannot be told not to wait (NFS), sending may wait although all is cached.
                yield FileSpan(file.fd, at, count, self._nowait and is_cached(file.fd, at, count))
        finally:
            self._files.give_back(file)

    async def _chunk(self, file: OpenFile, at: int, size: int) -> bytes:
        data = self._cached(file.fd, at, size) if size <= INLINE and self._nowait else b""
        if not data:
            data = await in_thread(os.pread, file.fd, size, at)
            if not data:
                raise OSError(errno.EIO, "an object became shorter")
        return data

    def _cached(self, fd: int, at: int, size: int) -> bytes:
        """As many of the bytes as lie in page cache from `at` on; b"" for none."""
        buffer = memoryview(self._scratch.bytes)[:size]
        try:
            # RWF_NOWAIT (Linux 4.14): what would wait for the disk is refused or cut short.
            return bytes(buffer[: os.preadv(fd, [buffer], at, _NOWAIT)])
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                raise
            self._nowait = False
            return b""

    async def put_if_absent(self, key: CacheKey, body: Body) -> bool:
        """A file of the caller's is copied, by reflink where the file system can."""
        check_key(key)
        if await self.head(key) is not None:
            with self._responding("put_if_absent"):
                await in_thread(self._tree.settle, key)
            return False
        if isinstance(body, Path):
            return await self._put_file(key, body)
        if isinstance(body, bytes):
            with self._responding("put_if_absent"):
                return await in_thread(self._store_bytes, key, body)
        return await self._put_stream(key, body)

    def _store_bytes(self, key: CacheKey, data: bytes) -> bool:
        with Draft(self._tree) as draft:
            draft.write(data)
            return draft.publish(key)

    async def _put_file(self, key: CacheKey, path: Path) -> bool:
        # Outside of `_responding`: a caller's file that cannot be read is not our storage failing.
        source = await in_thread_or_undo(os.close, open_regular, path)
        stop = threading.Event()
        try:
            with self._responding("put_if_absent"):
                return await in_thread_until(stop.set, self._store_file, key, source, stop)
        finally:
            os.close(source)

    def _store_file(self, key: CacheKey, source: int, stop: threading.Event) -> bool:
        with Draft(self._tree) as draft:
            draft.copy(source, stop)
            return not stop.is_set() and draft.publish(key)

    async def _put_stream(self, key: CacheKey, body: AsyncIterable[bytes]) -> bool:
        with self._responding("put_if_absent"):
            draft = await in_thread_or_undo(Draft.discard, Draft, self._tree)
        try:
            gathered = bytearray()
            async for data in body:
                gathered += data
                if len(gathered) >= CHUNK:
                    with self._responding("put_if_absent"):
                        await in_thread(draft.write, gathered)
                    gathered = bytearray()
            with self._responding("put_if_absent"):
                await in_thread(draft.write, gathered)
                return await in_thread(draft.publish, key)
        finally:
            await in_thread(draft.discard)

    async def delete(self, key: CacheKey) -> bool:
        """Folders it leaves empty go as well."""
        check_key(key)
        self._files.forget(key)
        with self._responding("delete"):
            return await in_thread(self._tree.unlink, key)

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Objects that come or go meanwhile may be in it or not."""
        return self._list(check_prefix(prefix))

    async def _list(self, prefix: str) -> AsyncIterator[StoredObject]:
        found = self._tree.scan(prefix)
        try:
            while True:
                with self._responding("list"):
                    batch = await in_thread(_take, found)
                if not batch:
                    return
                for item in batch:
                    yield item
        finally:
            await in_thread(found.close)

    async def sweep(self, older_than_seconds: float) -> int:
        """Remove what killed writers left, if untouched for that long; how many drafts went.

        A draft whose writer lives is never removed, whatever its age.
        """
        self._files.forget_deleted()
        with self._responding("sweep"):
            swept = await in_thread(sweep, self._tree, older_than_seconds)
        if swept:
            log.info("swept %d drafts of writers that were killed", swept)
        return swept

    async def close(self) -> None:
        """Nothing may be read or written afterwards."""
        if not self._closed:
            self._closed = True
            self._files.close()
            self._tree.close()

    @contextmanager
    def _responding(self, operation: str) -> Iterator[None]:
        if self._closed:
            raise CacheUnavailable(operation)
        try:
            yield
        except OSError as error:
            log.error("cache folder failed during %s: %s", operation, error.strerror)
            raise CacheUnavailable(operation) from error


def _take(found: Iterator[StoredObject]) -> list[StoredObject]:
    return list(islice(found, _LIST_BATCH))
