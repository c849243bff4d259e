"""GET /search: where genes and other features are, by name."""

# Annotations here name the dependencies of one application, so they are evaluated where they stand.

import asyncio
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.types import Message

from gooseherd.api.address_redaction import without_paths
from gooseherd.api.allowances import Concurrent
from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.describing import Describing
from gooseherd.api.holding import HOPS, Client, client_of, next_query
from gooseherd.api.models.search import FoundNameView, NameResults, PendingNames
from gooseherd.api.name_search import MOST_RESULTS, ByteShares, FoundName, NameSearch
from gooseherd.api.openapi import routes_under
from gooseherd.api.part_response import PartMissing
from gooseherd.api.prepared_requests import PreparedRequest, retry_after
from gooseherd.api.problems import NotReady
from gooseherd.api.request_context import RequestContext
from gooseherd.api.request_options import options_of
from gooseherd.api.retries import Retries
from gooseherd.api.route_parameters import CurrentRequest, problems
from gooseherd.api.tracks.sequences import are_measured
from gooseherd.control.submission import Submissions
from gooseherd.domain import formats
from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.assemblies import assembly_of, known_assemblies, sequences_of
from gooseherd.domain.errors import (
    AlreadyFailed,
    InvalidInput,
    LimitReached,
    NoSuchPart,
    ProcessingDisabled,
    Rejected,
    UnsupportedFormat,
)
from gooseherd.domain.formats import Format
from gooseherd.domain.job import Job
from gooseherd.domain.keys import Recipe
from gooseherd.domain.ports.store import FileQuery
from gooseherd.domain.source import SourceFile, parse_dcc

_log = logging.getLogger(__name__)

_MOST_FILES: Final = 20
"""That are searched for one question."""
_CANDIDATES: Final = 25
"""Of each format, that are looked at when no files are named: those with an index are searched."""
_SEARCHED: Final[tuple[Format, ...]] = (formats.GTF, formats.GFF3, formats.GFF, formats.BED)
_WAIT_SECONDS: Final = 10.0
"""For indexes of files that are named, unless the client says how long it waits."""


@dataclass(slots=True)
class _Searched:
    """What is known of the files of one question."""

    indexes: list[tuple[SourceFile, Recipe, Manifest]] = field(default_factory=list)
    missing: list[tuple[SourceFile, Recipe]] = field(default_factory=list)
    pending: list[tuple[SourceFile, Job]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str, context: RequestContext) -> None:
        """What could not be done, as the caller may read it."""
        self.notes.append(without_paths(text, admin=context.is_admin))


