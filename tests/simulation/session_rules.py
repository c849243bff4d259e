"""What must hold of sessions after each write, however jobs, workers and processes end."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from tests.simulation.store import virtual_now

from gooseherd.domain.reservation import EDGES, EndReason, ReservationState
from gooseherd.domain.session import MOST_LOST

if TYPE_CHECKING:
    from tests.simulation.world import Seen

_LOOK: Final = "SELECT id, version, state, details FROM reservations WHERE purpose = 'session'"


@dataclass(frozen=True, slots=True)
class SeenSession:
    """Of a session's row, what is looked at after each write."""

    session_id: str
    version: int
    state: ReservationState
    worker: str | None
    launches: int
    lost: int
    idle_seconds: float
    idle_since: int | None
    reason: str | None


class SessionRules:
    """Remembers the sessions as they were, and when each had work last; tells what must not be."""

    def __init__(
        self, violated: Callable[[str], None], trace: Callable[[str], None], deployments: int
    ) -> None:
        self._violated, self._trace = violated, trace
        # On, back, and on again when the later build was only held up.
        self._most_launches = 1 + MOST_LOST + 3 * deployments
        self._sessions: dict[str, SeenSession] = {}
        self._worked_at: dict[tuple[str, str | None], datetime] = {}
        """By session and worker; None: of jobs whose worker was not assigned."""

    def look(self, driver: sqlite3.Connection, before: Mapping[str, Seen], now: Mapping[str, Seen]) -> None:
        """At the jobs as they were before the write, and at all as they are now."""
        in_flight = Counter(row.in_flight for row in now.values() if row.in_flight is not None)
        for session_id, jobs in in_flight.items():
            if jobs > 1:
                self._violated(f"{jobs} jobs are leased for session {session_id}")
        for row in (*before.values(), *now.values()):
            if row.in_flight is not None:
                self._worked_at[row.in_flight, row.worker] = virtual_now()
        for session_id, version, state, details in driver.execute(_LOOK).fetchall():
            known = self._sessions.get(session_id)
            if known is not None and known.version == version:
                continue
            session = _session(session_id, version, state, details)
            self._sessions[session_id] = session
            self._trace(str(session))
            self._compare(known, session)

    def _compare(self, before: SeenSession | None, now: SeenSession) -> None:
        name = f"session {now.session_id}"
        if now.lost > MOST_LOST or now.launches > self._most_launches:
            self._violated(f"{name} has had {now.launches} workers, and {now.lost} were lost")
        ended_before = before is not None and before.reason is not None
        if before is not None and before.reason is not None and now.reason != before.reason:
            self._violated(f"{name} ended with {before.reason}, and now with {now.reason}")
        if before is not None and now.state is not before.state and (before.state, now.state) not in EDGES:
            self._violated(f"{name} went from {before.state} to {now.state}")
        if now.reason == EndReason.IDLE_TIMEOUT and not ended_before:
            for worker in (None, now.worker):
                worked_at = self._worked_at.get((now.session_id, worker))
                idle = None if worked_at is None else (virtual_now() - worked_at).total_seconds()
                if idle is not None and idle < now.idle_seconds:
                    self._violated(
                        f"{name} ended as idle {idle:.1f} s after its last work, not {now.idle_seconds:.0f} s"
                    )


def _session(session_id: str, version: int, state: str, details: str) -> SeenSession:
    known = json.loads(details)
    names = ("launches", "lost", "idle_seconds", "idle_since", "reason")
    return SeenSession(
        session_id, version, ReservationState(state), known["worker_id"], *(known[name] for name in names)
    )
