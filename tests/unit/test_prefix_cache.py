"""The part of the cache one attempt may touch."""

from __future__ import annotations

import pytest

from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.keys import CacheKey
from gooseherd.storage.memory import MemoryCache
from gooseherd.storage.prefix_cache import PrefixCache

OUTSIDE = ["p1/other/x", "p1/mine", "p1/minered/x", "p1/mine/", "p1/mine/../other/x", "p1", "/p1/mine/x"]


@pytest.fixture
async def whole() -> MemoryCache:
    cache = MemoryCache()
    for key in ("p1/mine/a", "p1/minered/x", "p1/other/x"):
        await cache.put_if_absent(CacheKey(key), key.encode())
    return cache


@pytest.mark.parametrize("key", OUTSIDE)
async def test_nothing_outside_is_read_written_or_deleted(whole: MemoryCache, key: str) -> None:
    part = PrefixCache(whole, "p1/mine/")
    before = [found async for found in whole.list()]
    with pytest.raises(InvalidInput):
        await part.put_if_absent(CacheKey(key), b"x")
    with pytest.raises(InvalidInput):
        await part.delete(CacheKey(key))
    with pytest.raises(InvalidInput):
        await part.head(CacheKey(key))
    with pytest.raises(InvalidInput):
        [chunk async for chunk in part.get(CacheKey(key))]
    assert [found async for found in whole.list()] == before


async def test_inside_it_is_the_cache_itself(whole: MemoryCache) -> None:
    part = PrefixCache(whole, "p1/mine/")
    assert await part.put_if_absent(CacheKey("p1/mine/b/c"), b"new")
    assert not await part.put_if_absent(CacheKey("p1/mine/a"), b"other")
    assert b"".join([chunk async for chunk in part.get(CacheKey("p1/mine/a"))]) == b"p1/mine/a"
    assert await whole.head(CacheKey("p1/mine/b/c")) is not None
    assert await part.delete(CacheKey("p1/mine/a"))


@pytest.mark.parametrize("prefix", ["", "p1", "p1/", "p1/mine", "p1/mine/"])
async def test_a_list_shows_what_lies_inside(whole: MemoryCache, prefix: str) -> None:
    part = PrefixCache(whole, "p1/mine/")
    assert [found.key async for found in part.list(prefix)] == ["p1/mine/a"]


@pytest.mark.parametrize("prefix", ["p1/other", "p1/minered/", "p2", "p1/mine/../other/"])
async def test_a_list_of_what_lies_outside_is_refused(whole: MemoryCache, prefix: str) -> None:
    with pytest.raises(InvalidInput):
        PrefixCache(whole, "p1/mine/").list(prefix)


async def test_closing_the_part_leaves_the_whole_open(whole: MemoryCache) -> None:
    await PrefixCache(whole, "p1/mine/").close()
    assert await whole.head(CacheKey("p1/mine/a")) is not None


@pytest.mark.parametrize("prefix", ["", "p1/mine", "/", "../"])
def test_a_prefix_that_is_no_folder_limits_nothing_and_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidInput):
        PrefixCache(MemoryCache(), prefix)
