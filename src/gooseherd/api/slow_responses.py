"""Responses that wait for their readers: how many of them one requester may have.

Each holds a connection for as long as its reader likes. Behind a proxy the connections of one client cannot
be counted, only its responses; and of these only the ones that the kernel did not take at once, so that
short ones are neither counted nor refused.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from gooseherd import telemetry
from gooseherd.domain.errors import LimitReached
from gooseherd.domain.job import Requester

_RETRY_AFTER_SECONDS: Final = 5
ADMIN: Final = Requester("")
"""Whose responses are not counted."""


class SlowResponses:
    """Counts them, in this process."""

    def __init__(self, per_requester: int = 512, *, trusted_proxies: int = 0) -> None:
        self.trusted_proxies = trusted_proxies
        self._per_requester = per_requester
        self._counts: Counter[Requester] = Counter()
        self.full: set[Requester] = set()
        """Those who have as many as they may have."""

    def check(self, requester: Requester) -> None:
        """Raises LimitReached: a response that is not taken at once would be one too many."""
        if requester in self.full:
            raise LimitReached(
                "responses that wait for this requester to read them",
                self._per_requester,
                self._counts[requester],
                _RETRY_AFTER_SECONDS,
                unit="concurrent-requests",
            )

    def begin(self, requester: Requester) -> Requester | None:
        """One more of this requester; what to hand to `end`. None: it is one too many, and not counted."""
        if requester == ADMIN:
            return requester
        if requester in self.full:
            return None
        self._counts[requester] += 1
        if self._counts[requester] >= self._per_requester:
            self.full.add(requester)
        telemetry.SLOW_RESPONSES.inc()
        return requester

    def end(self, requester: Requester) -> None:
        """It is over."""
        if requester == ADMIN:
            return
        self.full.discard(requester)
        self._counts[requester] -= 1
        if not self._counts[requester]:
            del self._counts[requester]
        telemetry.SLOW_RESPONSES.dec()
