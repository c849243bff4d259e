"""Uploads a file to the cache while a tool still writes it; the object appears when the step is done.

The digest is made of the bytes as they are sent, so that the file is not read again. The stream has
no end before `finish`, so there is no object before.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Self

from gooseherd.blocking import in_thread
from gooseherd.domain.errors import GooseherdError
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.storage.draft import open_regular
from gooseherd.tasks import ended

log = logging.getLogger(__name__)

EARLY_BYTES: Final = 8 << 20
"""A smaller file is stored in one request when it is finished: an early start would gain nothing."""
_CHUNK: Final = 1 << 20
_POLL_SECONDS: Final = 0.1
"""Between two checks of the size of a file that another process writes."""


class _RewrittenError(Exception):
    """The file was removed or became shorter: what was sent of it is void."""


class StreamingUpload:
    """`path` on its way to `key`, from when it holds `early_bytes`. End it with `finish` or `abandon`."""

    def __init__(
        self, cache: CacheBackend, key: CacheKey, path: Path, *, early_bytes: int = EARLY_BYTES
    ) -> None:
        self.path = path
        self._cache = cache
        self._key = key
        self._early_bytes = early_bytes
        self._finished = asyncio.Event()
        self._unwanted = False
        self._task = asyncio.create_task(self._send(), name=f"upload {path.name}")

    async def finish(self) -> tuple[int, str] | None:
        """The file is complete and valid; returns (size, sha256) of the object that it has become.

        None: this upload did not make the object; nothing of it is left in the cache.
        """
        self._finished.set()
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            await self.abandon()
            raise

    async def abandon(self) -> None:
        """Cancel the upload; returns when the cache has removed what was sent."""
        # A cancellation alone is lost where the cache's own tasks fail at that very moment.
        self._unwanted = True
        await ended(self._task)

    async def _send(self) -> tuple[int, str] | None:
        while not self._unwanted and await self._large_enough():
            try:
                with _GrowingFile(self.path, self._finished) as body:
                    if await self._cache.put_if_absent(self._key, body):
                        return body.size, body.sha256
            except _RewrittenError:
                log.info("the file is being written anew; its upload begins again")
                await asyncio.sleep(_POLL_SECONDS)
                continue
            except (GooseherdError, OSError) as error:
                # The file is still there: it is uploaded when the step is done, as any other.
                log.warning("the early upload failed: %s", type(error).__name__)
            return None
        return None

    async def _large_enough(self) -> bool:
        """Wait until the file has `early_bytes`; False when it is finished before that."""
        while True:
            try:
                if self.path.stat().st_size >= self._early_bytes:
                    return True
            except FileNotFoundError:
                pass
            if await _wait(_POLL_SECONDS, self._finished):
                return False


class _GrowingFile:
    """The bytes of a file that grows until `finished`. Raises _RewrittenError when it shrinks or goes."""

    def __init__(self, path: Path, finished: asyncio.Event) -> None:
        self._path = path
        self._finished = finished
        self._digest = hashlib.sha256()
        self.size = 0
        try:
            self._file = open_regular(path)
        except FileNotFoundError:
            raise _RewrittenError from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    @property
    def sha256(self) -> str:
        """Of the bytes sent so far."""
        return self._digest.hexdigest()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            # In this order: a finished file has its final size.
            finished = self._finished.is_set()
            about = os.fstat(self._file)
            if about.st_size < self.size or not about.st_nlink:
                raise _RewrittenError
            waiting = about.st_size - self.size
            if waiting >= _CHUNK or (finished and waiting):
                yield await in_thread(self._next)
            elif not finished:
                await _wait(_POLL_SECONDS, self._finished)
            elif os.path.samestat(about, self._path.stat()):
                return
            else:
                raise _RewrittenError

    def _next(self) -> bytes:
        data = os.pread(self._file, _CHUNK, self.size)
        if not data:
            raise _RewrittenError
        self._digest.update(data)
        self.size += len(data)
        return data


async def _wait(seconds: float, event: asyncio.Event) -> bool:
    """Wait for the event at most so long; whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return event.is_set()
