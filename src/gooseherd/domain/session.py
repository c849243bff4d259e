"""A worker kept for one requester: what becomes of it, and of the jobs that run on it; pure.

| session | what is seen | decision |
| --- | --- | --- |
| reserving, starting | nobody has looked after its launch for a minute | end it: reconcile_stale |
| ready | its worker has ended, for the first time | launch another, once |
| ready | of an earlier deployment's build, and nothing in flight | replace its worker by one of this build |
| ready | of a later deployment's build, whose processes speak to it | judged as any, and left to them |
| ready | the same, seen silent for three minutes, and still a minute later, and idle | replaced, too |
| ready | its worker has ended again | end it: worker_missing |
| ready | its worker is unhealthy, and nothing is in flight | end it: worker_unhealthy |
| ready | its worker is not seen, and silent for longer than it lives by itself | end it: reconcile_stale |
| ready | older than its maximum age, or than a day | end it: reconcile_stale |
| ready | nothing in flight and nothing waits, for its idle time | end it: idle_timeout |
| ready | nothing in flight and nothing waits, from now on | note since when |
| ready | noted as idle, and something is in flight or waits | note that it is not |
| ready | its worker is not a later build's, and has not been spoken to for a while | speak to it |
| ending | something in flight on its worker | left alone: it goes on to its end |
| ending | nothing in flight, or its worker has ended | stop its worker, then ended |

A session that was just made is not judged: each row demands that something is known of it. Not seeing a
worker is not its end. Only processes of a worker's build use it: when the later deployment has been taken
back, nobody speaks to its workers, and that is how those that stay know. That somebody spoke is written in
the store: while the store was away nobody could, so silence counts only when it was seen for a while. What an
attempt's end means for the session is in `_TRIES` below.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from gooseherd.domain.failures import Reason, Retry
from gooseherd.domain.failures import next_try as next_ordinary_try
from gooseherd.domain.job import Requester, WorkerId
from gooseherd.domain.ports.fleet import WorkerHealth, WorkerView
from gooseherd.domain.reservation import EndReason, Purpose, Reservation, ReservationId, ReservationState
from gooseherd.domain.warm_floor import (
    SPEAK_SECONDS,
    EndReservation,
    FinishEnding,
    ReplaceWorker,
    SpeakTo,
    if_dead,
)

OLDEST: Final = timedelta(hours=24)
"""No session lives longer, whatever it asked for."""

_LEFT_SECONDS: Final = 3 * SPEAK_SECONDS
"""A later build's worker that is silent for so long has no processes any more that would use it."""

MOST_LOST: Final = 1
"""Workers that are replaced when they end by themselves."""

_TRIES: Final[Mapping[Reason, int]] = {
    # The source or the tool: the session is kept, the same again would end the same way.
    Reason.TOOL_FAILED: 1,
    # What may pass: the session is kept, and the job is tried once more.
    Reason.SOURCE_UNAVAILABLE: 2,
    Reason.STORE_UNAVAILABLE: 2,
    Reason.WORKER_DRAINED: 2,
}
"""How often attempts on a session's worker may end so, where that is less than elsewhere (failures.RETRY).

Of a worker that does not answer while its task runs the session is kept, and the job goes back into the
queue; of one whose task is gone the worker is replaced once, then the session ends. Out of memory or disk the
job goes on with a larger worker outside of the session, which is kept.
"""

OUTSIDE: Final = frozenset({Reason.OUT_OF_MEMORY, Reason.OUT_OF_DISK})
"""Jobs one of whose attempts ended so do not run in a session any more: its worker has the size it has."""

LIVE: Final = frozenset({ReservationState.RESERVING, ReservationState.STARTING, ReservationState.READY})
"""States in which the jobs of its owner are kept for it."""


@dataclass(frozen=True, slots=True)
class SessionsSnapshot:
    """What one process sees."""

    now: datetime
    sessions: Sequence[Reservation]
    """Not ended."""
    in_flight: Mapping[str, Collection[WorkerId | None]]
    """By session: the workers of its jobs at work; None: not assigned yet."""
    waiting: Collection[Requester] = ()
    """Who has jobs that wait, other than for a larger worker than the session's."""
    workers: Sequence[WorkerView] = ()
    build: str = ""
    """Of this process; empty: builds are not looked at."""
    deployed_at: datetime | None = None
    """When this process started, by the store's clock."""
    silent_since: Mapping[ReservationId, datetime] = field(default_factory=dict)
    """As `still_silent` gives it."""


@dataclass(frozen=True, slots=True)
class ReplaceLostWorker:
    """Its worker has ended by itself: launch another in its place."""

    seen: Reservation
    detail: str


