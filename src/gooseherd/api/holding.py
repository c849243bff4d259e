"""Requests that wait for bytes: whose are held, for how long, and where they go on.

A viewer takes any 2xx as the file, and gives a file up after an error. So its request for a file that is
still being made is held, then redirected to itself (307), some twenty times, before it is refused.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from enum import Enum
from typing import Final

from gooseherd import telemetry
from gooseherd.api.allowances import Concurrent
from gooseherd.domain.job import Requester

SHORT_HOLDS: Final = (2.0, 2.0, 2.0, 5.0, 5.0, 10.0, 10.0)
"""Seconds of a browser's first holds. Without HTTP/2 it has six connections to a host: each must come free
soon, for the requests behind it may be for files that are ready, or for the jobs that make the others."""
HOPS: Final = 19
"""Redirects of one request. Chromium and Firefox follow 20, curl 30, IGV desktop 5."""
RETRY_SECONDS: Final = 5.0
"""Longest hold where no job can be had yet, because the store does not answer or the queue is full."""

_VIEWERS_MODES: Final = frozenset({b"cors", b"same-origin", b"no-cors"})
_HOP: Final = re.compile(rb"(?:^|(?<=&))hop=[^&]*(?:&|$)")


class Client(Enum):
    """Who asks for a file, as far as what to answer before it is ready depends on it."""

    VIEWER = "viewer"
    """Code in a page, mostly a genome browser's; it reads a 202 as the file."""
    NAVIGATION = "navigation"
    """A person who opens the address in a browser."""
    PROGRAM = "program"
    """All others: they look at the status."""


def client_of(headers: Mapping[bytes, bytes]) -> Client:
    """Who sent these request headers.

    Browsers send Sec-Fetch-* (W3C Fetch Metadata) over https and on loopback; elsewhere the Origin of the
    page tells, or what browsers call themselves.
    """
    mode = headers.get(b"sec-fetch-mode")
    if mode is not None:
        if mode == b"navigate":
            return Client.NAVIGATION
        return Client.VIEWER if mode in _VIEWERS_MODES else Client.PROGRAM
    if b"origin" in headers:
        return Client.VIEWER
    if headers.get(b"user-agent", b"").startswith(b"Mozilla/"):
        # fetch() and XMLHttpRequest accept */*; Java's default has text/html too, but no such name.
        opened = headers.get(b"accept", b"").startswith(b"text/html")
        return Client.NAVIGATION if opened else Client.VIEWER
    return Client.PROGRAM


def hold_seconds(hop: int, longest: float, *, browser: bool) -> float | None:
    """How long the request may be held after `hop` redirects; None: it has had all of them."""
    if hop > HOPS:
        return None
    if browser and hop < len(SHORT_HOLDS):
        return min(SHORT_HOLDS[hop], longest)
    return longest


def next_query(query: bytes, hop: int) -> str:
    """The query of the redirect after `hop` of them; all that is not the hop stays as it was sent."""
    rest = _HOP.sub(b"", query).rstrip(b"&").decode("latin-1")
    return f"{rest}&hop={hop + 1}" if rest else f"hop={hop + 1}"


class Holds:
    """The requests that are held now, bounded for each requester and in all."""

    def __init__(self, *, per_requester: int, total: int) -> None:
        held = telemetry.REQUESTS_HELD.set
        self._held = Concurrent("held requests", per_requester=per_requester, total=total, on_change=held)
        self._stopping: asyncio.Future[None] | None = None
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """The service is going: nobody is held any more."""
        return self._stopped

    def stop(self) -> None:
        """End every hold now, and each later one at once."""
        self._stopped = True
        if self._stopping is not None and not self._stopping.done():
            self._stopping.set_result(None)

    @property
    def stopping(self) -> asyncio.Future[None]:
        """Done when the holds have to end."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_future()
            if self._stopped:
                self._stopping.set_result(None)
        return self._stopping

    def place(self, requester: Requester) -> AbstractContextManager[None]:
        """Count one more held request for as long as the block lasts.

        Raises:
            LimitReached: this requester has too many, or there are too many in all.
        """
        return self._held.place(requester)
