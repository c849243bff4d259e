"""Uploads a file to the cache while a tool still writes it; the object appears only when the step agrees.

What is read on the way is digested, so that the file is not read again. Until `finish` the
stream has no end, so nothing can become an object before.
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
"""What is smaller is stored in one request when it is finished: nothing is gained by beginning sooner."""
_CHUNK: Final = 1 << 20
_LOOK_SECONDS: Final = 0.1
"""Between two looks at the size of a file that another process writes."""


class _TakenBackError(Exception):
    """The file was removed or became shorter: what was sent of it is nothing any more."""


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
        self._task = asyncio.create_task(self._send(), name=f"outflow {path.name}")

    async def finish(self) -> tuple[int, str] | None:
        """The file is whole and good: (size, sha256) of the object that it now is.

        None: it is not the object, or not by this way; nothing of it is left in the cache.
        """
        self._finished.set()
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            await self.abandon()
            raise

    async def abandon(self) -> None:
        """Nothing will be published of it; returns when the cache has let go of what it had."""
        # A cancellation alone is lost where the cache's own tasks fail at that very moment.
        self._unwanted = True
        await ended(self._task)

    async def _send(self) -> tuple[int, str] | None:
        while not self._unwanted and await self._large_enough():
            try:
                with _Growing(self.path, self._finished) as body:
                    if await self._cache.put_if_absent(self._key, body):
                        return body.size, body.sha256
            except _TakenBackError:
                log.info("what was on its way is written anew")
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            except (GooseherdError, OSError) as error:
                # The file is still there: it is published when the step is done, as any other.
                log.warning("could not publish while it was made: %s", type(error).__name__)
            return None
        return None

    async def _large_enough(self) -> bool:
        """Wait until it is; False when it is finished before."""
        while True:
            try:
                if self.path.stat().st_size >= self._early_bytes:
                    return True
            except FileNotFoundError:
                pass
            if await _within(_LOOK_SECONDS, self._finished):
                return False


class _Growing:
    """The bytes of a file that grows until `finished`. Raises _TakenBackError when it shrinks or goes."""

    def __init__(self, path: Path, finished: asyncio.Event) -> None:
        self._path = path
        self._finished = finished
        self._digest = hashlib.sha256()
        self.size = 0
        try:
            self._file = open_regular(path)
        except FileNotFoundError:
            raise _TakenBackError from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    @property
    def sha256(self) -> str:
        """Of what was given."""
        return self._digest.hexdigest()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            # In this order: what is finished has its last size.
            finished = self._finished.is_set()
            about = os.fstat(self._file)
            if about.st_size < self.size or not about.st_nlink:
                raise _TakenBackError
            waiting = about.st_size - self.size
            if waiting >= _CHUNK or (finished and waiting):
                yield await in_thread(self._next)
            elif not finished:
                await _within(_LOOK_SECONDS, self._finished)
            elif os.path.samestat(about, self._path.stat()):
                return
            else:
                raise _TakenBackError

    def _next(self) -> bytes:
        data = os.pread(self._file, _CHUNK, self.size)
        if not data:
            raise _TakenBackError
        self._digest.update(data)
        self.size += len(data)
        return data


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Whether it comes in that time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return event.is_set()
