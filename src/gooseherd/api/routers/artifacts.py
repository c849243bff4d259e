"""Artifacts: whether they are ready, their manifests and their contigs. api/delivery.py serves the bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query

from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.models.artifacts import Contigs, ManifestView, PartReadiness
from gooseherd.api.models.response import PartWord
from gooseherd.api.names import Names
from gooseherd.api.problems import NotYetPublished
from gooseherd.api.request_context import RequestContext
from gooseherd.api.route_parameters import CurrentRequest, problems
from gooseherd.api.upstream import upstream_index
from gooseherd.control.submission import Submissions
from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.assemblies import aliases
from gooseherd.domain.contig import Contig, in_natural_order
from gooseherd.domain.errors import NoSuchPart, NotFound, ProcessingDisabled
from gooseherd.domain.formats import BCF, VCF, Family
from gooseherd.domain.keys import Recipe, workflow_key
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.source import SourceFile

_DECLARING: Final = frozenset({VCF, BCF})
"""Their headers name the sequences in an order of their own."""


def artifact_routes(dependencies: Dependencies, catalog: Catalog, names: Names) -> APIRouter:
    """The routes under /data, /index, /density and /contigs that the framework answers."""
    router = APIRouter(tags=["artifacts"])

    @router.get("/data/{dcc}/{local_id}/status", responses=problems(401, 404, 410, 422, 503))
    async def data_status(
        context: CurrentRequest,
        dcc: str,
        local_id: str,
        part: Annotated[PartWord, Query(description="Of this part instead.")] = "data",
    ) -> PartReadiness:
        """Whether the data could be read now. Starts nothing."""
        return await _readiness(
            dependencies, context, await catalog.servable(dcc, local_id, context.caller.visible), Kind(part)
        )

    @router.get("/index/{dcc}/{local_id}/status", responses=problems(401, 404, 410, 422, 503))
    async def index_status(context: CurrentRequest, dcc: str, local_id: str) -> PartReadiness:
        """Whether the index could be read now. Starts nothing."""
        return await _readiness(
            dependencies, context, await catalog.servable(dcc, local_id, context.caller.visible), Kind.INDEX
        )

    @router.get("/density/{dcc}/{local_id}/status", responses=problems(401, 404, 410, 422, 503))
    async def density_status(context: CurrentRequest, dcc: str, local_id: str) -> PartReadiness:
        """Whether the density could be read now. Starts nothing."""
        return await _readiness(
            dependencies, context, await catalog.servable(dcc, local_id, context.caller.visible), Kind.DENSITY
        )

    @router.get("/contigs/{dcc}/{local_id}", responses=problems(401, 404, 410, 422, 503))
    async def contigs(context: CurrentRequest, dcc: str, local_id: str) -> Contigs:
        """Reference names and lengths of a published artifact; 404 and retryable before that."""
        entry = await catalog.servable(dcc, local_id, context.caller.visible)
        submissions = dependencies.submissions
        if submissions is None:
            raise ProcessingDisabled
        manifest = await submissions.published(entry, submissions.recipe(entry, Kind.DATA))
        if manifest is None:
            raise NotYetPublished("contigs", entry.name)
        found: Sequence[Contig] = manifest.contigs
        if entry.file_format.family is Family.INTERVALS and entry.file_format not in _DECLARING:
            found = in_natural_order(found)  # the file's own is that of bytes
        named = await asyncio.to_thread(aliases, found)
        return Contigs(
            contigs=[(contig.name, contig.length) for contig in found],
            aliases={name: list(others) for name, others in named.items()},
        )

    @router.get("/files/{dcc}/{local_id}/manifest", responses=problems(401, 404, 410, 422, 503))
    async def manifest(
        context: CurrentRequest,
        dcc: str,
        local_id: str,
        contigs: Annotated[bool, Query(description="Reference names and lengths too.")] = False,
    ) -> ManifestView:
        """What was made of a file, by what, and what was noticed; 404 before that. Starts nothing."""
        entry = await catalog.servable(dcc, local_id, context.caller.visible)
        submissions = dependencies.submissions
        if submissions is None:
            raise ProcessingDisabled
        recipe = submissions.recipe(entry, Kind.DATA)
        found = await submissions.published(entry, recipe)
        if found is None:
            raise NotYetPublished("manifest", entry.name)
        paths = names.paths(entry, recipe=recipe, parts=found.parts)
        return ManifestView.of(entry, found, context.link, paths, contigs=contigs)

    return router


async def _readiness(
    dependencies: Dependencies, context: RequestContext, entry: SourceFile, kind: Kind
) -> PartReadiness:
    as_upstream = dependencies.submissions is None
    if kind is Kind.INDEX and upstream_index(entry, as_upstream=as_upstream) is not None:
        return PartReadiness(ready=True)
    if dependencies.submissions is None:
        if kind is not Kind.DATA:
            raise NotFound(f"upstream {kind}", entry.name)
        return PartReadiness(ready=True)
    return await _made(dependencies.submissions, dependencies.jobs, context, entry, kind)


async def _made(
    submissions: Submissions, jobs: JobStore, context: RequestContext, entry: SourceFile, kind: Kind
) -> PartReadiness:
    recipe: Recipe = submissions.recipe(entry, kind)
    manifest: Manifest | None = await submissions.published(entry, recipe)
    if manifest is not None:
        part = manifest.part(kind)
        if part is None:
            raise NoSuchPart(kind.value, entry.name)
        return PartReadiness(ready=True, size=part.size, etag=part.etag)
    job = await jobs.latest(workflow_key(entry.identity, recipe))
    if job is None:
        return PartReadiness(ready=False)
    return PartReadiness(
        ready=False, job_id=job.job_id, status=job.status.value, job_url=context.link(f"/jobs/{job.job_id}")
    )
