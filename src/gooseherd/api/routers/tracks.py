"""What to copy into a viewer, for one file or several: specifications, a hub, sessions, commands."""

# Annotations here name the dependencies of one application, so they are evaluated where they stand.

from dataclasses import replace
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from gooseherd.api.callers import Callers
from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.models.tracks import TrackView, ViewerWord
from gooseherd.api.names import Names
from gooseherd.api.openapi import routes_under
from gooseherd.api.route_parameters import CurrentRequest, problems
from gooseherd.api.tracks.gosling import gosling
from gooseherd.api.tracks.igv import igv
from gooseherd.api.tracks.jbrowse import jbrowse
from gooseherd.api.tracks.linking import Linking
from gooseherd.api.tracks.programs import python, shell
from gooseherd.api.tracks.selecting import MOST_FILES_SHOWN, Selecting, ViewRequest
from gooseherd.api.tracks.selection import Selection
from gooseherd.api.tracks.ucsc import ucsc
from gooseherd.domain.contig import chrom_aliases, chrom_sizes
from gooseherd.domain.errors import InvalidInput, NotFound
from gooseherd.domain.formats import NAMES, resolve
from gooseherd.domain.ports.store import FileQuery
from gooseherd.domain.source import parse_dcc

_VIEWERS: Final = {
    "gosling": gosling,
    "igv": igv,
    "jbrowse": jbrowse,
    "ucsc": ucsc,
    "shell": shell,
    "python": python,
}
_DOCUMENTS: Final = ("igv.json", "jbrowse.json", "gosling.json", "hub.txt", "chrom.sizes", "chrom.aliases")
_NO_STORE: Final = {"Cache-Control": "no-store"}
"""What is ready changes, an index may get another name, and addresses may have a token."""


def track_routes(dependencies: Dependencies, catalog: Catalog, names: Names, callers: Callers) -> APIRouter:
    """The routes under /tracks, and /hub.txt."""
    router = routes_under("tracks")
    selecting = Selecting(dependencies, catalog, names)

    def shown(
        at: Annotated[
            str | None, Query(max_length=200, description="The first view: chr7:1,000-2,000.")
        ] = None,
        reference: Annotated[
            str | None, Query(max_length=400, description="DCC/ID of a FASTA or 2bit to draw on.")
        ] = None,
        assembly: Annotated[str | None, Query(max_length=50, description="Such as hg38.")] = None,
    ) -> ViewRequest:
        return ViewRequest(region=at, reference=reference, assembly=assembly)

    Shown = Annotated[ViewRequest, Depends(shown)]  # noqa: N806 - a type

    def selected(
        context: CurrentRequest,
        where: Shown,
        files: Annotated[
            str | None, Query(max_length=12_000, description="DCC/ID, several with commas between.")
        ] = None,
        q: Annotated[str | None, Query(max_length=200, description="Or a search, as in /files.")] = None,
        dcc: Annotated[str | None, Query(max_length=64)] = None,
        file_format: Annotated[str | None, Query(alias="format", max_length=100)] = None,
        after: Annotated[
            str | None, Query(max_length=8192, description="The files behind that one, as in /files.")
        ] = None,
    ) -> ViewRequest:
        if files:
            return replace(where, files=[name for name in files.split(",") if name])
        if not (q or dcc or file_format):
            raise InvalidInput(
                "files", "name files (?files=DCC/ID,DCC/ID) or a search (?q=, ?dcc=, ?format=)"
            )
        wanted = resolve(file_format) if file_format else None
        if file_format and wanted is None:
            raise InvalidInput("format", f"{file_format!r} is no known format: {', '.join(NAMES)}")
        query = FileQuery(
            dcc=parse_dcc(dcc) if dcc else None,
            text=q or None,
            file_format=wanted,
            limit=MOST_FILES_SHOWN,
            after=after,
            visible=context.caller.visible,
        )
        return replace(where, query=query)

    Selected = Annotated[ViewRequest, Depends(selected)]  # noqa: N806 - a type

    @router.get("/files/{dcc}/{local_id}/tracks", responses=problems(401, 404, 410, 422, 503))
    async def tracks_of_file(
        context: CurrentRequest,
        response: Response,
        dcc: str,
        local_id: str,
        where: Shown,
        viewer: ViewerWord = "igv",
    ) -> TrackView:
        """What to copy so that a viewer draws this file. Starts nothing: the viewer's own requests do."""
        response.headers.update(_NO_STORE)
        wanted = replace(where, files=[f"{dcc}/{local_id}"])
        return _view(viewer, await selecting.selection(wanted, Linking(context, callers)))

    @router.get("/tracks", responses=problems(401, 404, 410, 422, 503))
    async def tracks(
        context: CurrentRequest, response: Response, wanted: Selected, viewer: ViewerWord = "igv"
    ) -> TrackView:
        """The same for several files in one view."""
        response.headers.update(_NO_STORE)
        return _view(viewer, await selecting.selection(wanted, Linking(context, callers)))

    @router.get(
        "/tracks/{document}",
        response_class=Response,
        responses={
            200: {"content": {"application/json": {}, "text/plain": {}}},
            **problems(401, 404, 410, 422, 503),
        },
    )
    async def document(context: CurrentRequest, document: str, wanted: Selected) -> Response:
        """As a document for a viewer to open: `igv.json` (a session), `jbrowse.json` (a config.json),
        `gosling.json`, `hub.txt`, the lengths of the sequences, `chrom.sizes`, or what else files call them,
        `chrom.aliases`.
        """
        name, _, suffix = document.partition(".")
        if document not in _DOCUMENTS:
            raise NotFound("document", document)
        selection = await selecting.selection(wanted, Linking(context, callers))
        if document == "chrom.sizes":
            return PlainTextResponse(chrom_sizes(selection.contigs), headers=_NO_STORE)
        if document == "chrom.aliases":
            return PlainTextResponse(chrom_aliases(selection.aliases), headers=_NO_STORE)
        if suffix == "txt":
            return PlainTextResponse(ucsc(selection).text, headers=_NO_STORE)
        return JSONResponse(_VIEWERS[name](selection).spec, headers=_NO_STORE)

    @router.get("/hub.txt", response_class=PlainTextResponse, responses=problems(401, 404, 410, 422, 503))
    async def hub(context: CurrentRequest, wanted: Selected) -> Response:
        """A track hub for UCSC's Genome Browser, in one file."""
        selection = await selecting.selection(wanted, Linking(context, callers))
        return PlainTextResponse(ucsc(selection).text, headers=_NO_STORE)

    return router


def _view(viewer: ViewerWord, selection: Selection) -> TrackView:
    snippet = _VIEWERS[viewer](selection)
    return TrackView(
        viewer=viewer, text=snippet.text, spec=snippet.spec, notes=[*selection.notes, *snippet.notes]
    )
