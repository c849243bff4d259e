"""Artifacts in an S3 bucket: ranges read by obstore, objects made by one conditional request.

obstore needs a tenth of boto3's CPU for a byte range. What is larger than one part goes by
multipart upload (s3_control.py). Both ends in a request with If-None-Match: *, so of many
writers the first one wins and nobody sees half an object. An object carries the mark of its
writer: a writer whose answer was lost finds out by it that the object is its own.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from gooseherd.blocking import in_thread, in_thread_or_undo
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import CacheUnavailable, InvalidInput, Misconfigured, RangeNotSatisfiable
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports import Body, StoredObject
from gooseherd.storage.draft import open_regular
from gooseherd.storage.keys import MAX_KEY_BYTES, check_key, check_prefix
from gooseherd.storage.s3_control import Conflict, Exists, S3Control, Upload

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Config, S3Store

log = logging.getLogger(__name__)

CHUNK: Final = 1 << 20
"""The port's bound for one chunk, in bytes."""
PART: Final = 8 << 20
"""Of a multipart upload, in bytes: at 4 at a time some 40 MiB of memory per upload."""
_MIN_CHUNK: Final = 128 << 10
_PARTS_BEFORE_GROWTH: Final = 1000
"""S3 takes 10,000 parts; a stream of unknown length gets larger ones as it goes on (430 GiB in all)."""
_MAX_PARTS: Final = 10_000
_WRITER: Final = "gooseherd-writer"
_TRIES: Final = 4
_FIRST_PAUSE: Final = timedelta(milliseconds=100)
_LONGEST_PAUSE: Final = timedelta(seconds=3)
_CONNECT: Final = timedelta(seconds=5)
_REQUEST: Final = timedelta(seconds=60)
"""For one request, its body included; a read that takes longer goes on where it stopped."""


