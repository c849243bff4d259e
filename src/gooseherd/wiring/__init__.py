"""Settings to objects: the only place that knows every room."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from gooseherd import __version__
from gooseherd.api.app import Dependencies
from gooseherd.api.catalog import Catalog
from gooseherd.api.describing import Describing
from gooseherd.api.holding import Holds
from gooseherd.api.server.limits import connections_within_descriptors
from gooseherd.api.slow_responses import SlowResponses
from gooseherd.api.uploads import Uploads
from gooseherd.control.batches import Batches
from gooseherd.control.dispatcher import Dispatcher
from gooseherd.control.finalizers import Finalizers
from gooseherd.control.launch_breaker import LaunchBreaker
from gooseherd.control.loop import Loop
from gooseherd.control.overdue import OverdueWatch
from gooseherd.control.queue_statistics import QueueStatistics
from gooseherd.control.read_notes import ReadNotes
from gooseherd.control.session_permits import SessionPermits
from gooseherd.control.sessions import Sessions
from gooseherd.control.shared_read import SharedRead
from gooseherd.control.start_forecast import StartForecast
from gooseherd.control.submission import SubmissionLimits, Submissions
from gooseherd.control.supervisor import Supervisor
from gooseherd.control.usage import UsageRecorder
from gooseherd.control.wakeups import Wakeups
from gooseherd.domain.job import JobId, Owner
from gooseherd.domain.ports.fleet import Fleet
from gooseherd.domain.ports.store import STORE_AWAY
from gooseherd.settings import Settings
from gooseherd.statedir import StateDir
from gooseherd.wiring.artifacts import make_delivery, make_registry, open_cache
from gooseherd.wiring.batches import make_batches
from gooseherd.wiring.fleet import certificate_loop, check_references, open_fleet, outbound_rules
from gooseherd.wiring.identity import open_identity_provider
from gooseherd.wiring.limits import running_limit
from gooseherd.wiring.measuring import describe_process, file_systems, measured_cache, measured_store
from gooseherd.wiring.origins import origin_rules
from gooseherd.wiring.private_sources import AttemptAccess, source_access
from gooseherd.wiring.readiness import FRESH_SECONDS, Readiness
from gooseherd.wiring.reaping import make_executions, make_reaper
from gooseherd.wiring.reconciling import make_reconciler
from gooseherd.wiring.reservations import Reserving
from gooseherd.wiring.retention import make_retention, removes_objects
from gooseherd.wiring.store import open_store
from gooseherd.wiring.traces import traced
from gooseherd.wiring.uploads import open_uploads
from gooseherd.wiring.usage import Accounting
from gooseherd.worker.settings import build_id


@dataclass(frozen=True, slots=True)
class Service:
    """A running engine and the application in front of it."""

    dependencies: Dependencies
    settings: Settings


@asynccontextmanager
async def running(settings: Settings, state: StateDir) -> AsyncIterator[Service]:
    """Everything started, in order; stopped in reverse.

    Raises:
        Misconfigured: naming the variable.
        StoreUnavailable: the store does not answer.
    """
    wakeups = Wakeups()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(traced())
        describe_process(settings)
        store = measured_store(await stack.enter_async_context(open_store(settings)))
        jobs, files = store.jobs, store.files
        catalog = Catalog(files, time.monotonic)
        accounting = Accounting(settings, store)

        cache = open_cache(settings)
        if cache is not None:
            cache = measured_cache(cache)
            stack.push_async_callback(cache.close)
        provider = open_identity_provider(settings)
        if provider is not None:
            stack.push_async_callback(provider[1])
        opens = source_access(settings)
        sources = outbound_rules(settings).sources(opens)
        stack.push_async_callback(sources.close)
        check_references(settings, sources)
        registry = make_registry(settings)
        finalizers = Finalizers(enabled=settings.workflow_finalizer_marker)
        forecast: StartForecast | None = None
        breaker: LaunchBreaker | None = None
        submissions: Submissions | None = None
        batches: Batches | None = None
        sessions: Sessions | None = None
        permits: SessionPermits | None = None
        fleet: Fleet | None = None
        uploads: Uploads | None = None
        if cache is not None:
            read_notes = ReadNotes(store.access, tick_seconds=settings.workflow_tick_seconds)
            submissions = Submissions(
                jobs=jobs,
                cache=cache,
                recipes=registry,
                limits=SubmissionLimits(
                    active_jobs=settings.workflow_max_active_jobs,
                    pending_per_requester=settings.workflow_max_pending_per_requester,
                ),
                wakeups=wakeups,
                new_id=lambda: JobId(uuid.uuid4().hex),
                on_read=read_notes.note,
                budgets=accounting.budgets,
            )
            reserving = Reserving(settings, store)
            permits = reserving.permits
            fleet, workers = await open_fleet(settings, state, reserving.floor_workers)
            stack.push_async_callback(fleet.close)
            executions = make_executions(
                settings,
                jobs=jobs,
                fleet=fleet,
                workers=workers,
                cache=cache,
                finalizers=finalizers,
                wakeups=wakeups,
                owner=Owner(state.remembered("instance", lambda: uuid.uuid4().hex)),
                permits=permits,
                access=None if opens is None else AttemptAccess(opens, sources),
            )
            breaker = executions.breaker
            forecast = StartForecast(fleet, breaker, lambda: executions.launching)
            dispatcher = Dispatcher(
                jobs=jobs,
                fleet=fleet,
                executions=executions,
                wakeups=wakeups,
                running_limit=running_limit(settings),
                tick_seconds=settings.workflow_tick_seconds,
                permits=permits,
            )
            reaper = make_reaper(settings, jobs, executions, finalizers, wakeups)
            batches, batch_loop = make_batches(
                settings,
                store,
                submissions=submissions,
                describing=Describing(catalog, sources),
                owner=executions.owner,
            )
            overdue = OverdueWatch(
                QueueStatistics(jobs), attempt_limit_seconds=settings.workflow_duration_cap_seconds
            )
            loops: list[Loop[Any, Any]] = [
                dispatcher.loop,
                reaper.loop,
                batch_loop.loop,
                read_notes.loop,
                overdue.loop,
            ]
            uploads = open_uploads(settings, catalog)
            if uploads is not None:
                loops.append(uploads.loop)
            if settings.workflow_retention_seconds:
                retention = make_retention(
                    settings,
                    store,
                    cache if removes_objects(settings) else None,
                    registry,
                    forget=submissions.forget_manifest,
                )
                loops.append(retention.loop)
            stack.push_async_callback(_flush, read_notes)
            recorder = accounting.recorder(fleet)
            loops.append(recorder.loop)
            stack.push_async_callback(_flush, recorder)
            sessions = reserving.sessions(fleet, workers, submissions, wakeups)
            loops.append(sessions.loop)
            stack.push_async_callback(sessions.close)
            if (warm_floor := reserving.warm_floor(fleet, workers, wakeups.work)) is not None:
                loops.append(warm_floor.loop)
                stack.push_async_callback(warm_floor.close)
            if (certificates := certificate_loop(workers)) is not None:
                loops.append(certificates)
            if settings.workflow_reconcile_seconds:
                reconciler = make_reconciler(
                    settings,
                    jobs,
                    fleet,
                    store.reservations,
                    follows=executions.follows,
                    unowned=wakeups.unowned,
                )
                loops.append(reconciler.loop)
            await stack.enter_async_context(
                Supervisor(
                    jobs=jobs,
                    executions=executions,
                    loops=loops,
                    wakeups=wakeups,
                    grace_seconds=settings.workflow_shutdown_grace_seconds,
                )
            )

        yield Service(
            dependencies=Dependencies(
                files=files,
                catalog=catalog,
                keys=store.keys,
                usage=accounting.reports,
                budgets=accounting.budgets,
                served=accounting.served,
                identity_provider=provider[0] if provider is not None else None,
                token_seconds=settings.api_token_seconds,
                submissions=submissions,
                batches=batches,
                sessions=sessions,
                session_idle_seconds=settings.workflow_session_idle_seconds,
                uploads=uploads,
                fleet=fleet,
                jobs=jobs,
                queue=QueueStatistics(
                    jobs,
                    finalizers=finalizers,
                    forecast=forecast,
                    running_limit=running_limit(settings),
                    permits=permits,
                ),
                cache=cache,
                sources=sources,
                admin_key=settings.api_admin_key
                or state.remembered("admin-key", lambda: secrets.token_urlsafe(24)),
                public_url=settings.api_public_url,
                organization_name=settings.api_organization_name,
                organization_url=settings.api_organization_url,
                delivery=make_delivery(settings, cache),
                wait_max_seconds=settings.api_wait_max_seconds,
                hold_viewers=settings.api_hold == "viewers",
                holds=Holds(
                    per_requester=settings.api_max_holds_per_requester, total=_half_of_connections(settings)
                ),
                slow_responses=SlowResponses(
                    settings.api_max_slow_responses_per_requester,
                    trusted_proxies=settings.api_trusted_proxies,
                ),
                origins=origin_rules(settings),
                trusted_proxies=settings.api_trusted_proxies,
                source_max_bytes=settings.source_max_bytes,
                retries_per_requester=settings.api_max_retries_per_requester,
                raw_per_requester=settings.api_max_raw_per_requester,
                event_streams_per_requester=settings.api_max_event_streams_per_requester,
                event_streams=_half_of_connections(settings),
                bytes_per_minute=settings.bytes_per_minute,
                version=__version__,
                build=build_id(),
                refresh_metrics=SharedRead(file_systems(settings), FRESH_SECONDS).get,
                readiness=Readiness(store.ping, cache, breaker).states,
            ),
            settings=settings,
        )


def _half_of_connections(settings: Settings) -> int:
    """Of those this process can have, for who waits: the others are for those who get bytes."""
    return max(1, connections_within_descriptors(settings.api_max_connections) // 2)


async def _flush(noted: ReadNotes | UsageRecorder) -> None:
    with suppress(*STORE_AWAY):  # Neither is worth to hold up the end of the process.
        await noted.flush()
