"""Reserved workers from settings: the warm floor and sessions."""

from __future__ import annotations

from typing import Final

from gooseherd.control.session_permits import SessionPermits
from gooseherd.control.sessions import Sessions
from gooseherd.control.submission import Submissions
from gooseherd.control.wakeups import Wakeup, Wakeups
from gooseherd.control.warm_floor import FloorWorkers, WarmFloor
from gooseherd.domain.ports.fleet import Fleet, WarmWorkers
from gooseherd.domain.ports.worker import Workers
from gooseherd.settings import Settings
from gooseherd.wiring.store import Store
from gooseherd.worker.settings import build_id

_FLOOR_TICK_SECONDS: Final = 20.0


class Reserving:
    """What the fleet and the dispatcher need of reservations before the loops can be made."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._floor_wakeup, session_wakeup = Wakeup(), Wakeup()
        self._floor_workers = FloorWorkers(store.reservations, build_id(), self._floor_wakeup)
        self.permits = SessionPermits(store.reservations, session_wakeup, build_id())

    @property
    def floor_workers(self) -> WarmWorkers | None:
        """What the fleet may hand out; None: no floor is kept."""
        return self._floor_workers if self._settings.ecs_warm_workers else None

    def sessions(
        self, fleet: Fleet, workers: Workers, submissions: Submissions, wakeups: Wakeups
    ) -> Sessions:
        """Sessions for callers, with the loop that looks after them."""
        return Sessions(
            reservations=self._store.reservations,
            jobs=self._store.jobs,
            fleet=fleet,
            workers=workers,
            submissions=submissions,
            wakeups=wakeups,
            wakeup=self.permits.wakeup,
            most_sessions=self._settings.workflow_max_sessions,
            build=build_id(),
            tick_seconds=self._settings.workflow_tick_seconds,
        )

    def warm_floor(self, fleet: Fleet, workers: Workers, work: Wakeup) -> WarmFloor | None:
        """The loop that holds the floor. Without one too: what an earlier deployment kept is let go.

        None: workers are local.
        """
        if self._settings.ecs_cluster is None:
            return None
        return WarmFloor(
            reservations=self._store.reservations,
            fleet=fleet,
            workers=workers,
            floor_workers=self._floor_workers,
            wakeup=self._floor_wakeup,
            work=work,
            floor=self._settings.ecs_warm_workers,
            max_workers=self._settings.ecs_max_workers,
            build=build_id(),
            tick_seconds=min(_FLOOR_TICK_SECONDS, 4 * self._settings.workflow_tick_seconds),
        )