class S3Cache:
    """CacheBackend in `bucket`, below `prefix`; keys do not show the prefix.

    `endpoint_url` is for a cloud other than AWS. Credentials are found as boto3 finds them,
    task roles included. An upload holds `part_bytes` times (`concurrency` + 1) of memory.

    Raises:
        Misconfigured: no bucket, a prefix that no key can have, no credentials.
    """

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        endpoint_url: str | None = None,
        region: str = "us-east-1",
        part_bytes: int = PART,
        concurrency: int = 4,
    ) -> None:
        if not bucket.strip():
            raise Misconfigured("WORKFLOW_S3_BUCKET", "must not be empty")
        self._prefix = _normal_prefix(prefix)
        self._part_bytes = part_bytes
        self._concurrency = concurrency
        self._control = S3Control(
            bucket, endpoint_url=endpoint_url, region=region, connections=concurrency + 2
        )
        self._control.credentials()  # early, with a word about what is missing
        self._store = _open_store(bucket, endpoint_url, region, self._control)

    async def check(self) -> None:
        """See that the bucket is there for these credentials. Raises Misconfigured or CacheUnavailable."""
        await in_thread(self._control.check)

    # -- reading --------------------------------------------------------------------------------

    async def head(self, key: CacheKey) -> StoredObject | None:
        """As the port says."""
        import obstore

        path = self._path(key)
        with _answering("head"):
            try:
                found = await obstore.head_async(self._store, path)
            except FileNotFoundError:
                return None
        return StoredObject(key, found["size"], found["last_modified"].timestamp())

    def get(self, key: CacheKey, span: ByteRange | None = None) -> AsyncIterator[bytes]:
        """As the port says. A connection that breaks is taken up where it broke.

        Raises:
            RangeNotSatisfiable: `span` does not lie in the object.
        """
        return self._read(key, self._path(key), span)

    async def _read(self, key: CacheKey, path: str, span: ByteRange | None) -> AsyncIterator[bytes]:
        if span is not None and not len(span):
            await self._check_span(key, span)  # S3 cannot be asked for no bytes
            return
        left = _Left(span.start, span.stop) if span else _Left(0, None)
        failures = 0
        while not left.nothing:
            try:
                async for data in self._stream(path, left):
                    failures = 0
                    yield data
            except FileNotFoundError:
                if left.etag is None:
                    return
                raise CacheUnavailable("get") from None  # deleted while it was read
            except _broken() as error:
                if span is not None and left.etag is None:
                    # A range that starts behind the end is refused, in words only.
                    await self._check_span(key, span)
                failures += 1
                if failures == _TRIES:
                    raise _meaning(error, "get") from error
                await _pause(failures)

    async def _stream(self, path: str, left: _Left) -> AsyncIterator[bytes]:
        import obstore

        answer = await obstore.get_async(self._store, path, options=left.options)
        start, stop = answer.range
        if left.stop is not None and stop != left.stop:
            raise RangeNotSatisfiable(answer.meta["size"])
        left.stop, left.etag = stop, answer.meta["e_tag"]
        if stop - start <= CHUNK:
            whole = bytes(await answer.bytes_async())
            left.start = stop
            if whole:
                yield whole
            return
        async for some in answer.stream(min_chunk_size=_MIN_CHUNK):
            data = memoryview(some)
            for at in range(0, len(data), CHUNK):
                piece = bytes(data[at : at + CHUNK])
                left.start += len(piece)
                yield piece

    async def _check_span(self, key: CacheKey, span: ByteRange) -> None:
        found = await self.head(key)
        if found is not None and span.stop > found.size:
            raise RangeNotSatisfiable(found.size)

    # -- writing --------------------------------------------------------------------------------

    async def put_if_absent(self, key: CacheKey, body: Body) -> bool:
        """As the port says."""
        path = self._path(key)
        if isinstance(body, Path):
            return await self._put_file(key, path, body)
        if isinstance(body, bytes):
            if len(body) <= self._part_bytes:
                return await self._put_at_once(path, body)
            return await self._put_parts(key, path, _slices(body, self._part_bytes))
        return await self._put_stream(key, path, body)

    async def _put_file(self, key: CacheKey, path: str, source: Path) -> bool:
        file = await in_thread_or_undo(os.close, open_regular, source)
        try:
            size = os.fstat(file).st_size
            if size <= self._part_bytes:
                return await self._put_at_once(path, await in_thread(os.pread, file, self._part_bytes, 0))
            step = max(self._part_bytes, math.ceil(size / _MAX_PARTS))
            return await self._put_parts(key, path, _file_parts(file, size, step))
        finally:
            os.close(file)

    async def _put_stream(self, key: CacheKey, path: str, body: AsyncIterable[bytes]) -> bool:
        parts = _gathered(body, self._part_bytes)
        first = await anext(parts, b"")
        if len(first) < self._part_bytes:
            return await self._put_at_once(path, first)

        async def all_parts() -> AsyncIterator[bytes]:
            yield first
            async for part in parts:
                yield part

        return await self._put_parts(key, path, all_parts())

    async def _put_at_once(self, path: str, data: bytes) -> bool:
        import obstore

        mark = secrets.token_hex(16)
        for failures in range(1, _TRIES + 1):
            try:
                await obstore.put_async(
                    self._store, path, data, mode="create", use_multipart=False, attributes={_WRITER: mark}
                )
            except obstore.exceptions.AlreadyExistsError:
                # Also the answer to our own second request, when that to the first was lost.
                if (writer := await self._writer(path)) is not None:
                    return writer == mark
            except FileNotFoundError:
                raise Misconfigured("WORKFLOW_S3_BUCKET", "no such bucket") from None
            except _broken() as error:
                if failures == _TRIES:
                    raise _meaning(error, "put_if_absent") from error
            else:
                return True
            await _pause(failures)
        raise CacheUnavailable("put_if_absent")

    async def _put_parts(self, key: CacheKey, path: str, parts: AsyncIterator[bytes]) -> bool:
        if await self.head(key) is not None:
            return False
        mark = secrets.token_hex(16)
        upload = await in_thread_or_undo(self._control.abort, self._control.create, path, {_WRITER: mark})
        try:
            etags = await self._upload(upload, parts)
            await in_thread(self._control.complete, upload, etags)
        except Exists:
            await in_thread(self._control.abort, upload)
            return await self._writer(path) == mark
        except Conflict:
            await in_thread(self._control.abort, upload)
            if (writer := await self._writer(path)) is None:
                raise CacheUnavailable("put_if_absent") from None
            return writer == mark
        except BaseException:
            await in_thread(self._control.abort, upload)
            raise
        return True

    async def _upload(self, upload: Upload, parts: AsyncIterator[bytes]) -> list[str]:
        """The entity tags in order; a few parts at a time, and no more are read than that."""
        places = asyncio.Semaphore(self._concurrency)
        running: list[asyncio.Task[str]] = []

        async def store(number: int, data: bytes) -> str:
            try:
                return await in_thread(self._control.upload_part, upload, number, data)
            finally:
                places.release()

        try:
            async with asyncio.TaskGroup() as group:
                await places.acquire()
                async for data in parts:
                    running.append(group.create_task(store(len(running) + 1, data)))
                    del data
                    await places.acquire()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [part.result() for part in running]

    async def _writer(self, path: str) -> str | None:
        """The mark of the object's writer; empty when it has none, None when there is no object."""
        import obstore

        with _answering("head"):
            try:
                found = await obstore.get_async(self._store, path, options={"head": True})
            except FileNotFoundError:
                return None
        return str(found.attributes.get(_WRITER, ""))

    # -- the rest -------------------------------------------------------------------------------

    async def delete(self, key: CacheKey) -> bool:
        """As the port says; of two at the same time both may get True."""
        import obstore

        if await self.head(key) is None:
            return False
        with _answering("delete"):
            await obstore.delete_async(self._store, self._path(key))
        return True

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """As the port says."""
        return self._list(self._prefix + check_prefix(prefix))

    async def _list(self, prefix: str) -> AsyncIterator[StoredObject]:
        import obstore

        # obstore lists folders, so what stands behind the last slash is compared here.
        folder = prefix.rpartition("/")[0]
        with _answering("list"):
            async for page in obstore.list(self._store, prefix=folder or None, chunk_size=1000):
                for found in page:
                    path = found["path"]
                    if path.startswith(prefix):
                        key = CacheKey(path.removeprefix(self._prefix))
                        yield StoredObject(key, found["size"], found["last_modified"].timestamp())
                    elif path.encode() > prefix.encode():
                        return

    async def close(self) -> None:
        """As the port says."""
        await in_thread(self._control.close)

    def _path(self, key: str) -> str:
        path = self._prefix + check_key(key)
        if len(path.encode()) > MAX_KEY_BYTES:
            raise InvalidInput("key", f"at most {MAX_KEY_BYTES} bytes, the bucket's prefix included")
        return path


