"""Artifacts in an S3 bucket: ranges read by obstore, objects made by one conditional request.

obstore needs a tenth of boto3's CPU for a byte range. What is larger than one part goes by
multipart upload (s3_parts.py). Both ends in a request with If-None-Match: *, so of many
writers the first one wins and nobody sees half an object. An object carries the mark of its
writer: a writer whose answer was lost finds out by it that the object is its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from gooseherd.blocking import in_thread, in_thread_or_undo
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import CacheUnavailable, InvalidInput, Misconfigured, RangeNotSatisfiable
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import Body, CacheBackend, SignedObjects, StorageRefused, StoredObject
from gooseherd.storage import s3_control
from gooseherd.storage.draft import open_regular
from gooseherd.storage.keys import MAX_KEY_BYTES, check_key, check_prefix, normal_prefix
from gooseherd.storage.s3_control import Exists, KeyChanged, S3Control
from gooseherd.storage.s3_parts import file_parts, gathered, put_in_parts, slices

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Config, S3Store

log = logging.getLogger(__name__)

CHUNK: Final = 1 << 20
"""The port's bound for one chunk, in bytes."""
PART: Final = 8 << 20
"""Of a multipart upload, in bytes: at 4 at a time some 40 MiB of memory per upload."""
_MIN_CHUNK: Final = 128 << 10
_WRITER: Final = "gooseherd-writer"
_TRIES: Final = 4
_FIRST_PAUSE: Final = timedelta(milliseconds=100)
_LONGEST_PAUSE: Final = timedelta(seconds=3)
_CONNECT: Final = timedelta(seconds=5)
_REQUEST: Final = timedelta(seconds=60)
"""For one request, its body included; a read that takes longer goes on where it stopped."""


