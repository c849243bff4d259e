"""Keys that are none: counted, logged, and refused when an address tries many."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gooseherd.domain.errors import LimitReached
from gooseherd.telemetry import WRONG_KEYS

log = logging.getLogger("gooseherd.audit")

ALLOWED: Final = 10
WINDOW_SECONDS: Final = 60.0
_REMEMBERED: Final = 10_000
"""Addresses; the one that tried longest ago is forgotten first."""


@dataclass(slots=True)
class _Tries:
    since: float
    count: int = 0


class WrongKeys:
    """Tries of the last minute by address. A right key is never refused: nobody can lock the admin out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_address: OrderedDict[str, _Tries] = OrderedDict()

    def note(self, address: str) -> None:
        """A request of `address` had a key that is none.

        Raises:
            LimitReached: one of many within a minute.
        """
        now = self._clock()
        tries = self._by_address.get(address)
        if tries is None or now - tries.since >= WINDOW_SECONDS:
            tries = self._by_address[address] = _Tries(now)
        self._by_address.move_to_end(address)
        if len(self._by_address) > _REMEMBERED:
            self._by_address.popitem(last=False)
        tries.count += 1
        WRONG_KEYS.inc()
        # The first of a minute and the first that is refused: a flood makes two lines.
        if tries.count in (1, ALLOWED + 1):
            extra = {"address": address, "tries": tries.count, "refused": tries.count > ALLOWED}
            log.warning("a key that is none", extra=extra)
        if tries.count > ALLOWED:
            left = int(tries.since + WINDOW_SECONDS - now) + 1
            raise LimitReached("wrong keys within a minute", ALLOWED, tries.count, retry_after_seconds=left)
