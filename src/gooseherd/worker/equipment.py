"""What an attempt works with, made from its environment: the cache, the way out, the processors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gooseherd.domain.attempt import AttemptSpec
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.keys import artifact_prefix
from gooseherd.domain.ports import CacheBackend, Sources
from gooseherd.processing.registry import default_registry
from gooseherd.storage.limited import PrefixCache
from gooseherd.storage.local import LocalFsCache
from gooseherd.worker.engine import Registry
from gooseherd.worker.settings import WorkerSettings


@asynccontextmanager
async def equip(
    spec: AttemptSpec, settings: WorkerSettings
) -> AsyncIterator[tuple[CacheBackend, Sources, Registry]]:
    """The cache (narrowed to this artifact's keys), the sources and the processors; closed at the end.

    Raises:
        Misconfigured: naming the variable.
    """
    if settings.data_dir is None:
        raise Misconfigured("SYNC_DATA_DIR", "the worker has no place for artifacts")
    registry = default_registry(
        sort_memory=settings.sort_memory, samtools_memory=settings.samtools_memory, threads=settings.threads
    )
    backend = LocalFsCache(settings.data_dir)
    sources = settings.outbound.sources()
    try:
        prefix = artifact_prefix(spec.source.identity, spec.recipe)
        yield PrefixCache(backend, prefix), sources, registry
    finally:
        await sources.close()
        await backend.close()
