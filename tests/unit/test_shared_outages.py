"""While the store does not answer, who waits for somebody else's call waits once, not once more for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gooseherd.control.limited_claims import Count, LimitedClaims
from gooseherd.control.shared_read import SharedRead
from gooseherd.domain.errors import GooseherdError, Misconfigured, StoreUnavailable

ASKING = 20
QUICK, SLOW = 0.5, 10.0
"""Seconds that a call takes."""


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Store:
    """Each call is answered, or fails, when it is let go; the first one `seconds` after that."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls = 0
        self.clock = Clock()
        self._seconds = seconds
        self.go_on = asyncio.Event()
        self.error: Exception | None = None
        self.failures = 1_000_000
        """So many calls meet it."""

    async def call(self) -> int:
        self.calls += 1
        await self.go_on.wait()
        self.clock.now += self._seconds
        self._seconds = 0.0
        if self.error is not None and self.calls <= self.failures:
            raise self.error
        return self.calls


@pytest.mark.parametrize("error", [StoreUnavailable("counts"), Misconfigured("STORE_URL", "no password")])
async def test_who_waited_for_a_read_that_failed_gets_its_error(error: GooseherdError) -> None:
    store = Store(SLOW)
    read = SharedRead(store.call, 1.0, store.clock)
    asking = [asyncio.create_task(read.get()) for _ in range(ASKING)]
    await asyncio.sleep(0.01)
    store.error = error
    store.go_on.set()
    assert await asyncio.gather(*asking, return_exceptions=True) == [error] * ASKING
    assert store.calls == 1


async def test_who_asks_after_a_read_has_failed_reads_again() -> None:
    store = Store()
    read = SharedRead(store.call, 1.0)
    store.error = StoreUnavailable("counts")
    store.go_on.set()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await read.get()
    assert store.calls == 2
    store.error = None
    assert await read.get() == 3


async def test_a_fault_of_the_read_itself_is_not_shared() -> None:
    store = Store()
    read = SharedRead(store.call, 1.0)
    asking = [asyncio.create_task(read.get()) for _ in range(3)]
    await asyncio.sleep(0.01)
    store.error = ValueError("an oddity")
    store.go_on.set()
    await asyncio.gather(*asking, return_exceptions=True)
    assert store.calls == 3


async def test_a_reader_that_gives_up_leaves_the_read_to_the_next() -> None:
    store = Store()
    read = SharedRead(store.call, 1.0)
    asking = [asyncio.create_task(read.get()) for _ in range(3)]
    await asyncio.sleep(0.01)
    asking[0].cancel()
    await asyncio.sleep(0.01)
    store.go_on.set()
    assert await asyncio.gather(*asking[1:]) == [2, 2]


async def claiming_of(store: Store) -> Callable[[], Coroutine[Any, Any, int]]:
    async def none() -> int:
        return 0

    claims = LimitedClaims("jobs", 1000, none, clock=store.clock)
    before = await claims.counted()

    async def claim() -> int:
        async with claims.claiming(before):
            return await store.call()

    return claim


async def test_who_waited_for_a_claim_that_failed_gets_its_error() -> None:
    store = Store(SLOW)
    claim = await claiming_of(store)
    claiming = [asyncio.create_task(claim()) for _ in range(ASKING)]
    await asyncio.sleep(0.01)
    store.error = StoreUnavailable("claim")
    store.go_on.set()
    assert await asyncio.gather(*claiming, return_exceptions=True) == [store.error] * ASKING
    assert store.calls == 1
    store.error = None
    assert await claim() == 2


async def test_one_lost_answer_fails_nobody_who_waited_for_it() -> None:
    """All who had submitted at that moment got its 503."""
    store = Store(QUICK)
    claim = await claiming_of(store)
    claiming = [asyncio.create_task(claim()) for _ in range(ASKING)]
    await asyncio.sleep(0.01)
    store.error, store.failures = StoreUnavailable("claim"), 1
    store.go_on.set()
    first, *others = await asyncio.gather(*claiming, return_exceptions=True)
    assert isinstance(first, StoreUnavailable)
    assert others == list(range(2, ASKING + 1))


async def test_who_waited_for_a_count_that_failed_gets_its_error() -> None:
    store = Store(SLOW)
    claims = LimitedClaims("jobs", 1000, store.call, store.clock)
    older = Count(0, claims=-1)

    async def claim() -> None:
        async with claims.claiming(older):
            pass

    claiming = [asyncio.create_task(claim()) for _ in range(ASKING)]
    await asyncio.sleep(0.01)
    store.error = StoreUnavailable("counts")
    store.go_on.set()
    assert await asyncio.gather(*claiming, return_exceptions=True) == [store.error] * ASKING
    assert store.calls == 1