@dataclass(frozen=True, slots=True)
class NoteIdle:
    """From now on nothing is in flight."""

    seen: Reservation


@dataclass(frozen=True, slots=True)
class NoteBusy:
    """It was idle, and is not now: what it was idle before does not count after its next end of work."""

    seen: Reservation


SessionAction = (
    EndReservation | ReplaceLostWorker | ReplaceWorker | FinishEnding | SpeakTo | NoteIdle | NoteBusy
)


def still_silent(
    sessions: Sequence[Reservation], now: datetime, before: Mapping[ReservationId, datetime]
) -> Mapping[ReservationId, datetime]:
    """Since when each session that nobody has spoken to for long was seen to be so; `before`: a pass earlier.

    `before` is empty for the first pass, and for one after a pass that saw nothing.
    """
    silent: dict[ReservationId, datetime] = {}
    for session in sessions:
        spoken_to_at = _spoken_to_at(session)
        if (now - spoken_to_at).total_seconds() > _LEFT_SECONDS:
            since = before.get(session.reservation_id, now)
            silent[session.reservation_id] = since if since > spoken_to_at else now
    return silent


def _spoken_to_at(session: Reservation) -> datetime:
    return session.kept_at or session.created_at


def plan(seen: SessionsSnapshot) -> list[SessionAction]:
    """The table above."""
    workers = {worker.worker_id: worker for worker in seen.workers}
    actions = []
    for session in seen.sessions:
        if session.purpose is Purpose.SESSION and session.live:
            worker = workers.get(session.worker_id) if session.worker_id is not None else None
            action = _for(session, worker, seen)
            if action is not None:
                actions.append(action)
    return actions


def _for(session: Reservation, worker: WorkerView | None, seen: SessionsSnapshot) -> SessionAction | None:
    # Another worker's job is not in flight here: it was leased for the session as the session ended.
    busy = any(
        name is None or name == session.worker_id for name in seen.in_flight.get(session.reservation_id, ())
    )
    gone = worker is not None and worker.health is WorkerHealth.GONE
    if session.state is ReservationState.ENDING:
        launch = replace(session, state=ReservationState.STARTING)
        launching = session.worker_id is None and if_dead(launch, None, seen.now) is None
        return None if (busy and not gone) or launching else FinishEnding(session)
    if gone and session.lost < MOST_LOST:
        assert worker is not None
        return ReplaceLostWorker(session, worker.detail)
    dead = if_dead(session, worker, seen.now)
    if dead is not None and not (busy and dead.reason is EndReason.WORKER_UNHEALTHY):
        return dead
    if session.state is not ReservationState.READY:
        return None
    silent = (seen.now - _spoken_to_at(session)).total_seconds()
    later = False
    if seen.build and seen.deployed_at is not None and session.build != seen.build:
        later = session.deployed_at >= seen.deployed_at
        if not busy and not later:
            return ReplaceWorker(session, f"another build is deployed: {seen.build}")
        seen_silent = seen.now - seen.silent_since.get(session.reservation_id, seen.now)
        if not busy and silent > _LEFT_SECONDS and seen_silent.total_seconds() >= SPEAK_SECONDS:
            return ReplaceWorker(session, f"no process of its build spoke to it for {silent:.0f} seconds")
    age = seen.now - session.created_at
    if age > OLDEST or (session.max_age_seconds and age.total_seconds() > session.max_age_seconds):
        return EndReservation(
            session, EndReason.RECONCILE_STALE, f"it is {age.total_seconds():.0f} seconds old"
        )
    if busy or session.owner in seen.waiting:
        if session.idle_since is not None:
            return NoteBusy(session)
    else:
        if session.idle_since is None:
            return NoteIdle(session)
        idle = (seen.now - session.idle_since).total_seconds()
        if session.idle_seconds and idle >= session.idle_seconds:
            return EndReservation(
                session, EndReason.IDLE_TIMEOUT, f"nothing was in flight for {idle:.0f} seconds"
            )
    return SpeakTo(session) if silent >= SPEAK_SECONDS and not later else None


_SOON: Final = timedelta(seconds=2)
"""Until a session's worker that does not answer is found to be gone, and then the job waits for the next."""


def next_try(reason: Reason, ended_so: int, scale: float = 1.0, *, of_host: int = 0) -> Retry | None:
    """As failures.next_try, for a job on a session's worker."""
    if reason in (Reason.NO_CAPACITY, Reason.LAUNCH_FAILED):
        return Retry(_SOON * scale)
    if reason in _TRIES and ended_so >= _TRIES[reason]:
        return None
    return next_ordinary_try(reason, ended_so, scale, of_host=of_host)
