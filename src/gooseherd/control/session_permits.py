"""Which jobs go to which session's worker: one job at a time for each session, under its permit.

The permit itself is the store's (JobStore.lease): a leased job has it exactly as long as it is leased.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.job import Job, Requester, WorkerId
from gooseherd.domain.ports.reservations import ReservationStore
from gooseherd.domain.ports.store import STORE_AWAY
from gooseherd.domain.reservation import Purpose, Reservation, ReservationId, ReservationState
from gooseherd.domain.session import LIVE, OUTSIDE

LOOK_AHEAD: Final = 32
"""Of an owner's due jobs, so many are looked at for the next one that runs on the session's worker."""

_TRIES: Final = 2
"""Writes that somebody else came before."""


@dataclass(frozen=True, slots=True)
class SessionSeat:
    """A live session, as the dispatcher sees it; not `ready`, it keeps its owner's jobs waiting."""

    session_id: str
    ready: bool


def runs_outside(job: Job) -> bool:
    """Whether it needs a larger worker than a session's, as one of its attempts has shown."""
    return any(attempt.reason in OUTSIDE for attempt in job.attempts)


class SessionPermits:
    """Reads sessions for those who dispatch and assign; `wakeup` is that of the sessions' loop.

    A worker of another `build` is not used: at a deployment the new processes replace it, or use theirs.
    """

    def __init__(self, reservations: ReservationStore, wakeup: Wakeup, build: str) -> None:
        self._reservations = reservations
        self.wakeup = wakeup
        self._build = build

    async def seats(self) -> Mapping[Requester, SessionSeat]:
        """Live sessions by owner. Raises StoreUnavailable."""
        return {
            one.owner: SessionSeat(one.reservation_id, self._usable(one))
            for one in await self._reservations.live()
            if one.purpose is Purpose.SESSION and one.state in LIVE
        }

    async def use(self, session_id: str) -> bool:
        """Before a job is leased for it: it is not idle from now on.

        Always a write: whoever looked at the session before, and did not see the job, can no longer change it
        by what they saw.

        False: it takes no jobs, or others write to it all the time; look again.
        """
        for _ in range(_TRIES):
            session = await self.ready(session_id)
            if session is None:
                return False
            if await self._reservations.change(session, replace(session, idle_since=None)) is not None:
                return True
        return False

    async def ready(self, session_id: str) -> Reservation | None:
        """The session, if it takes jobs now. Raises StoreUnavailable."""
        session = await self._reservations.get(ReservationId(session_id))
        return session if session is not None and self._usable(session) else None

    def _usable(self, session: Reservation) -> bool:
        return session.state is ReservationState.READY and session.build == self._build

    async def has_worker(self, session_id: str, worker_id: WorkerId) -> bool:
        """Whether that is the session's worker, to be left to it; in doubt it is."""
        try:
            session = await self._reservations.get(ReservationId(session_id))
        except STORE_AWAY:
            return True
        return session is not None and session.worker_id == worker_id
