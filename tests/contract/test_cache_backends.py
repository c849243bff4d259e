"""What every CacheBackend promises. An adapter joins by adding itself to ADAPTERS."""

from __future__ import annotations

import asyncio
import atexit
import functools
import hashlib
import random
import tempfile
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cloud_key import CLOUD_KEY

from gooseherd.devcloud.admin_client import SignedBy
from gooseherd.devcloud.child_process import running_cloud
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import InvalidInput, RangeNotSatisfiable
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.storage.lazy_cache import LazyCache
from gooseherd.storage.local import LocalFsCache
from gooseherd.storage.memory import MemoryCache
from gooseherd.storage.prefix_cache import PrefixCache
from gooseherd.storage.s3 import S3Cache

MIB = 1 << 20
KEY = CacheKey("p1/ab/md5-ab/demo-1-bam/sorted.bam")

pytestmark = pytest.mark.usefixtures("cloud_credentials")


@asynccontextmanager
async def local() -> AsyncIterator[CacheBackend]:
    with tempfile.TemporaryDirectory() as folder:
        cache = LocalFsCache(Path(folder) / "cache")
        yield cache
        await cache.close()


@asynccontextmanager
async def memory() -> AsyncIterator[CacheBackend]:
    yield MemoryCache()


@asynccontextmanager
async def limited() -> AsyncIterator[CacheBackend]:
    yield PrefixCache(MemoryCache(), "p1/")


@asynccontextmanager
async def opening() -> AsyncIterator[CacheBackend]:
    cache = LazyCache(MemoryCache)
    yield cache
    await cache.close()


@functools.cache
def local_cloud() -> str:
    """The URL of one for all tests of this process; it ends with the process."""
    open_until_exit = ExitStack()
    atexit.register(open_until_exit.close)
    state = open_until_exit.enter_context(tempfile.TemporaryDirectory())
    return open_until_exit.enter_context(running_cloud(Path(state), images={}))


@asynccontextmanager
async def s3() -> AsyncIterator[CacheBackend]:
    url, bucket = local_cloud(), f"cache-{uuid.uuid4()}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, auth=SignedBy(CLOUD_KEY)) as http:
        (await http.put(f"/{bucket}")).raise_for_status()
    cache = S3Cache(bucket, prefix="/artifacts/", endpoint_url=url)
    yield cache
    await cache.close()


ADAPTERS: dict[str, Callable[[], AbstractAsyncContextManager[CacheBackend]]] = {
    "local": local,
    "memory": memory,
    "limited": limited,
    "opening": opening,
    "s3": s3,
}


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> Callable[[], AbstractAsyncContextManager[CacheBackend]]:
    return ADAPTERS[request.param]


@pytest.fixture
async def cache(
    adapter: Callable[[], AbstractAsyncContextManager[CacheBackend]],
) -> AsyncIterator[CacheBackend]:
    async with adapter() as backend:
        yield backend


async def read(cache: CacheBackend, key: str, span: ByteRange | None = None) -> bytes:
    return b"".join([chunk async for chunk in cache.get(CacheKey(key), span)])


async def names(cache: CacheBackend, prefix: str = "") -> list[str]:
    return [str(found.key) async for found in cache.list(prefix)]


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


async def test_what_was_put_is_what_is_read(cache: CacheBackend) -> None:
    assert await cache.put_if_absent(KEY, b"some bytes")
    assert await read(cache, KEY) == b"some bytes"
    found = await cache.head(KEY)
    assert found is not None
    assert (found.key, found.size) == (KEY, 10)
    assert found.modified_at > 1e9


async def test_a_file_is_copied_and_stays_the_callers(cache: CacheBackend, tmp_path: Path) -> None:
    path = tmp_path / "made.bam"
    data = random.Random(1).randbytes(3 * MIB + 17)
    path.write_bytes(data)
    assert await cache.put_if_absent(KEY, path)
    with path.open("r+b") as file:
        file.write(b"the caller goes on writing")
    assert await read(cache, KEY) == data


async def test_a_stream_is_stored_whole(cache: CacheBackend) -> None:
    chunks = [random.Random(n).randbytes(300_000) for n in range(9)]
    assert await cache.put_if_absent(KEY, stream(*chunks, b"", b"end"))
    assert await read(cache, KEY) == b"".join(chunks) + b"end"


