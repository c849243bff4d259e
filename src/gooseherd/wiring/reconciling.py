"""The reconciler from settings: as a loop of the service, and alone for a cron."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from gooseherd.control.reconciler import Reconciler, ReconcilerLimits
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.job import JobId
from gooseherd.domain.ports.fleet import Fleet
from gooseherd.domain.ports.reservations import ReservationStore
from gooseherd.domain.ports.store import JobStore
from gooseherd.settings import Settings
from gooseherd.statedir import StateDir
from gooseherd.wiring.fleet import open_fleet
from gooseherd.wiring.store import open_store


def make_reconciler(
    settings: Settings,
    jobs: JobStore,
    fleet: Fleet,
    reservations: ReservationStore,
    *,
    follows: Callable[[JobId], bool] = lambda _: False,
    unowned: Wakeup | None = None,
) -> Reconciler:
    """One with the limits of the settings."""
    lifetime = settings.worker_max_lifetime_seconds
    return Reconciler(
        jobs=jobs,
        fleet=fleet,
        reservations=reservations,
        limits=ReconcilerLimits(
            orphan_grace=timedelta(
                seconds=max(settings.worker_orphan_grace_seconds, 2 * settings.worker_idle_timeout_seconds)
            ),
            max_lifetime=timedelta(seconds=lifetime) if lifetime else None,
        ),
        tick_seconds=settings.workflow_reconcile_seconds,
        follows=follows,
        unowned=unowned,
    )


@asynccontextmanager
async def reconciling(settings: Settings) -> AsyncIterator[Reconciler]:
    """A reconciler that serves nobody and takes no jobs.

    With the store and the fleet elsewhere it may run beside any number of services; what
    lives in the state folder belongs to the service that runs on it.

    Raises:
        Misconfigured: naming the variable; also when a service runs on the state folder.
        StoreUnavailable: the store does not answer.
    """
    async with AsyncExitStack() as stack:
        state = StateDir(settings.gooseherd_state_dir)
        if settings.database_url is None or settings.ecs_cluster is None:
            stack.enter_context(state)
        store = await stack.enter_async_context(open_store(settings))
        fleet, _ = await open_fleet(settings, state)
        stack.push_async_callback(fleet.close)
        yield make_reconciler(settings, store.jobs, fleet, store.reservations)
