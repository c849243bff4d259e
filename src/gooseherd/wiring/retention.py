"""Retention from settings: as a loop of the service, and alone for a cron."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from gooseherd.blocking import in_thread
from gooseherd.control.retention import Retention
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.retention import RetentionPolicy
from gooseherd.processing.registry import ProcessorRegistry
from gooseherd.settings import Settings
from gooseherd.wiring.artifacts import make_registry, open_cache
from gooseherd.wiring.fleet import references_folder
from gooseherd.wiring.store import Store, open_store


def retention_policy(settings: Settings) -> RetentionPolicy:
    """What the settings say of artifacts."""
    return RetentionPolicy(
        idle=_span(settings.artifact_max_idle_seconds),
        superseded=_span(settings.artifact_superseded_seconds),
        unlisted=_span(settings.artifact_unlisted_seconds),
        unfinished=timedelta(seconds=settings.artifact_unfinished_seconds),
        total_bytes=settings.artifact_max_total_bytes or None,
    )


def removes_objects(settings: Settings) -> bool:
    """Whether a service touches its cache: in a bucket only when told to, for its role may not."""
    return (
        settings.artifacts_dir is not None
        or settings.artifact_remove_leftovers
        or retention_policy(settings).deletes_published
    )


def make_retention(
    settings: Settings,
    store: Store,
    cache: CacheBackend | None,
    registry: ProcessorRegistry,
    *,
    forget: Callable[[CacheKey], None] = lambda _: None,
) -> Retention:
    """With the policy of the settings."""
    return Retention(
        jobs=store.jobs,
        files=store.files,
        batches=store.batches,
        access=store.access,
        cache=cache,
        recipes=registry.recipe_names,
        policy=retention_policy(settings),
        keep_ended=_span(settings.workflow_keep_ended_seconds),
        tick_seconds=settings.workflow_retention_seconds or 3600.0,
        forget=forget,
        sweep_references=_sweeper(settings),
    )


@asynccontextmanager
async def retaining(settings: Settings) -> AsyncIterator[Retention]:
    """Retention beside any number of services, or without one.

    Raises:
        Misconfigured: naming the variable.
        StoreUnavailable: the store does not answer.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings))
        cache = open_cache(settings)
        if cache is not None:
            stack.push_async_callback(cache.close)
        yield make_retention(settings, store, cache, make_registry(settings))


def _sweeper(settings: Settings) -> Callable[[], Awaitable[int]] | None:
    """Of the folder that the local workers share; tasks have one each, which goes with them."""
    if settings.ecs_cluster is not None:
        return None
    folder = references_folder(settings, settings.gooseherd_state_dir.absolute())

    async def sweep() -> int:
        from gooseherd.worker.reference_store import ReferenceStore

        if not folder.is_dir():
            return 0
        return await in_thread(ReferenceStore(folder, settings.source_references_max_bytes).sweep)

    return sweep


def _span(seconds: float) -> timedelta | None:
    return timedelta(seconds=seconds) if seconds else None
