"""What is costly to load and never changes: loaded once, whoever asks meanwhile, and kept within a bound."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

V = TypeVar("V")

_LEAST_WEIGHT: Final = 1 << 10
"""Bytes that any value costs, so that many small ones are bounded too."""


class SharedLoads(Generic[V]):
    """Values by key; those that were used longest ago are forgotten first."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[str, tuple[V, int]] = OrderedDict()
        self._bytes = 0
        self._loading: dict[str, asyncio.Task[tuple[V, int]]] = {}

    async def get(self, key: str, load: Callable[[], Awaitable[tuple[V, int]]]) -> V:
        """The value; `load` gives it with the bytes that it takes. What `load` raises is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.ensure_future(load())
            loading.add_done_callback(lambda done: self._loaded(key, done))
        # Whoever asked first may leave; the others still want it.
        return (await asyncio.shield(loading))[0]

    def _loaded(self, key: str, done: asyncio.Task[tuple[V, int]]) -> None:
        self._loading.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        value, size = done.result()
        size = max(size, _LEAST_WEIGHT)
        if size > self._most:
            return
        self._kept[key] = value, size
        self._bytes += size
        while self._bytes > self._most:
            _, (_, freed) = self._kept.popitem(last=False)
            self._bytes -= freed
