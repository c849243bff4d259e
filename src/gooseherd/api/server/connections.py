"""The open connections: how many of one address and in all, and who watches their time limits."""

from __future__ import annotations

import asyncio
from collections import Counter
from enum import Enum, auto
from typing import Final, Protocol

from gooseherd import telemetry
from gooseherd.api.server.limits import ESSENTIAL_CONNECTIONS, HttpLimits
from gooseherd.api.slow_responses import SlowResponses

_SWEEP_SECONDS: Final = 1.0
_SWEEPS_PER_LIMIT: Final = 4
"""A limit is overrun by a quarter at most, by a second where it is long."""


class Admission(Enum):
    """What a new connection may do."""

    OPEN = auto()
    ESSENTIAL = auto()
    """Liveness, readiness, metrics, and whatever carries the admin key."""
    REFUSED = auto()


class Watched(Protocol):
    """A connection as the registry sees it."""

    def enforce(self, now: float) -> None:
        """Let go of what has overrun its time; `now` is the loop's."""

    def let_go(self) -> None:
        """Close it and leave: its place is needed."""


class Connections:
    """Counts connections and asks each of them, once a second or sooner, to keep to its time limits.

    One timer for all: a timer for each request would cost the short ones more than their parsing.
    """

    def __init__(self, limits: HttpLimits, slow_responses: SlowResponses | None = None) -> None:
        self.limits = limits
        self.slow_responses = slow_responses or SlowResponses()
        self._count = 0
        self._networks: Counter[str] = Counter()
        self._watched: set[Watched] = set()
        self._without_request: dict[Watched, None] = {}
        """Those whose next request is not there yet, longest first."""
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, network: str, *, scarce: bool = False) -> Admission:
        """What a new connection from there may do; `scarce`: file descriptors are nearly used up.

        When all places are taken, the connection that has waited longest for a request loses its own:
        clients that mean it send their headers at once.
        """
        most = self.limits.connections_per_network
        if most and self._networks[network] >= most:
            return Admission.REFUSED
        if not scarce and self._count < self.limits.connections:
            return Admission.OPEN
        if self._without_request:
            next(iter(self._without_request)).let_go()
            if self._count < self.limits.connections:
                return Admission.OPEN
        if self._count < self.limits.connections + ESSENTIAL_CONNECTIONS:
            return Admission.ESSENTIAL
        return Admission.REFUSED

    def enter(self, connection: Watched, network: str) -> None:
        """Count an accepted connection, which has no request yet; `leave` takes it out again."""
        self._count += 1
        self._networks[network] += 1
        self._without_request[connection] = None
        telemetry.CONNECTIONS.set(self._count)

    def leave(self, connection: Watched, network: str) -> None:
        """Forget a connection that was entered."""
        self._without_request.pop(connection, None)
        self._count -= 1
        self._networks[network] -= 1
        if not self._networks[network]:
            del self._networks[network]
        telemetry.CONNECTIONS.set(self._count)

    def watch(self, connection: Watched) -> None:
        """Have its time limits enforced."""
        self._watched.add(connection)

    def unwatch(self, connection: Watched) -> None:
        """It is gone."""
        self._watched.discard(connection)

    def awaits_request(self, connection: Watched) -> None:
        """It has nothing to do until the headers of its next request are there."""
        self._without_request[connection] = None

    def has_request(self, connection: Watched) -> None:
        """They are."""
        self._without_request.pop(connection, None)

    def start(self) -> None:
        """Begin to enforce time limits, on the running loop."""
        loop = asyncio.get_running_loop()
        limits = self.limits
        shortest = min(limits.head_seconds, limits.body_seconds, limits.idle_seconds, limits.unread_seconds)
        period = min(_SWEEP_SECONDS, shortest / _SWEEPS_PER_LIMIT)

        def sweep() -> None:
            now = loop.time()
            self._timer = loop.call_later(period, sweep)
            for connection in list(self._watched):
                connection.enforce(now)

        self._timer = loop.call_later(period, sweep)

    def stop(self) -> None:
        """Stop enforcing."""
        if self._timer is not None:
            self._timer.cancel()