@dataclass
class _Left:
    """What of an object is still to be read, and of which version of it."""

    start: int
    stop: int | None
    etag: str | None = None

    @property
    def nothing(self) -> bool:
        return self.stop is not None and self.start >= self.stop

    @property
    def options(self) -> GetOptions:
        options: GetOptions = {}
        if self.stop is not None:
            options["range"] = (self.start, self.stop)
        if self.etag is not None:
            options["if_match"] = self.etag
        return options


def _open_store(bucket: str, endpoint_url: str | None, region: str, control: S3Control) -> S3Store:
    from obstore.store import S3Store

    config: S3Config = {"bucket": bucket, "region": region}
    if endpoint_url:
        config["endpoint"] = endpoint_url
    return S3Store(
        config=config,
        credential_provider=cast("Any", control.credentials),
        client_options={
            "allow_http": bool(endpoint_url and endpoint_url.startswith("http://")),
            "connect_timeout": _CONNECT,
            "timeout": _REQUEST,
        },
        retry_config={
            "max_retries": _TRIES,
            "retry_timeout": _REQUEST,
            "backoff": {"init_backoff": _FIRST_PAUSE, "max_backoff": _LONGEST_PAUSE, "base": 2},
        },
    )


def _normal_prefix(prefix: str) -> str:
    """Without slashes around it, and one behind it unless it is empty. Raises Misconfigured."""
    stripped = prefix.strip().strip("/")
    if not stripped:
        return ""
    try:
        return check_key(stripped) + "/"
    except InvalidInput as error:
        raise Misconfigured("WORKFLOW_S3_PREFIX", error.problem) from None


async def _slices(data: bytes, step: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), step):
        yield data[start : start + step]


async def _file_parts(file: int, size: int, step: int) -> AsyncIterator[bytes]:
    for start in range(0, size, step):
        yield await in_thread(os.pread, file, step, start)


async def _gathered(body: AsyncIterable[bytes], part_bytes: int) -> AsyncIterator[bytes]:
    """The same bytes in parts: full ones, larger as there are more of them, and a last one."""
    gathered = bytearray()
    done = 0
    async for data in body:
        gathered += data
        while len(gathered) >= (wanted := part_bytes * (1 + done // _PARTS_BEFORE_GROWTH)):
            part = bytes(memoryview(gathered)[:wanted])
            del gathered[:wanted]
            done += 1
            yield part
    if gathered or not done:
        yield bytes(gathered)


def _broken() -> tuple[type[Exception], ...]:
    """What obstore raises when S3 does not answer as it should."""
    from obstore.exceptions import BaseError

    return (BaseError, OSError)


def _meaning(error: Exception, operation: str) -> Exception:
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    # Their text is long and names hosts; the type says enough.
    log.error("S3 failed during %s: %s", operation, type(error).__name__)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError):
        return Misconfigured("WORKFLOW_S3_BUCKET", f"S3 refuses {operation} to these credentials")
    return CacheUnavailable(operation)


@contextmanager
def _answering(operation: str) -> Iterator[None]:
    try:
        yield
    except _broken() as error:
        raise _meaning(error, operation) from error


async def _pause(failures: int) -> None:
    pause = _FIRST_PAUSE.total_seconds() * 2 ** (failures - 1)
    await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
