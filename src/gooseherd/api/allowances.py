"""How often, how many at a time and how much: what each client may have of what others want, too."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from gooseherd.domain.errors import LimitReached

_REMEMBERED: Final = 10_000
"""Clients; the one that did it longest ago is forgotten first."""

# The fields of draft-ietf-httpapi-ratelimit-headers-10 (RateLimit header fields for HTTP).


def policy_field(name: str, allowed: int, window_seconds: int | None, unit: str) -> tuple[bytes, bytes]:
    """What a client may have: `w`, within so many seconds; `qu`, counted in another unit than requests."""
    window = f";w={window_seconds}" if window_seconds is not None else ""
    of = f';qu="{unit}"' if unit != "request" else ""
    return b"ratelimit-policy", f'"{name}";q={allowed}{window}{of}'.encode("ascii", "replace")


def limit_field(name: str, left: int, seconds: int) -> tuple[bytes, bytes]:
    """What is left of it, and after how many seconds there is more."""
    return b"ratelimit", f'"{name}";r={left};t={seconds}'.encode("ascii", "replace")


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
            raise LimitReached(
                self._what,
                self._allowed,
                uses.count,
                retry_after_seconds=left,
                window_seconds=int(self._window_seconds),
            )
        return uses.count


class Concurrent:
    """How many of one thing each client, and all together, may have at a time; counted by this process."""

    def __init__(
        self,
        what: str,
        *,
        per_requester: int,
        total: int | None = None,
        retry_after_seconds: int = 2,
        on_change: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._what = what
        self._per_requester = per_requester
        self._total = total
        self._retry_after_seconds = retry_after_seconds
        self._on_change = on_change
        self._by_client: Counter[str] = Counter()
        self._count = 0

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Count one more for as long as the block lasts.

        Raises:
            LimitReached: this client has too many, or there are too many in all.
        """
        if self._by_client[client] >= self._per_requester:
            raise self._reached(
                f"{self._what} of this requester", self._per_requester, self._by_client[client]
            )
        if self._total is not None and self._count >= self._total:
            raise self._reached(self._what, self._total, self._count)
        self._by_client[client] += 1
        self._changed(1)
        try:
            yield
        finally:
            self._changed(-1)
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]

    def _changed(self, by: int) -> None:
        self._count += by
        self._on_change(self._count)

    def _reached(self, what: str, allowed: int, current: int) -> LimitReached:
        return LimitReached(what, allowed, current, self._retry_after_seconds, unit="concurrent-requests")


class ByteBudget:
    """Bytes a minute of each client, as a token bucket that holds one minute's; counted by this process.

    Who has tokens left is served to the end of the response, however long; what it takes beyond them is a
    debt, and who is in debt waits until it is paid. So responses are never cut or slowed, and over an hour a
    client gets what it may and the responses that were under way when its tokens ran out.
    """

    _NAME: Final = "bytes within a minute"
    _UNIT: Final = "content-bytes"

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy_field(self._NAME, per_minute, 60, self._UNIT)
        self._per_minute = per_minute
        self._per_second = per_minute / 60
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()
        """By client, when its bucket is full again; who is not here has a full one."""

    def left(self, client: str) -> int:
        """Tokens of this client; below 0: its debt."""
        missing = self._full_at.get(client, 0.0) - self._clock()
        return self._per_minute if missing <= 0 else int(self._per_minute - missing * self._per_second)

    def check(self, client: str) -> int:
        """Tokens of this client.

        Raises:
            LimitReached: none are left; it says when there are some.
        """
        left = self.left(client)
        if left <= 0:
            raise LimitReached(
                self._NAME,
                self._per_minute,
                self._per_minute - left,
                retry_after_seconds=int(-left / self._per_second) + 1,
                window_seconds=60,
                unit=self._UNIT,
            )
        return left

    def fields(self, client: str) -> list[tuple[bytes, bytes]]:
        """The limit and what is left of it, as header fields."""
        left = self.left(client)
        until_full = int((self._per_minute - left) / self._per_second) + 1
        return [self._policy, limit_field(self._NAME, max(left, 0), until_full)]

    def spend(self, client: str, count: int) -> None:
        """So many bytes went out to it."""
        now = self._clock()
        full_at = self._full_at.get(client)
        if full_at is None:
            # Whoever has taken nothing for longest: of all these its bucket is nearest to being full.
            if len(self._full_at) >= _REMEMBERED:
                self._full_at.popitem(last=False)
            full_at = now
        self._full_at[client] = max(full_at, now) + count / self._per_second
        self._full_at.move_to_end(client)


def byte_budget(per_minute: int, clock: Callable[[], float]) -> ByteBudget | None:
    """None: no limit."""
    return ByteBudget(per_minute, clock) if per_minute else None