@pytest.mark.parametrize("body", [b"", "stream", "file"])
async def test_an_empty_object_is_an_object(cache: CacheBackend, body: bytes | str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    bodies: dict[str, AsyncIterable[bytes] | Path] = {"stream": stream(), "file": tmp_path / "empty"}
    assert await cache.put_if_absent(KEY, body if isinstance(body, bytes) else bodies[body])
    found = await cache.head(KEY)
    assert found is not None
    assert found.size == 0
    assert await read(cache, KEY) == b""
    assert not await cache.put_if_absent(KEY, b"other")


async def test_an_absent_object_has_no_head_no_bytes_and_is_not_deleted(cache: CacheBackend) -> None:
    assert await cache.head(KEY) is None
    assert [chunk async for chunk in cache.get(KEY)] == []
    assert [chunk async for chunk in cache.get(KEY, ByteRange(0, 5))] == []
    assert await cache.delete(KEY) is False
    assert await names(cache) == []


async def test_the_second_put_changes_nothing_and_says_so(cache: CacheBackend) -> None:
    assert await cache.put_if_absent(KEY, b"first")
    assert not await cache.put_if_absent(KEY, b"second")
    assert not await cache.put_if_absent(KEY, stream(b"third"))
    assert await read(cache, KEY) == b"first"


async def test_of_many_concurrent_writers_one_wins_and_its_bytes_are_the_object(
    cache: CacheBackend,
) -> None:
    gate = asyncio.Event()

    async def body(n: int) -> AsyncIterator[bytes]:
        for _ in range(4):
            yield bytes([n]) * 10_000
            await gate.wait()

    async def write(n: int) -> bool:
        return await cache.put_if_absent(KEY, body(n))

    writers = [asyncio.create_task(write(n)) for n in range(16)]
    await asyncio.sleep(0)
    gate.set()
    won = await asyncio.gather(*writers)
    assert won.count(True) == 1
    assert await read(cache, KEY) == bytes([won.index(True)]) * 40_000
    assert await names(cache) == [KEY]


async def test_a_body_that_breaks_off_leaves_nothing(cache: CacheBackend) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * (2 * MIB)
        raise RuntimeError("tool died")

    with pytest.raises(RuntimeError, match="tool died"):
        await cache.put_if_absent(KEY, body())
    assert await cache.head(KEY) is None
    assert await names(cache) == []
    assert await cache.put_if_absent(KEY, b"the retry")


async def test_a_cancelled_put_leaves_nothing(cache: CacheBackend) -> None:
    started = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * (2 * MIB)
        started.set()
        await asyncio.Event().wait()

    writer = asyncio.create_task(cache.put_if_absent(KEY, body()))
    await started.wait()
    assert await cache.head(KEY) is None
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    assert await cache.head(KEY) is None


async def test_an_object_is_invisible_until_it_is_whole(cache: CacheBackend) -> None:
    seen = []

    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * MIB
            seen.append((await cache.head(KEY), await names(cache), await read(cache, KEY)))

    assert await cache.put_if_absent(KEY, body())
    assert seen == [(None, [], b"")] * 3
    assert await names(cache) == [KEY]


@given(data=st.data())
@settings(max_examples=40)
@pytest.mark.parametrize("name", ADAPTERS)
def test_a_span_is_the_slice_of_the_bytes(name: str, data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([0, 1, 10, 65_536, 524_288, 524_289, MIB, 2 * MIB + 3]))
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    whole = random.Random(size).randbytes(size)

    async def check() -> None:
        async with ADAPTERS[name]() as cache:
            await cache.put_if_absent(KEY, whole)
            chunks = [chunk async for chunk in cache.get(KEY, ByteRange(start, stop))]
            assert b"".join(chunks) == whole[start:stop]
            assert {type(chunk) for chunk in chunks} <= {bytes}
            assert all(0 < len(chunk) <= MIB for chunk in chunks)

    asyncio.run(check())


async def test_a_span_past_the_end_is_refused(cache: CacheBackend) -> None:
    await cache.put_if_absent(KEY, b"0123456789")
    with pytest.raises(RangeNotSatisfiable) as refused:
        await read(cache, KEY, ByteRange(5, 11))
    assert refused.value.size == 10


async def test_many_readers_at_once_read_the_same(cache: CacheBackend) -> None:
    data = random.Random(2).randbytes(2 * MIB + 1)
    await cache.put_if_absent(KEY, data)
    spans = [ByteRange(n * 40_000, n * 40_000 + 300_000) for n in range(40)]
    parts = await asyncio.gather(*(read(cache, KEY, span) for span in spans))
    assert [hashlib.md5(part).digest() for part in parts] == [
        hashlib.md5(data[span.start : span.stop]).digest() for span in spans
    ]


async def test_a_reader_may_stop_early(cache: CacheBackend) -> None:
    await cache.put_if_absent(KEY, b"x" * (3 * MIB))
    reader = cache.get(KEY)
    assert await anext(reader)
    await reader.aclose()  # type: ignore[attr-defined]  # they are async generators
    assert await cache.delete(KEY)


async def test_a_deleted_object_is_gone_and_can_be_put_again(cache: CacheBackend) -> None:
    await cache.put_if_absent(KEY, b"old")
    assert await read(cache, KEY) == b"old"
    assert await cache.delete(KEY) is True
    assert await cache.head(KEY) is None
    assert await read(cache, KEY) == b""
    assert await names(cache) == []
    assert await cache.delete(KEY) is False
    assert await cache.put_if_absent(KEY, b"new")
    assert await read(cache, KEY) == b"new"


async def test_a_list_is_in_the_order_of_the_keys_bytes(cache: CacheBackend) -> None:
    keys = ["p1/a/x", "p1/a-b", "p1/a.c", "p1/a0", "p1/A/z", "p1/a/x.tbi", "p1/é/1", "p1/b/c/d/e", "p1/~"]
    for key in keys:
        await cache.put_if_absent(CacheKey(key), key.encode())
    in_order = sorted(keys, key=str.encode)
    assert await names(cache) == in_order
    assert [found.size async for found in cache.list()] == [len(key.encode()) for key in in_order]


@pytest.mark.parametrize("prefix", ["p1/a", "p1/a/", "p1/a/x", "p1/a/x.", "p1/b/c", "p1/nothing", "p1/", "p"])
async def test_a_list_holds_the_keys_that_start_with_the_prefix(cache: CacheBackend, prefix: str) -> None:
    keys = ["p1/a/x", "p1/a/x.tbi", "p1/ab/x", "p1/b/c/d", "p1/b/cd"]
    for key in keys:
        await cache.put_if_absent(CacheKey(key), b"")
    assert await names(cache, prefix) == sorted(key for key in keys if key.startswith(prefix))


async def test_a_list_longer_than_a_page_is_whole(cache: CacheBackend) -> None:
    keys = [f"p1/{n % 7}/{n:04}" for n in range(600)]
    await asyncio.gather(*(cache.put_if_absent(CacheKey(key), b"") for key in keys))
    assert await names(cache) == sorted(keys)


BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "p1/../../etc/passwd",
    "p1/..",
    "./p1",
    "p1/./x",
    "p1//x",
    "p1/x/",
    "p1/x\0y",
    "p1/x\ny",
    "p1/x\x7f",
    "p1\\..\\x",
    "p1/\ud800",
    "p1/.gooseherd-tmp/x",
    ".gooseherd-tmp",
    "p1/" + "x" * 256,
    "p1/" + "é" * 128,
    "p1/" + "x/" * 600 + "x",
]


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_a_key_that_could_leave_the_root_is_refused_everywhere(cache: CacheBackend, key: str) -> None:
    bad = CacheKey(key)
    with pytest.raises(InvalidInput):
        await cache.head(bad)
    with pytest.raises(InvalidInput):
        await read(cache, bad)
    with pytest.raises(InvalidInput):
        await cache.put_if_absent(bad, b"x")
    with pytest.raises(InvalidInput):
        await cache.delete(bad)
    assert await names(cache) == []


@pytest.mark.parametrize("prefix", ["/", "..", "p1/../", "p1//", "\0", ".gooseherd-tmp/"])
async def test_a_prefix_that_no_key_has_is_refused(cache: CacheBackend, prefix: str) -> None:
    with pytest.raises(InvalidInput):
        await names(cache, prefix)


async def test_closing_twice_is_fine(cache: CacheBackend) -> None:
    await cache.close()
    await cache.close()


async def test_a_sweep_touches_no_object(cache: CacheBackend) -> None:
    await cache.put_if_absent(KEY, b"bytes")
    assert await cache.sweep(0) == 0
    assert await read(cache, KEY) == b"bytes"
