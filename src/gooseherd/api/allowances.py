"""How often each client may do what costs others something."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gooseherd.domain.errors import LimitReached

_REMEMBERED: Final = 10_000
"""Clients; the one that did it longest ago is forgotten first."""


@dataclass(slots=True)
class _Uses:
    since: float
    count: int = 0


class Allowance:
    """`allowed` uses within a window, which begins with the first; counted by this process."""

    def __init__(
        self, what: str, allowed: int, window_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what = what
        self._allowed = allowed
        self._window_seconds = window_seconds
        self._clock = clock
        self._by_client: OrderedDict[str, _Uses] = OrderedDict()

    def take(self, client: str) -> int:
        """Use it once more; how often that makes it.

        Raises:
            LimitReached: too often; it says when the window ends.
        """
        now = self._clock()
        uses = self._by_client.get(client)
        if uses is None or now - uses.since >= self._window_seconds:
            uses = self._by_client[client] = _Uses(now)
        self._by_client.move_to_end(client)
        if len(self._by_client) > _REMEMBERED:
            self._by_client.popitem(last=False)
        uses.count += 1
        if uses.count > self._allowed:
            left = int(uses.since + self._window_seconds - now) + 1
            raise LimitReached(self._what, self._allowed, uses.count, retry_after_seconds=left)
        return uses.count
