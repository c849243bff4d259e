"""The dependencies of an attempt, made from its environment: cache, sources, processors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from gooseherd.domain.attempt import AttemptSpec, SourceAccess
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.keys import artifact_prefix
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.ports.source import Sources
from gooseherd.processing.registry import default_registry
from gooseherd.processing.tools.isolation import Confinement, confinement
from gooseherd.processing.tools.limits import ToolLimits
from gooseherd.processing.tools.verifier import LoadedVerifier
from gooseherd.sources.private import GivenAccess
from gooseherd.storage.lazy_cache import LazyCache
from gooseherd.storage.local import LocalFsCache
from gooseherd.storage.prefix_cache import PrefixCache
from gooseherd.worker.engine import Processors
from gooseherd.worker.folders import AttemptFolder, references_below
from gooseherd.worker.preparation import Preparation
from gooseherd.worker.references import ReferenceRules, References
from gooseherd.worker.resources import tool_limits, with_machine_sizes
from gooseherd.worker.sandbox_paths import hidden_paths, readable_paths
from gooseherd.worker.settings import WorkerSettings


@asynccontextmanager
async def open_dependencies(
    spec: AttemptSpec,
    settings: WorkerSettings,
    scratch: Path,
    preparation: Preparation | None = None,
    credentials: Path | None = None,
    source_access: Path | None = None,
) -> AsyncIterator[tuple[CacheBackend, Sources, Processors]]:
    """The cache (narrowed to this artifact's keys), the sources and the processors; closed at the end.

    What is prepared for `scratch` is used, and stays the caller's. `credentials` and
    `source_access`: the files of what came with the order.

    Tools may write to `scratch` only, where there is a sandbox. The cache is opened by its first
    call: that takes longer than asking a source for its first bytes, which need not wait for it.

    Raises:
        Misconfigured: naming the variable; so does the cache's first call.
    """
    settings = with_machine_sizes(settings)
    limits = tool_limits(settings, spec.limits.wall_seconds)
    async with _confinement(settings, limits, scratch, preparation) as (confined, verifier):
        registry = default_registry(
            sort_memory=settings.sort_memory,
            samtools_memory=settings.samtools_memory,
            threads=settings.threads,
            confinement=confined,
            verifier=verifier,
        )
        sources = settings.outbound.sources(_access(source_access))
        backend = LazyCache(partial(artifact_cache, settings, credentials))
        try:
            prefix = artifact_prefix(spec.source.identity, spec.recipe)
            yield PrefixCache(backend, prefix), sources, registry
        finally:
            await sources.close()
            await backend.close()


def _access(file: Path | None) -> GivenAccess | None:
    """What is in the file is for this process: no tool sees its folder."""
    if file is None or not file.exists():
        return None
    return GivenAccess(SourceAccess.from_json(json.loads(file.read_bytes())))


@asynccontextmanager
async def _confinement(
    settings: WorkerSettings, limits: ToolLimits, scratch: Path, preparation: Preparation | None
) -> AsyncIterator[tuple[Confinement, LoadedVerifier | None]]:
    """That of the preparation, if there is any, with the attempt's own limits; else one of its own."""
    if preparation is not None and preparation.confinement is not None:
        yield preparation.confinement.with_limits(limits), preparation.verifier
    else:
        work = scratch.parent.parent
        readable = await asyncio.to_thread(readable_paths, settings, work)
        async with confinement(settings.sandbox, limits, scratch, readable, hidden_paths(work)) as confined:
            yield confined, None


@asynccontextmanager
async def open_references(
    settings: WorkerSettings, sources: Sources, folder: AttemptFolder
) -> AsyncIterator[References]:
    """The reference sequences that the attempt may ask for; it uses them until the block ends.

    Raises:
        Misconfigured: naming the variable.
    """
    rules = ReferenceRules(
        sources=settings.outbound.reference_sources(),
        most_bytes=settings.outbound.references_max_bytes,
        folder=settings.outbound.references_dir or references_below(folder.path.parent),
    )
    references = References(rules, sources, folder.scratch / "references")
    try:
        yield references
    finally:
        await references.close()


def artifact_cache(settings: WorkerSettings, credentials: Path | None = None) -> CacheBackend:
    """The bucket if one is named, else the folder. Blocks while it looks for credentials.

    Raises:
        Misconfigured: neither is named, or the bucket cannot be used.
    """
    if settings.bucket is not None:
        from gooseherd.storage.s3 import S3Cache  # boto3 takes half a second that a folder needs not wait for

        return S3Cache(
            settings.bucket,
            prefix=settings.bucket_prefix,
            endpoint_url=settings.endpoint_url,
            region=settings.region,
            credentials=credentials,
        )
    if settings.data_dir is None:
        raise Misconfigured("WORKFLOW_S3_BUCKET", "the worker has no place for artifacts; nor SYNC_DATA_DIR")
    return LocalFsCache(settings.data_dir)