class S3Cache(CacheBackend, SignedObjects):
    """CacheBackend in `bucket`, below `prefix`; keys do not show the prefix.

    `endpoint_url` is for a cloud other than AWS. Credentials are found as boto3 finds them,
    task roles included, or are those of the file `credentials` (credentials_file.py), which may neither
    list nor delete. An upload holds `part_bytes` times (`concurrency` + 1) of memory.

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
        credentials: Path | None = None,
    ) -> None:
        if not bucket.strip():
            raise Misconfigured("WORKFLOW_S3_BUCKET", "must not be empty")
        self._prefix = normal_prefix(prefix)
        self._part_bytes = part_bytes
        self._concurrency = concurrency
        self._control = S3Control(
            bucket,
            endpoint_url=endpoint_url,
            region=region,
            connections=concurrency + 2,
            credentials=credentials,
        )
        # Whoever may not list a bucket is not told what is absent: S3 answers 403 then.
        self._refused_is_absent = credentials is not None
        self._control.credentials()  # early, with a word about what is missing
        self._store = _open_store(bucket, endpoint_url, region, self._control)

    async def check(self) -> None:
        """See that the bucket is there for these credentials. Raises Misconfigured or CacheUnavailable."""
        await in_thread(self._control.check)

    # -- reading --------------------------------------------------------------------------------

    async def head(self, key: CacheKey) -> StoredObject | None:
        import obstore

        path = self._path(key)
        with _responding("head"):
            try:
                found = await obstore.head_async(self._store, path)
            except self._absent:
                return None
        return StoredObject(key, found["size"], found["last_modified"].timestamp())

    def get(self, key: CacheKey, span: ByteRange | None = None) -> AsyncIterator[bytes]:
        """A connection that breaks is taken up where it broke.

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
            except self._absent:
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

        if left.stop is not None and left.etag is None and left.stop - left.start <= CHUNK:
            # What genome browsers ask for, in one call: a third less CPU than what follows.
            chunk = bytes(await obstore.get_range_async(self._store, path, start=left.start, end=left.stop))
            if len(chunk) < left.stop - left.start:
                raise RangeNotSatisfiable(left.start + len(chunk))
            left.start = left.stop
            yield chunk
            return
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
                chunk = bytes(data[at : at + CHUNK])
                left.start += len(chunk)
                yield chunk

    async def _check_span(self, key: CacheKey, span: ByteRange) -> None:
        found = await self.head(key)
        if found is not None and span.stop > found.size:
            raise RangeNotSatisfiable(found.size)

    @property
    def _absent(self) -> tuple[type[Exception], ...]:
        """What obstore raises when there is no such object."""
        from obstore.exceptions import PermissionDeniedError

        # A write that is refused is not hidden by this: it raises.
        return (FileNotFoundError, PermissionDeniedError) if self._refused_is_absent else (FileNotFoundError,)

    async def signed_url(self, key: CacheKey, seconds: int) -> str:
        """Of no use any more when the credentials that sign it end, as a task role's do after some hours."""
        import obstore

        path = self._path(key)
        with _responding("sign"):
            return await obstore.sign_async(self._store, "GET", path, timedelta(seconds=seconds))

    # -- writing --------------------------------------------------------------------------------

    async def put_if_absent(self, key: CacheKey, body: Body) -> bool:
        path = self._path(key)
        if isinstance(body, Path):
            return await self._put_file(key, path, body)
        if isinstance(body, bytes):
            if len(body) <= self._part_bytes:
                return await self._put_at_once(path, body)
            return await self._put_parts(key, path, slices(body, self._part_bytes))
        return await self._put_stream(key, path, body)

    async def _put_file(self, key: CacheKey, path: str, source: Path) -> bool:
        file = await in_thread_or_undo(os.close, open_regular, source)
        try:
            size = os.fstat(file).st_size
            if size <= self._part_bytes:
                return await self._put_at_once(path, await in_thread(os.pread, file, self._part_bytes, 0))
            return await self._put_parts(key, path, file_parts(file, size, self._part_bytes))
        finally:
            os.close(file)

    async def _put_stream(self, key: CacheKey, path: str, body: AsyncIterable[bytes]) -> bool:
        parts = gathered(body, self._part_bytes)
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
        try:
            await put_in_parts(self._control, path, {_WRITER: mark}, parts, at_once=self._concurrency)
        except Exists:
            return await self._writer(path) == mark
        except KeyChanged:
            if (writer := await self._writer(path)) is None:
                raise CacheUnavailable("put_if_absent") from None
            return writer == mark
        return True

    async def _writer(self, path: str) -> str | None:
        """The mark of the object's writer; empty when it has none, None when there is no object."""
        import obstore

        with _responding("head"):
            try:
                found = await obstore.get_async(self._store, path, options={"head": True})
            except self._absent:
                return None
        return str(found.attributes.get(_WRITER, ""))

    # -- the rest -------------------------------------------------------------------------------

    async def delete(self, key: CacheKey) -> bool:
        """Of two at the same time both may get True."""
        import obstore

        if await self.head(key) is None:
            return False
        with _responding("delete"):
            await obstore.delete_async(self._store, self._path(key))
        return True

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        return self._list(self._prefix + check_prefix(prefix))

    async def _list(self, prefix: str) -> AsyncIterator[StoredObject]:
        import obstore

        # obstore lists folders, so what stands behind the last slash is compared here.
        folder = prefix.rpartition("/")[0]
        with _responding("list"):
            async for page in obstore.list(self._store, prefix=folder or None, chunk_size=1000):
                for found in page:
                    path = found["path"]
                    if path.startswith(prefix):
                        key = CacheKey(path.removeprefix(self._prefix))
                        yield StoredObject(key, found["size"], found["last_modified"].timestamp())
                    elif path.encode() > prefix.encode():
                        return

    async def sweep(self, older_than_seconds: float) -> int:
        """Abort uploads below the prefix that were begun so long ago and not completed."""
        begun_before = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        return await in_thread(self._control.abort_older, self._prefix, begun_before)

    async def close(self) -> None:
        await in_thread(self._control.close)

    def _path(self, key: str) -> str:
        path = self._prefix + check_key(key)
        if len(path.encode()) > MAX_KEY_BYTES:
            raise InvalidInput("key", f"at most {MAX_KEY_BYTES} bytes, the bucket's prefix included")
        return path


def preload(region: str) -> None:
    """Do now, asking nobody, what the first cache in this process or in a fork of it needs."""
    import obstore.store  # noqa: F401

    s3_control.preload(region)


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


def _broken() -> tuple[type[Exception], ...]:
    """What obstore raises when S3 does not answer as it should."""
    from obstore.exceptions import BaseError

    return (BaseError, OSError)


def _meaning(error: Exception, operation: str) -> Exception:
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    # Their text is long and names hosts; the type says enough.
    log.error("S3 failed during %s: %s", operation, type(error).__name__)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError):
        return StorageRefused("WORKFLOW_S3_BUCKET", f"S3 refuses {operation} to these credentials")
    return CacheUnavailable(operation)


@contextmanager
def _responding(operation: str) -> Iterator[None]:
    try:
        yield
    except _broken() as error:
        raise _meaning(error, operation) from error


async def _pause(failures: int) -> None:
    pause = _FIRST_PAUSE.total_seconds() * 2 ** (failures - 1)
    await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