def search_routes(
    dependencies: Dependencies, catalog: Catalog, describing: Describing, retries: Retries
) -> APIRouter:
    """/search."""
    router = routes_under("search")
    searching = _Searching(dependencies, catalog, describing, retries)

    @router.get(
        "/search",
        response_model=NameResults,
        responses={
            307: {"description": "To a viewer: nothing is found yet, ask again at Location"},
            **problems(401, 403, 404, 410, 422, 429, 503),
        },
    )
    async def search(
        request: Request,
        response: Response,
        context: CurrentRequest,
        q: Annotated[str, Query(min_length=1, max_length=200, description="A name, or its beginning.")],
        files: Annotated[
            str | None, Query(max_length=5_000, description="DCC/ID, up to 20 with commas between.")
        ] = None,
        dcc: Annotated[
            str | None, Query(max_length=64, description="Else: files of this collection.")
        ] = None,
        assembly: Annotated[
            str | None, Query(max_length=50, description="Else: files on this assembly, such as hg38.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_RESULTS)] = 20,
    ) -> NameResults | Response:
        """Genes and other features by name, whatever its case; exact ones first.

        Names of files that are named are indexed if they are not yet, and waited for (`wait`, 10 s unless
        told); without files those are searched that have been indexed.
        """
        words = q.lower().split()
        if not words:
            raise InvalidInput("q", "has no word")
        named = [name for name in (files or "").split(",") if name]
        if len(named) > _MOST_FILES:
            raise InvalidInput("files", f"at most {_MOST_FILES} are searched")
        response.headers["Cache-Control"] = "no-store"
        found = await searching.indexes(request, context, named, dcc, assembly)
        results = await searching.find(context, found, words, limit)
        if found.pending and not results and client_of(context.headers) is Client.VIEWER:
            return _again(context, found.pending[0][1])
        if found.pending:
            response.headers["Retry-After"] = str(max(retry_after(job) for _, job in found.pending))
        return NameResults(
            results=results,
            pending=[
                PendingNames(file=entry.name, job_id=job.job_id, job_url=context.link(f"/jobs/{job.job_id}"))
                for entry, job in found.pending
            ],
            notes=found.notes,
        )

    return router


class _Searching:
    def __init__(
        self, dependencies: Dependencies, catalog: Catalog, describing: Describing, retries: Retries
    ) -> None:
        self._dependencies = dependencies
        self._catalog = catalog
        self._describing = describing
        self._retries = retries
        self._places = Concurrent("searches", per_requester=dependencies.searches_per_requester)
        self._search = NameSearch(dependencies.cache) if dependencies.cache is not None else None

    async def indexes(
        self,
        request: Request,
        context: RequestContext,
        named: Sequence[str],
        dcc: str | None,
        assembly: str | None,
    ) -> _Searched:
        """The name indexes of the files; of those that were named they are made first, if there is time."""
        submissions = self._dependencies.submissions
        if submissions is None:
            raise ProcessingDisabled
        if assembly is not None and sequences_of(assembly) is None:
            known = ", ".join(sorted(known_assemblies()))
            raise InvalidInput("assembly", f"{assembly!r} is none of {known}: name files instead")
        # Waiting has places of its own.
        with self._places.place(context.requester):
            found = await self._known(context, submissions, named, dcc, assembly)
        if found.missing:
            await self._make(request, context, submissions, found)
        return found

    async def find(
        self, context: RequestContext, found: _Searched, words: Sequence[str], limit: int
    ) -> list[FoundNameView]:
        """In all of the indexes."""
        assert self._search is not None  # there is one where there is a cache
        results: list[tuple[SourceFile, FoundName]] = []
        shares = ByteShares(len(found.indexes))
        with self._places.place(context.requester):
            for entry, recipe, manifest in found.indexes:
                try:
                    of_file = await self._search.find(manifest, words, limit, shares)
                    results += [(entry, one) for one in of_file]
                except PartMissing:
                    assert self._dependencies.submissions is not None
                    self._dependencies.submissions.forget(entry, recipe)
                    found.notes.append(f"{entry.name}: its name index is gone; ask again")
        results.sort(key=lambda one: not one[1].is_exact)
        return [_view(entry, one) for entry, one in results[:limit]]

    async def _known(
        self,
        context: RequestContext,
        submissions: Submissions,
        named: Sequence[str],
        dcc: str | None,
        assembly: str | None,
    ) -> _Searched:
        """What is published of the files already."""
        found = _Searched()
        entries = await self._named(context, named) if named else await self._candidates(context, dcc)
        await self._sort_out(submissions, entries, found, tell=bool(named))
        if not named:
            found.missing.clear()
        if assembly is not None:
            found.indexes = [one for one in found.indexes if await self._is_on(submissions, one[0], assembly)]
        if len(found.indexes) > _MOST_FILES:
            found.notes.append(f"{_MOST_FILES} of {len(found.indexes)} files were searched: name files")
            del found.indexes[_MOST_FILES:]
        return found

    async def _named(self, context: RequestContext, named: Sequence[str]) -> list[SourceFile]:
        entries = []
        for name in dict.fromkeys(named):
            dcc, slash, local_id = name.partition("/")
            if not slash:
                raise InvalidInput("files", f"{name!r} is no DCC/ID")
            entries.append(await self._catalog.servable(dcc, local_id, context.caller.visible))
        return entries

    async def _candidates(self, context: RequestContext, dcc: str | None) -> list[SourceFile]:
        queries = [
            FileQuery(
                dcc=parse_dcc(dcc) if dcc else None,
                file_format=wanted,
                limit=_CANDIDATES,
                visible=context.caller.visible,
            )
            for wanted in _SEARCHED
        ]
        pages = await asyncio.gather(*map(self._catalog.search, queries))
        return [entry for page in pages for entry in page.files if entry.status.lower() == "active"]

    async def _sort_out(
        self, submissions: Submissions, entries: Sequence[SourceFile], found: _Searched, *, tell: bool
    ) -> None:
        recipes: list[tuple[SourceFile, Recipe]] = []
        for entry in entries:
            try:
                recipes.append((entry, submissions.recipe(entry, Kind.NAMES)))
            except (NoSuchPart, UnsupportedFormat):
                if tell:
                    found.notes.append(f"{entry.name}: names of {entry.file_format.name} are not indexed")
        # Each may be a round trip to the cache.
        manifests = await asyncio.gather(*(submissions.published(*one) for one in recipes))
        for (entry, recipe), manifest in zip(recipes, manifests, strict=True):
            if manifest is None:
                found.missing.append((entry, recipe))
            else:
                found.indexes.append((entry, recipe, manifest))

    @staticmethod
    async def _is_on(submissions: Submissions, entry: SourceFile, assembly: str) -> bool:
        """By the lengths of its sequences, which its usual artifact knows."""
        manifest = await submissions.published(entry, submissions.recipe(entry, Kind.DATA))
        if manifest is None:
            return False
        measured = await asyncio.to_thread(are_measured, manifest.contigs, entry.file_format)
        own = await asyncio.to_thread(assembly_of, manifest.contigs, measured=measured)
        return own is not None and own == assembly_of(sequences_of(assembly) or ())

    async def _make(
        self, request: Request, context: RequestContext, submissions: Submissions, found: _Searched
    ) -> None:
        options = options_of(context.query, context.headers, self._dependencies.wait_max_seconds)
        jobs: list[tuple[SourceFile, Recipe, Job]] = []
        for entry, recipe in found.missing:
            prepared = PreparedRequest(
                self._dependencies,
                self._describing,
                self._retries,
                context,
                submissions,
                entry,
                recipe,
                options,
                request.receive,
                _send_nothing,
                served=_not_yet,
            )
            try:
                job = await prepared.submitted()
            except AlreadyFailed as failed:
                found.note(f"{entry.name}: its names could not be indexed: {failed}", context)
            except LimitReached:
                raise
            except Rejected as refused:
                found.note(f"{entry.name}: {refused}", context)
            else:
                if job is not None:
                    jobs.append((prepared.entry, recipe, job))
        seconds = options.wait_seconds if options.asynchronous else _WAIT_SECONDS
        ended = await self._waited(context, submissions, [job for *_, job in jobs], seconds)
        for entry, recipe, job in jobs:
            manifest = await submissions.published(entry, recipe) if job.job_id in ended else None
            if manifest is not None:
                found.indexes.append((entry, recipe, manifest))
            elif job.job_id in ended and ended[job.job_id].status.terminal:
                last = ended[job.job_id]
                detail = last.detail_for(entry.dcc, entry.local_id, context.caller.visible)
                why = detail or last.reason or last.status
                found.note(f"{entry.name}: its names could not be indexed: {why}", context)
            else:
                found.pending.append((entry, job))

    async def _waited(
        self, context: RequestContext, submissions: Submissions, jobs: Sequence[Job], seconds: float
    ) -> dict[str, Job]:
        """Those that have ended within that time."""
        if not jobs or not seconds:
            return {}
        context.held = True
        holds = self._dependencies.holds
        with holds.place(context.requester), ExitStack() as watching:
            watches = {job.job_id: watching.enter_context(submissions.watching(job.job_id)) for job in jobs}
            everything = asyncio.gather(*(asyncio.shield(watch.ended) for watch in watches.values()))
            first: set[asyncio.Future[Any]] = {everything, holds.stopping}
            await asyncio.wait(first, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            everything.cancel()
            await asyncio.gather(everything, return_exceptions=True)
            return {job_id: watch.ended.result() for job_id, watch in watches.items() if watch.ended.done()}


def _again(context: RequestContext, job: Job) -> Response:
    """To this very request, as for bytes that are not made: viewers remember what was not found.

    Raises:
        NotReady: it was redirected often enough.
    """
    options = options_of(context.query, context.headers, 0)
    if options.hop >= HOPS:
        raise NotReady(job.job_id, retry_after(job))
    location = f"{context.prefix}{context.target}?{next_query(context.query, options.hop)}"
    return Response(status_code=307, headers={"Location": location, "Cache-Control": "no-store"})


async def _not_yet(_: SourceFile) -> bool:
    return False


async def _send_nothing(_: Message) -> None:
    raise AssertionError("the framework sends the response")


def _view(entry: SourceFile, found: FoundName) -> FoundNameView:
    return FoundNameView(
        name=found.name,
        matched=found.matched,
        exact=found.is_exact,
        contig=found.contig,
        start=found.start + 1,
        end=found.end,
        region=f"{found.contig}:{found.start + 1}-{found.end}",
        file=entry.name,
    )
