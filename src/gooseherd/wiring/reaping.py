"""What follows jobs and ends those that nobody owns, from settings: of the service, and alone for a cron."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from gooseherd.control.executions import Executions
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.limits import AttemptBounds, Timing
from gooseherd.control.loop import PassReport
from gooseherd.control.manifest_verification import DIGESTED_BYTES, Digests
from gooseherd.control.reaper import Action, Reaper, ReaperLimits
from gooseherd.control.session_permits import SessionPermits
from gooseherd.control.wakeups import Wakeups
from gooseherd.domain.errors import ProcessingDisabled
from gooseherd.domain.job import Owner
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.ports.credentials import SourceAccessIssuer
from gooseherd.domain.ports.fleet import Fleet
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.ports.worker import Workers
from gooseherd.settings import Settings
from gooseherd.statedir import StateDir
from gooseherd.wiring.artifacts import open_cache, open_issuer
from gooseherd.wiring.fleet import open_fleet, outbound_rules
from gooseherd.wiring.private_sources import AttemptAccess, source_access
from gooseherd.wiring.reservations import Reserving
from gooseherd.wiring.store import open_store
from gooseherd.worker.settings import build_id


def make_executions(
    settings: Settings,
    *,
    jobs: JobStore,
    fleet: Fleet,
    workers: Workers,
    cache: CacheBackend,
    finalizers: Finalizers,
    wakeups: Wakeups,
    owner: Owner,
    permits: SessionPermits | None,
    access: SourceAccessIssuer | None = None,
) -> Executions:
    """With the times and bounds of the settings."""
    return Executions(
        jobs=jobs,
        fleet=fleet,
        workers=workers,
        cache=cache,
        finalizers=finalizers,
        wakeups=wakeups,
        owner=owner,
        timing=_timing(settings),
        bounds=AttemptBounds(settings.source_max_bytes, settings.worker_scratch_bytes, build_id()),
        permits=permits,
        issuer=open_issuer(settings),
        source_access=access,
        digests=Digests(_digested_bytes(settings)),
    )


def make_reaper(
    settings: Settings, jobs: JobStore, executions: Executions, finalizers: Finalizers, wakeups: Wakeups
) -> Reaper:
    """With the limits of the settings."""
    return Reaper(
        jobs=jobs,
        executions=executions,
        finalizers=finalizers,
        wakeups=wakeups,
        limits=ReaperLimits(
            finalize_grace=timedelta(seconds=settings.workflow_finalize_grace_seconds),
            hard_ceiling=timedelta(seconds=settings.workflow_hard_ceiling_seconds),
            queue_ttl=timedelta(seconds=settings.workflow_queue_ttl_seconds),
        ),
        tick_seconds=settings.workflow_tick_seconds,
    )


def _digested_bytes(settings: Settings) -> int | None:
    """Up to which size parts are read before they are published; None: all."""
    chosen = settings.workflow_digest_max_bytes
    if chosen is not None:
        return chosen
    # Workers with more rights than for their own artifact could do worse than name a wrong digest.
    return None if settings.workflow_s3_attempt_role is not None else DIGESTED_BYTES


def _timing(settings: Settings) -> Timing:
    return Timing(
        lease=timedelta(seconds=settings.workflow_stale_seconds),
        heartbeat=timedelta(seconds=settings.workflow_heartbeat_seconds),
        attempt_cap=timedelta(seconds=settings.workflow_duration_cap_seconds),
        silence=timedelta(seconds=settings.worker_silence_seconds),
        backoff_scale=settings.workflow_backoff_scale,
    )


class LoneReaper:
    """A reaper without a service: what it adopts it follows for a while, and hands over."""

    def __init__(self, reaper: Reaper, executions: Executions, wait_seconds: float) -> None:
        self._reaper = reaper
        self._executions = executions
        self._wait_seconds = wait_seconds

    async def run_once(self, *, dry_run: bool = False) -> PassReport[Action]:
        """One pass, and then up to `wait_seconds` for the jobs it adopted to come to their next state."""
        report = await self._reaper.run_once(dry_run=dry_run)
        await self._executions.wait(self._wait_seconds)
        return report


@asynccontextmanager
async def reaping(settings: Settings, *, wait_seconds: float) -> AsyncIterator[LoneReaper]:
    """A reaper that serves nobody and leases nothing that waits.

    At the end the attempts that still run go on, and their leases are handed over to whoever comes next.

    Raises:
        Misconfigured: naming the variable; also when a service runs on the state folder.
        ProcessingDisabled: there is no place for artifacts, so there are no jobs.
        StoreUnavailable: the store does not answer.
    """
    async with AsyncExitStack() as stack:
        state = StateDir(settings.gooseherd_state_dir)
        if settings.database_url is None or settings.ecs_cluster is None:
            stack.enter_context(state)
        store = await stack.enter_async_context(open_store(settings))
        cache = open_cache(settings)
        if cache is None:
            raise ProcessingDisabled
        stack.push_async_callback(cache.close)
        fleet, workers = await open_fleet(settings, state)
        stack.push_async_callback(fleet.close)
        wakeups, finalizers = Wakeups(), Finalizers(enabled=settings.workflow_finalizer_marker)
        opens = source_access(settings)
        sources = outbound_rules(settings).sources(opens)
        stack.push_async_callback(sources.close)
        # Not the service's own: its leases are not ours to hand over.
        owner = Owner(f"reap-{uuid.uuid4().hex}")
        executions = make_executions(
            settings,
            jobs=store.jobs,
            fleet=fleet,
            workers=workers,
            cache=cache,
            finalizers=finalizers,
            wakeups=wakeups,
            owner=owner,
            # It gives out none, but knows by them which workers are to be left to their sessions.
            permits=Reserving(settings, store).permits,
            access=None if opens is None else AttemptAccess(opens, sources),
        )
        reaper = make_reaper(settings, store.jobs, executions, finalizers, wakeups)
        stack.push_async_callback(store.jobs.hand_over, owner)
        stack.push_async_callback(executions.drain, settings.workflow_shutdown_grace_seconds)
        yield LoneReaper(reaper, executions, wait_seconds)
