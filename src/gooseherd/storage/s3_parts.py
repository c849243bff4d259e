"""Large objects in parts: a few on their way at a time, visible all at once, or gone without a trace."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Final

from gooseherd.blocking import in_thread, in_thread_or_undo
from gooseherd.storage.s3_control import S3Control, Upload

_MAX_PARTS: Final = 10_000
"""Of one upload (S3 user guide, multipart upload limits)."""
_PARTS_BEFORE_GROWTH: Final = 1000
"""A stream of unknown length gets larger parts as it goes on: 430 GiB in all, from 8 MiB parts."""


async def put_in_parts(
    control: S3Control, path: str, metadata: Mapping[str, str], parts: AsyncIterator[bytes], *, at_once: int
) -> None:
    """Store the parts as one object, unless `path` is taken.

    Memory: `at_once` parts and what `parts` itself holds. After an exception, cancellation
    included, nothing of it is left in the bucket.

    Raises:
        Exists, KeyChanged: as S3Control.complete does.
        CacheUnavailable, Misconfigured: as its other calls do; whatever `parts` raises.
    """
    upload = await in_thread_or_undo(control.abort, control.create, path, metadata)
    try:
        etags = await _send(control, upload, parts, at_once)
        await in_thread(control.complete, upload, etags)
    except BaseException:
        await in_thread(control.abort, upload)
        raise


async def _send(control: S3Control, upload: Upload, parts: AsyncIterator[bytes], at_once: int) -> list[str]:
    places = asyncio.Semaphore(at_once)
    sent: list[asyncio.Task[str]] = []

    async def send(number: int, data: bytes) -> str:
        try:
            return await in_thread(control.upload_part, upload, number, data)
        finally:
            places.release()

    try:
        async with asyncio.TaskGroup() as group:
            await places.acquire()
            async for data in parts:
                sent.append(group.create_task(send(len(sent) + 1, data)))
                del data  # the task's alone, while the next one is awaited
                await places.acquire()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [part.result() for part in sent]


async def slices(data: bytes, step: int) -> AsyncIterator[bytes]:
    """The same bytes, `step` at a time."""
    for start in range(0, len(data), step):
        yield data[start : start + step]


async def file_parts(file: int, size: int, part_bytes: int) -> AsyncIterator[bytes]:
    """The first `size` bytes of an open file, in no more parts than S3 takes."""
    step = max(part_bytes, math.ceil(size / _MAX_PARTS))
    for start in range(0, size, step):
        yield await in_thread(os.pread, file, min(step, size - start), start)


async def gathered(body: AsyncIterable[bytes], part_bytes: int) -> AsyncIterator[bytes]:
    """The same bytes in parts: full ones, larger as there are more of them, and a last one."""
    waiting = bytearray()
    done = 0
    async for data in body:
        waiting += data
        while len(waiting) >= (wanted := part_bytes * (1 + done // _PARTS_BEFORE_GROWTH)):
            part = bytes(memoryview(waiting)[:wanted])
            del waiting[:wanted]
            done += 1
            yield part
    if waiting or not done:
        yield bytes(waiting)
