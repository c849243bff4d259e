"""Keys that are none: counted, logged, and refused when an address tries many."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from gooseherd.api.allowances import Allowance
from gooseherd.domain.errors import LimitReached
from gooseherd.telemetry import WRONG_KEYS

log = logging.getLogger("gooseherd.audit")

ALLOWED: Final = 10
WINDOW_SECONDS: Final = 60.0


class WrongKeys:
    """Tries of the last minute by address. A right key is never refused: nobody can lock the admin out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowance = Allowance("wrong keys within a minute", ALLOWED, WINDOW_SECONDS, clock)

    def note(self, address: str) -> None:
        """A request of `address` had a key that is none.

        Raises:
            LimitReached: one of many within a minute.
        """
        WRONG_KEYS.inc()
        # The first of a minute and the first that is refused: a flood makes two lines.
        try:
            if self._allowance.take(address) == 1:
                log.warning("a key that is none", extra={"address": address, "tries": 1, "refused": False})
        except LimitReached as refused:
            if refused.current == ALLOWED + 1:
                extra = {"address": address, "tries": refused.current, "refused": True}
                log.warning("a key that is none", extra=extra)
            raise
