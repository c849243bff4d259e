"""Artifacts: whether they are ready, their manifests and their contigs. api/delivery.py serves the bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse

from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.models.artifacts import Contigs, ManifestView, PartReadiness
from gooseherd.api.models.response import PartWord
from gooseherd.api.names import Names
from gooseherd.api.openapi import routes_under
from gooseherd.api.problems import NotYetPublished
from gooseherd.api.request_context import RequestContext
from gooseherd.api.route_parameters import CurrentRequest, problems
from gooseherd.api.tracks.sequences import are_measured, contigs_of
from gooseherd.api.upstream import upstream_index
from gooseherd.control.submission import Submissions
from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.assemblies import aliases
from gooseherd.domain.contig import Contig, chrom_sizes
from gooseherd.domain.errors import NoSuchPart, NotFound, ProcessingDisabled
from gooseherd.domain.keys import Recipe, workflow_key
from gooseherd.domain.ports.store import JobStore
from gooseherd.domain.source import SourceFile


def artifact_routes(dependencies: Dependencies, catalog: Catalog, names: Names) -> APIRouter:
    """The routes under /data, /index, /density and /contigs that the framework answers."""
    router = routes_under("artifacts")

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

    @router.get(
        "/contigs/{dcc}/{local_id}",
        response_model=Contigs,
        responses={200: {"content": {"text/plain": {}}}, **problems(401, 404, 410, 422, 503)},
    )
    async def contigs(
        context: CurrentRequest,
        dcc: str,
        local_id: str,
        form: Annotated[
            Literal["json", "chromsizes"],
            Query(alias="format", description="`chromsizes`: a line of name and length each, as text."),
        ] = "json",
    ) -> Contigs | PlainTextResponse:
        """Reference names and lengths of a published artifact; 404 and retryable before that."""
        entry = await catalog.servable(dcc, local_id, context.caller.visible)
        submissions = dependencies.submissions
        if submissions is None:
            raise ProcessingDisabled
        manifest = await submissions.published(entry, submissions.recipe(entry, Kind.DATA))
        if manifest is None:
            raise NotYetPublished("contigs", entry.name)
        found: Sequence[Contig] = contigs_of(manifest, entry.file_format)
        if form == "chromsizes":
            return PlainTextResponse(chrom_sizes(found))
        measured = await asyncio.to_thread(are_measured, found, entry.file_format)
        named = await asyncio.to_thread(aliases, found, measured=measured)
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
        artifacts = names.artifact_paths(entry, recipe, found.parts)
        return ManifestView.of(entry, found, context.link, paths, artifacts, contigs=contigs)

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
