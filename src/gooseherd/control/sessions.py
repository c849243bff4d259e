"""Sessions: a worker kept for one requester, from the request to its end; decided in domain/session.py."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from gooseherd.control.loop import Loop
from gooseherd.control.reserved_workers import ReservedWorkers
from gooseherd.control.session_permits import LOOK_AHEAD, runs_outside
from gooseherd.control.submission import Submissions
from gooseherd.control.wakeups import Wakeup, Wakeups
from gooseherd.domain.errors import LimitReached, NotFound
from gooseherd.domain.job import Job, Requester, WorkerId
from gooseherd.domain.ports.fleet import Fleet, WorkerHealth, WorkerView
from gooseherd.domain.ports.reservations import ReservationStore
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.ports.worker import Workers
from gooseherd.domain.queueing import Priority
from gooseherd.domain.reservation import (
    EndReason,
    Purpose,
    Reservation,
    ReservationId,
    ReservationState,
    ReservedSize,
)
from gooseherd.domain.session import (
    NoteBusy,
    NoteIdle,
    ReplaceLostWorker,
    SessionAction,
    SessionsSnapshot,
    plan,
    still_silent,
)
from gooseherd.domain.source import SourceFile
from gooseherd.domain.visibility import PUBLIC_ONLY, Visibility
from gooseherd.domain.warm_floor import EndReservation, FinishEnding, ReplaceWorker, SpeakTo
from gooseherd.telemetry import RESERVATIONS

_log = logging.getLogger(__name__)

_GONE_SECONDS: Final = 1.0
"""How long the certain end of a worker that is not seen is waited for, in each pass."""
_REMEMBERED: Final = timedelta(days=1)
"""How long an ended session can still be looked at."""


@dataclass(frozen=True, slots=True)
class WantedSession:
    """What is asked for; times in seconds."""

    owner: Requester
    size: ReservedSize
    idle_seconds: float
    max_age_seconds: float


class Sessions:
    """Those of all API processes over one store; any number may run the loop."""

    def __init__(
        self,
        *,
        reservations: ReservationStore,
        jobs: JobStore,
        fleet: Fleet,
        workers: Workers,
        submissions: Submissions,
        wakeups: Wakeups,
        wakeup: Wakeup,
        most_sessions: int,
        build: str,
        tick_seconds: float,
        new_id: Callable[[], ReservationId] = lambda: ReservationId(uuid.uuid4().hex),
    ) -> None:
        self._new_id = new_id
        self._reservations = reservations
        self._jobs = jobs
        self._fleet = fleet
        self._submissions = submissions
        self._wakeups = wakeups
        self._wakeup = wakeup
        self._most_sessions = most_sessions
        self._build = build
        self._deployed_at: datetime | None = None
        self._silent: Mapping[ReservationId, datetime] = {}
        """What the last pass saw, unless it saw nothing."""
        self._reserved = ReservedWorkers(
            reservations=reservations, fleet=fleet, workers=workers, changed=self._changed
        )
        self.loop: Loop[SessionsSnapshot, SessionAction] = Loop(
            "sessions",
            observe=self._observe,
            plan=plan,
            act=self._act,
            wakeup=wakeup,
            tick_seconds=tick_seconds,
        )

    # -- for callers ---------------------------------------------------------------------------

    async def open(self, wanted: WantedSession) -> tuple[Reservation, bool]:
        """The owner's live session, or a new one, in one write; whether it is new. Its worker comes later.

        Raises:
            LimitReached: there are as many sessions as may be, or the owner's budget is used up.
            StoreUnavailable: whether there is one now is not known; asked again it is found.
        """
        if self._submissions.budgets is not None:
            await self._submissions.budgets.check(wanted.owner)
        now = await self._reservations.now()
        await self._reservations.forget(now - _REMEMBERED)
        session = Reservation(
            self._new_id(),
            Purpose.SESSION,
            wanted.owner,
            0,
            ReservationState.RESERVING,
            self._build,
            deployed_at=self._deployed_at or now,
            created_at=now,
            changed_at=now,
            size=wanted.size,
            idle_seconds=wanted.idle_seconds,
            max_age_seconds=wanted.max_age_seconds,
        )
        made = await self._reservations.reserve(session, self._most_sessions)
        if made is None:
            raise LimitReached("sessions", self._most_sessions, self._most_sessions)
        if made.reservation_id != session.reservation_id:
            return made, False
        return await self._reserved.launch(made) or made, True

    async def session(self, session_id: ReservationId) -> Reservation:
        """Raises NotFound."""
        session = await self._reservations.get(session_id)
        if session is None or session.purpose is not Purpose.SESSION:
            raise NotFound("session", session_id)
        return session

    async def sessions(self, *, ended: bool = False) -> Sequence[Reservation]:
        """Live ones, oldest first; with `ended` those of the last day too."""
        since = await self._reservations.now() - _REMEMBERED if ended else None
        return [one for one in await self._reservations.live(since) if one.purpose is Purpose.SESSION]

    async def end(self, session_id: ReservationId) -> Reservation:
        """It takes no more jobs; what is in flight goes on, then its worker is stopped.

        Again changes nothing.

        Raises:
            NotFound: no such session.
        """
        session = await self.session(session_id)
        ending = await self._reserved.end(session, EndReason.EXPLICIT, "it was asked for", insist=True)
        return ending or await self.session(session_id)

    async def dispatch(
        self,
        session_id: ReservationId,
        entry: SourceFile,
        described: Callable[[SourceFile], Awaitable[SourceFile]],
        visible: Visibility = PUBLIC_ONLY,
    ) -> Job | None:
        """Ask for a file in the name of the session's owner: it runs on the session's worker, in its turn.

        None: there is nothing to do, its bytes can be read. `described` is as Submissions.unmade takes it,
        `visible` as Submissions.submit does.

        Raises:
            NotFound: no such session, or it takes no more jobs.
            UnsupportedFormat, AlreadyFailed, LimitReached: as Submissions.submit.
        """
        session = await self.session(session_id)
        if session.state not in (
            ReservationState.RESERVING,
            ReservationState.STARTING,
            ReservationState.READY,
        ):
            raise NotFound("live session", session_id)
        wanted = await self._submissions.unmade(entry, described)
        if wanted is None:
            return None
        claim = await self._submissions.submit(
            *wanted, requester=session.owner, priority=Priority.INTERACTIVE, visible=visible
        )
        return claim.job

    async def close(self) -> None:
        """Give up what is being launched: these sessions end. Those that are ready stay."""
        await self._reserved.close()

    def _changed(self, session: Reservation) -> None:
        # Its owner's jobs go to its worker now, or to any.
        self._wakeups.work.notify()
        self._wakeup.notify()

    # -- the loop ------------------------------------------------------------------------------

    async def _observe(self) -> SessionsSnapshot:
        silent_before, self._silent = self._silent, {}
        every = await self._reservations.live()
        sessions = [one for one in every if one.purpose is Purpose.SESSION]
        now = await self._reservations.now()
        self._deployed_at = self._deployed_at or now
        for state in ReservationState:
            if state is not ReservationState.ENDED:
                RESERVATIONS.labels(Purpose.SESSION, state).set(sum(one.state is state for one in sessions))
        if not sessions:
            return SessionsSnapshot(now, (), {})
        named = [one.worker_id for one in sessions if one.worker_id is not None]
        workers = await self._workers_of(named)
        # In the order in which jobs go: whichever is leased between the reads is in both, and not in neither.
        # One that comes and is leased after them has changed its session (SessionPermits.use).
        waiting = await self._waiting({one.owner for one in sessions})
        in_flight: defaultdict[str, list[WorkerId | None]] = defaultdict(list)
        for job in await self._jobs.at_work():
            if job.session_id is not None:
                in_flight[job.session_id].append(job.worker_id)
        self._silent = still_silent(sessions, now, silent_before)
        return SessionsSnapshot(
            now, sessions, in_flight, waiting, workers, self._build, self._deployed_at, self._silent
        )

    async def _waiting(self, owners: Collection[Requester]) -> Collection[Requester]:
        """Those of them who have jobs that wait for the session's worker.

        What needs a larger one waits for another, and it may be the end of the session that makes room.
        """
        waiting = set()
        for owner in owners:
            if pending := await self._jobs.queued_for(owner, LOOK_AHEAD):
                outside = sum(map(runs_outside, await self._jobs.due_for(owner, LOOK_AHEAD)))
                if outside < pending:
                    waiting.add(owner)
        return waiting

    async def _workers_of(self, named: Sequence[WorkerId]) -> Sequence[WorkerView]:
        """How they are; one that the fleet does not show may have ended so long ago that it is forgotten."""
        if not named:
            return ()
        workers = list(await self._fleet.survey(named))
        for worker_id in set(named) - {worker.worker_id for worker in workers}:
            with suppress(TimeoutError):
                async with asyncio.timeout(_GONE_SECONDS):
                    how = await self._fleet.gone(worker_id)
                    workers.append(WorkerView(worker_id, WorkerHealth.GONE, 0.0, detail=how))
        return workers

    async def _act(self, action: SessionAction) -> None:
        match action:
            case EndReservation(seen, reason, detail):
                await self._reserved.end(seen, reason, detail)
            case ReplaceWorker(seen, detail):
                await self._reserved.launch(
                    seen, replaces=detail, build=self._build, deployed_at=self._deployed_at
                )
            case ReplaceLostWorker(seen, detail):
                _log.warning(
                    "the worker of a session is gone, another is launched",
                    extra={"session": seen.reservation_id, "worker": seen.worker_id, "how": detail},
                )
                await self._reserved.launch(
                    seen, lost=seen.lost + 1, build=self._build, deployed_at=self._deployed_at
                )
            case FinishEnding(seen):
                await self._reserved.finish(seen, await self._fleet.view())
            case SpeakTo(seen):
                await self._reserved.speak_to(seen)
            case NoteIdle(seen):
                now = await self._reservations.now()
                await self._reservations.change(seen, replace(seen, idle_since=now))
            case NoteBusy(seen):
                await self._reservations.change(seen, replace(seen, idle_since=None))
