"""Looks again and again, while everything dies, whether the limits hold that all API processes share."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import func, select
from tests.faults.campaign import audit
from tests.faults.campaign.deployment import FLOOR, MOST_RUNNING
from tests.faults.campaign.threads import thread_of

from gooseherd.domain.errors import GooseherdError
from gooseherd.domain.reservation import Purpose
from gooseherd.domain.states import Status
from gooseherd.store.sql.schema import jobs, reservations

_PAUSE_SECONDS: Final = 0.5
_SELDOM_SECONDS: Final = 10.0
"""On average there is a look within so long: the store is away for seconds at a time, the machine is busy."""
_RUNNING: Final = (
    select(jobs.c.queued_for, func.count().label("running"))
    .where(jobs.c.status.in_([Status.RUNNING.value, Status.FINALIZING.value]), jobs.c.session_id.is_(None))
    .group_by(jobs.c.queued_for)
)
_RESERVED: Final = select(reservations.c.purpose, reservations.c.owner).where(reservations.c.live)


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
                running, reserved = audit.stored(self._url, _RUNNING), audit.stored(self._url, _RESERVED)
                self.findings += exceeded(running, reserved)
            except GooseherdError:
                continue  # The store is away just now.
            self.looked += 1


def exceeded(running: Iterable[Mapping[str, Any]], reserved: Iterable[Mapping[str, Any]]) -> list[str]:
    """Requesters with more jobs at work than may be, a floor with too many workers, two sessions of one."""
    found = [
        f"{row['queued_for']} had {row['running']} jobs at work, {MOST_RUNNING} are allowed"
        for row in running
        if row["running"] > MOST_RUNNING
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
