"""Looks again and again, while everything dies, whether the limits hold that all API processes share."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from tests.faults.campaign import stored
from tests.faults.campaign.deployment import FLOOR, MOST_RUNNING
from tests.faults.campaign.threads import thread_of

from gooseherd.domain.errors import GooseherdError
from gooseherd.domain.reservation import Purpose

_PAUSE_SECONDS: Final = 0.5
_SELDOM_SECONDS: Final = 10.0
"""On average there is a look within so long: the store is away for seconds at a time, the machine is busy."""


class LimitWatch:
    """For as long as the block lasts. Its findings are sentences."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._over = threading.Event()
        self._began = 0.0
        self.findings: list[str] = []
        self._thread = thread_of(self.findings, "the watch of limits", self._watch)
        self.looked = 0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(60)
        seconds = time.monotonic() - self._began
        if self._thread.is_alive():
            self.findings.append("the last look at the limits does not end")
        if self.looked * _SELDOM_SECONDS < seconds:
            self.findings.append(f"limits were looked at {self.looked} times in {seconds:.0f} s")

    def _watch(self) -> None:
        while not self._over.wait(_PAUSE_SECONDS):
            try:
                self.findings += exceeded(stored.running(self._url), stored.live_owners(self._url))
            except GooseherdError:
                continue  # The store is away just now.
            self.looked += 1


def exceeded(running: Mapping[str, int], reserved: Iterable[Mapping[str, Any]]) -> list[str]:
    """Requesters with more jobs at work than may be, a floor with too many workers, two sessions of one."""
    found = [
        f"{requester} had {count} jobs at work, {MOST_RUNNING} are allowed"
        for requester, count in running.items()
        if count > MOST_RUNNING
    ]
    live = [(row["purpose"], row["owner"]) for row in reserved]
    floor = sum(purpose == Purpose.FLOOR for purpose, _ in live)
    if floor > FLOOR:
        found.append(f"{floor} workers were kept ready, {FLOOR} are wanted")
    found += [
        f"{owner} had {times} sessions"
        for (purpose, owner), times in Counter(live).items()
        if purpose == Purpose.SESSION and times > 1
    ]
    return found
