"""What is made goes to the cache while it is made, and is nothing there until it is done."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, Callable
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.attempt import EventKind
from gooseherd.domain.errors import CacheUnavailable
from gooseherd.domain.failures import Reason
from gooseherd.domain.keys import CacheKey
from gooseherd.storage.local import LocalFsCache
from gooseherd.storage.memory import MemoryCache
from gooseherd.worker.streaming_upload import EARLY_BYTES, StreamingUpload

MIB = 1 << 20
KEY = CacheKey("p1/x/data.bin")


# -- whole attempts ------------------------------------------------------------------------


async def test_parts_are_in_s3_before_the_source_has_arrived(
    upstream: Any, attempt: Any, s3: Any, bucket: Any, kit: Any
) -> None:
    upstream.data = kit.intervals(ordered=True, megabytes=30)
    upstream.let(len(upstream.data) - 2 * MIB)
    one = attempt("x.bed", "bed", cache=s3)
    await kit.come(lambda: bucket.uploads() and bucket.parts())
    assert not upstream.whole
    assert bucket.objects() == []
    assert EventKind.STEP_COMPLETE not in [event.kind for event in one.events]
    upstream.let()
    assert (await one.end()).kind is EventKind.DONE
    await one.part(Kind.DATA)
    assert bucket.uploads() == []
    assert sorted(bucket.objects()) == [
        "data.bed.gz",
        "density.bw",
        "index",
        "result-job.1.json",
        "step-data.json",
        "step-density.json",
        "step-index.json",
    ]


async def test_a_source_that_is_published_as_it_is_is_on_its_way_while_it_arrives(
    upstream: Any, attempt: Any, s3: Any, bucket: Any, kit: Any
) -> None:
    upstream.data = kit.reads(ordered=True)
    upstream.let(len(upstream.data) - 1)
    one = attempt("x.bam", "bam", cache=s3)
    await kit.come(lambda: bucket.uploads() and bucket.parts())
    assert not upstream.whole
    assert bucket.objects() == []
    upstream.let()
    assert (await one.end()).kind is EventKind.DONE
    assert (await one.part(Kind.DATA)).sha256 == hashlib.sha256(upstream.data).hexdigest()
    assert bucket.uploads() == []


async def test_an_order_that_breaks_at_the_end_takes_everything_back(
    upstream: Any, attempt: Any, digests: Any, s3: Any, bucket: Any, kit: Any
) -> None:
    upstream.data = kit.intervals(ordered=True, megabytes=30) + b"chr1\t1\t2\tlate\n"
    upstream.let(len(upstream.data) - MIB)
    one = attempt("x.bed", "bed", cache=s3)
    await kit.come(lambda: bucket.uploads() and bucket.parts())
    upstream.let()
    assert (await one.end()).kind is EventKind.DONE
    assert bucket.uploads() == []
    data = await one.part(Kind.DATA)
    assert data.sha256 == (await digests(one.spec.source, upstream.data))[Kind.DATA]


async def test_a_refused_source_leaves_nothing_of_what_was_on_its_way(
    upstream: Any, attempt: Any, s3: Any, bucket: Any, kit: Any
) -> None:
    upstream.data = kit.intervals(ordered=True, megabytes=30) + b"chr1\tx\ty\n"
    upstream.let(len(upstream.data) - MIB)
    one = attempt("x.bed", "bed", cache=s3)
    await kit.come(lambda: bucket.uploads() and bucket.parts())
    upstream.let()
    assert (await one.end()).reason is Reason.SOURCE_INVALID
    assert (bucket.objects(), bucket.uploads()) == ([], [])


async def test_a_local_cache_has_the_bytes_before_the_step_is_done(
    upstream: Any, attempt: Any, kit: Any, tmp_path: Path
) -> None:
    cache = LocalFsCache(tmp_path / "cache")
    upstream.data = kit.reads(ordered=True)
    upstream.let(len(upstream.data) - 1)
    one = attempt("x.bam", "bam", cache=cache)

    def drafted() -> int:
        return sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())

    await kit.come(lambda: drafted() > 7 * MIB)
    assert [found async for found in cache.list()] == []
    upstream.let()
    assert (await one.end()).kind is EventKind.DONE
    await one.part(Kind.DATA)
    await cache.close()


async def test_a_cache_that_fails_in_between_gets_the_whole_file_afterwards(
    upstream: Any, attempt: Any, kit: Any
) -> None:
    class Fails(MemoryCache):
        streams = 0

        async def put_if_absent(self, key: CacheKey, body: Any) -> bool:
            if isinstance(body, AsyncIterable):
                self.streams += 1
                async for _ in body:
                    raise CacheUnavailable("put_if_absent")
            return await super().put_if_absent(key, body)

    cache = Fails()
    upstream.data = kit.reads(ordered=True)
    upstream.let()
    one = attempt("x.bam", "bam", cache=cache)
    assert (await one.end()).kind is EventKind.DONE
    await one.part(Kind.DATA)
    assert cache.streams == 1


# -- one file ------------------------------------------------------------------------------


class Grown:
    """A file that the test lets grow, and the cache it goes to."""

    def __init__(self, path: Path, kit: Any) -> None:
        self.path = path
        self.cache = MemoryCache()
        self.taken = 0
        self._kit = kit
        put = self.cache.put_if_absent

        async def counted(body: Any) -> Any:
            self.taken = 0
            async for chunk in body:
                self.taken += len(chunk)
                yield chunk

        async def seen(key: CacheKey, body: Any) -> bool:
            return await put(key, counted(body) if isinstance(body, AsyncIterable) else body)

        self.cache.put_if_absent = seen  # type: ignore[method-assign]

    def grow(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def upload(self) -> StreamingUpload:
        return StreamingUpload(self.cache, KEY, self.path, early_bytes=1)

    async def come(self, condition: Callable[[], Any]) -> None:
        await self._kit.come(condition)

    async def stored(self) -> bytes | None:
        if await self.cache.head(KEY) is None:
            return None
        return b"".join([chunk async for chunk in self.cache.get(KEY)])


@pytest.fixture
def grown(tmp_path: Path, kit: Any) -> Grown:
    return Grown(tmp_path / "out", kit)


async def test_a_growing_file_is_followed_to_the_end_it_has_when_it_is_finished(grown: Grown) -> None:
    upload = grown.upload()
    grown.grow(b"a" * 3 * MIB)
    await grown.come(lambda: grown.taken == 3 * MIB)
    assert await grown.stored() is None
    grown.grow(b"bc")
    whole = b"a" * 3 * MIB + b"bc"
    assert await upload.finish() == (len(whole), hashlib.sha256(whole).hexdigest())
    assert await grown.stored() == whole


async def test_what_is_abandoned_is_no_object(grown: Grown) -> None:
    upload = grown.upload()
    grown.grow(b"a" * 2 * MIB)
    await grown.come(lambda: grown.taken)
    await upload.abandon()
    assert await grown.stored() is None


async def test_a_file_that_is_written_anew_is_begun_anew(grown: Grown) -> None:
    upload = grown.upload()
    grown.grow(b"a" * 2 * MIB)
    await grown.come(lambda: grown.taken == 2 * MIB)
    grown.path.unlink()
    grown.grow(b"b" * 3 * MIB)
    await grown.come(lambda: grown.taken == 3 * MIB)
    assert await upload.finish() is not None
    assert await grown.stored() == b"b" * 3 * MIB


async def test_a_small_file_is_left_to_be_stored_at_once(grown: Grown) -> None:
    grown.grow(b"small")
    upload = StreamingUpload(grown.cache, KEY, grown.path)
    assert EARLY_BYTES > 5
    assert await upload.finish() is None
    assert await grown.stored() is None


async def test_a_file_that_never_comes_is_not_missed(grown: Grown) -> None:
    upload = grown.upload()
    await asyncio.sleep(0)
    assert await upload.finish() is None


async def test_an_object_that_is_there_already_stays(grown: Grown) -> None:
    await grown.cache.put_if_absent(KEY, b"theirs")
    upload = grown.upload()
    grown.grow(b"a" * MIB)
    assert await upload.finish() is None
    assert await grown.stored() == b"theirs"
