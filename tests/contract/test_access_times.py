"""What every AccessTimes promises, asked of each of the real ones."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

pytestmark = pytest.mark.integration

DAY, AT_ONCE = timedelta(days=1), timedelta(seconds=-1)


@pytest.fixture
def access(store):
    return store.access


async def test_a_name_is_set_when_it_is_not_known_and_stays_for_as_long_as_it_is_young(access, store):
    before = await store.jobs.now()
    await access.touch(["p1/a/", "p1/b/"], DAY)
    first = await access.below("p1/")
    assert set(first) == {"p1/a/", "p1/b/"}
    after = await store.jobs.now()
    assert all(before <= moment <= after for moment in first.values())
    await asyncio.sleep(0.01)
    await access.touch(["p1/a/", "p1/c/"], DAY)
    assert (await access.below("p1/"))["p1/a/"] == first["p1/a/"]
    await access.touch(["p1/a/"], AT_ONCE)
    later = await access.below("p1/")
    assert later["p1/a/"] > first["p1/a/"]
    assert later["p1/b/"] == first["p1/b/"]
    assert set(later) == {"p1/a/", "p1/b/", "p1/c/"}
    await access.touch([], DAY)


async def test_names_are_found_by_how_they_begin(access):
    await access.touch(["p1/ab/x/", "p1/ac/y/", "p1/ab", "p10/ab/z/"], DAY)
    assert set(await access.below("p1/ab/")) == {"p1/ab/x/"}
    assert set(await access.below("p1/")) == {"p1/ab/x/", "p1/ac/y/", "p1/ab"}
    assert await access.below("p2/") == {}


async def test_a_name_is_forgotten_only_as_it_was_seen(access):
    await access.touch(["a"], DAY)
    seen = (await access.below("a"))["a"]
    assert not await access.forget("a", None)
    assert not await access.forget("a", seen - DAY)
    assert await access.forget("a", seen)
    assert await access.below("a") == {}
    assert not await access.forget("a", seen)
    assert await access.forget("a", None)


async def test_many_that_touch_one_name_at_once_leave_one_time(access):
    await asyncio.gather(*(access.touch(["a", "b"], DAY) for _ in range(10)))
    assert set(await access.below("")) == {"a", "b"}
