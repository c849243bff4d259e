"""The names of one file, as a folder shows them; the bytes behind them are the delivery room's."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse, JSONResponse

from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.models.artifacts import NameList, NameView
from gooseherd.api.names import Names
from gooseherd.api.openapi import routes_under
from gooseherd.api.pages import listing_page
from gooseherd.api.route_parameters import CurrentRequest, problems
from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.source import SourceFile


def name_routes(dependencies: Dependencies, catalog: Catalog, names: Names) -> APIRouter:
    """/files/{dcc}/{local_id}/."""
    router = routes_under("artifacts")

    @router.get(
        "/files/{dcc}/{local_id}/",
        response_model=NameList,
        responses={
            200: {"content": {"text/html": {"schema": {"type": "string"}}}},
            **problems(401, 404, 410, 422, 503),
        },
    )
    async def listing(context: CurrentRequest, dcc: str, local_id: str) -> Response:
        """The names under which the file's parts are served, for tools; starts nothing."""
        entry = await catalog.servable(dcc, local_id, context.caller.visible)
        manifest = await _published(dependencies, entry)
        parts = names.of(entry, parts=manifest.parts if manifest is not None else None)
        if b"text/html" in context.headers.get(b"accept", b""):
            page = listing_page(
                entry.name,
                [(context.location(part.path(entry)).rpartition("/")[2], part.name) for part in parts],
            )
            response = HTMLResponse(page.body)
            response.raw_headers = page.headers
            return response
        artifacts = names.artifact_paths(entry, None, manifest.parts) if manifest is not None else {}
        views = []
        for part in parts:
            made = manifest.part(part.kind) if manifest is not None and part.sidecar is None else None
            views.append(
                NameView(
                    name=part.name,
                    kind=part.kind.value,
                    url=context.link(part.path(entry)),
                    ready=made is not None or part.sidecar is not None or dependencies.submissions is None,
                    size=made.size if made is not None else None,
                    sha256=made.sha256 if made is not None else None,
                    artifact_url=context.link(artifacts[part.kind]) if made is not None else None,
                )
            )
        return JSONResponse(
            NameList(names=views).model_dump(), headers={"Cache-Control": "no-store", "Vary": "Accept"}
        )

    return router


async def _published(dependencies: Dependencies, entry: SourceFile) -> Manifest | None:
    if dependencies.submissions is None:
        return None
    return await dependencies.submissions.published(entry, dependencies.submissions.recipe(entry, Kind.DATA))
