"""Byte ranges of artifacts, in front of the framework: its router would cost three times the I/O here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from gooseherd.api.allowances import Concurrent
from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.describing import Describing
from gooseherd.api.holding import Client, client_of
from gooseherd.api.names import RESERVED, NamedPart, Names
from gooseherd.api.pages import waiting_page
from gooseherd.api.part_response import PartMissing
from gooseherd.api.prepared_requests import PreparedRequest, retry_after, send_accepted
from gooseherd.api.problems import MethodNotAllowed, NotReady, Pairs
from gooseherd.api.published_delivery import ArtifactRoute, Connection, FoundPart, PublishedDelivery
from gooseherd.api.published_parts import PublishedParts
from gooseherd.api.request_context import RequestContext, context_of
from gooseherd.api.request_options import RequestOptions, options_of
from gooseherd.api.retries import Retries
from gooseherd.api.upstream import serve_upstream, upstream_index
from gooseherd.control.submission import Submissions
from gooseherd.domain.artifact import OWN_ADDRESS, Kind, Manifest, Part
from gooseherd.domain.errors import InvalidInput, NoSuchPart, NotFound
from gooseherd.domain.job import Job
from gooseherd.domain.keys import Recipe
from gooseherd.domain.source import SourceFile

_log = logging.getLogger(__name__)

_KINDS: Final = {kind.value: kind for kind in OWN_ADDRESS}


class Delivery:
    """Serves /data/{dcc}/{id}, /index/…, /density/… and /files/{dcc}/{id}/{name}; the framework the rest."""

    def __init__(
        self,
        framework: ASGIApp,
        dependencies: Dependencies,
        catalog: Catalog,
        names: Names,
        parts: PublishedParts,
        describing: Describing,
        retries: Retries,
    ) -> None:
        self._framework = framework
        self._dependencies = dependencies
        self._catalog = catalog
        self._names = names
        cache = dependencies.cache
        self._published = PublishedDelivery(dependencies, cache, parts) if cache is not None else None
        self._artifacts = ArtifactRoute(dependencies, catalog, names, self._published)
        self._describing = describing
        self._retries = retries
        self._raw = Concurrent("raw responses", per_requester=dependencies.raw_per_requester)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Errors are raised; the middleware answers them."""
        words: list[str] = scope["path"].split("/") if scope["type"] == "http" else []
        if len(words) == 4 and words[1] in _KINDS and not words[0]:
            scope["gooseherd.route"] = f"/{words[1]}"
        elif len(words) == 5 and words[1] == "files" and words[4] not in RESERVED and not words[0]:
            scope["gooseherd.route"] = "/files/name"
        elif len(words) == 4 and words[1] == "artifacts" and not words[0]:
            scope["gooseherd.route"] = "/artifacts"
        else:
            await self._framework(scope, receive, send)
            return
        context = context_of(scope)
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed("GET, HEAD, OPTIONS")
        if words[1] == "artifacts":
            await self._artifacts.serve(words[2], words[3], Connection(scope, receive, send))
            return
        entry = await self._catalog.servable(words[2], words[3], context.caller.visible)
        options = options_of(scope["query_string"], context.headers, self._dependencies.wait_max_seconds)
        named = await self._named(entry, words[4], options, context) if len(words) == 5 else None
        kind = named.kind if named is not None else _KINDS[words[1]]
        if options.part is not None:
            if named is not None or kind is not Kind.DATA:
                raise InvalidInput("part", "goes with /data alone")
            kind = options.part
        await _PartRequest(
            self._dependencies,
            self._describing,
            self._retries,
            self._raw,
            self._names,
            self._published,
            scope,
            context,
            entry,
            kind,
            named,
            options,
            receive,
            send,
        ).run()

    async def _named(
        self, entry: SourceFile, name: str, options: RequestOptions, context: RequestContext
    ) -> NamedPart:
        """Raises NotFound for a name that the file has not: an index of another kind above all."""
        submissions = self._dependencies.submissions
        recipe: Recipe | None = None
        parts: tuple[Part, ...] | None = None
        if submissions is not None and not entry.is_upstreams_pair:
            recipe = submissions.recipe(entry, Kind.DATA)
            if not options.hop or submissions.watched(entry, recipe, context.requester) is None:
                manifest = await submissions.published(entry, recipe)
                parts = manifest.parts if manifest is not None else None
        for part in self._names.of(entry, recipe=recipe, parts=parts):
            if part.name == name:
                return part
        for on_demand in submissions.recipes_on_demand(entry) if submissions is not None else ():
            for part in self._names.of(entry, recipe=on_demand):
                if part.name == name:
                    return part
        raise NotFound("file", f"{entry.name}/{name}")


@dataclass(slots=True)
class _PartRequest:
    """One GET or HEAD of one kind of one servable entry. Errors are raised before anything is sent."""

    dependencies: Dependencies
    describing: Describing
    retries: Retries
    raw: Concurrent
    names: Names
    published: PublishedDelivery | None
    scope: Scope
    context: RequestContext
    entry: SourceFile
    kind: Kind
    named: NamedPart | None
    """What it was asked for by; None: by its kind."""
    options: RequestOptions
    receive: Receive
    send: Send

    @property
    def method(self) -> str:
        """GET or HEAD."""
        method: str = self.scope["method"]
        return method

    async def run(self) -> None:
        """Upstream's bytes, the artifact's bytes, or the job that makes them."""
        name = self.named.name if self.named is not None else None
        if self.kind is Kind.INDEX:
            if self.named is not None:
                sidecar = self.named.sidecar
            else:
                sidecar = upstream_index(self.entry, as_upstream=self._as_upstream)
            if sidecar is not None:
                await self._upstream(sidecar.access_url, name or f"{self.entry.filename}.{sidecar.kind}")
                return
        if self._as_upstream or self.dependencies.submissions is None or self.dependencies.cache is None:
            if self.kind is not Kind.DATA:
                raise NotFound(f"upstream {self.kind}", self.entry.name)
            await self._upstream(self.entry.access_url, name or self.entry.filename)
            return
        await self._artifact(self.dependencies.submissions)

    @property
    def _as_upstream(self) -> bool:
        without = self.dependencies.submissions is None or self.dependencies.cache is None
        return self.options.raw or without

    async def _artifact(self, submissions: Submissions) -> None:
        recipe = submissions.recipe(self.entry, self.kind)
        preparation = PreparedRequest(
            self.dependencies,
            self.describing,
            self.retries,
            self.context,
            submissions,
            self.entry,
            recipe,
            self.options,
            self.receive,
            self.send,
            served=partial(self._served, submissions, recipe),
        )
        known = preparation.watched()
        if known is None and await self._served(submissions, recipe, self.entry):
            return
        if self.method == "HEAD" and self.named is None:
            raise NotFound("artifact", self.entry.name)
        client = client_of(self.context.headers)
        viewer = client is Client.VIEWER and self.dependencies.hold_viewers
        named = self.named is not None and client is not Client.NAVIGATION
        if (viewer or named) and not self.options.asynchronous:
            await preparation.held(known, browser=client is Client.VIEWER)
            return
        job = await preparation.awaited()
        self.entry = preparation.entry
        if job is None:
            return
        if client is Client.NAVIGATION:
            await self._page(job)
        elif self.named is not None:
            raise NotReady(job.job_id, retry_after(job))
        else:
            await send_accepted(preparation, job, self.names)

    async def _page(self, job: Job) -> None:
        """For a person: how far the job is, and then the file."""
        page = waiting_page(job, self.context.location, self.entry.filename)
        headers: Pairs = [
            *page.headers,
            (b"location", self.context.location(f"/jobs/{job.job_id}").encode()),
            (b"retry-after", b"%d" % retry_after(job)),
        ]
        await self.send({"type": "http.response.start", "status": 202, "headers": headers})
        await self.send({"type": "http.response.body", "body": page.body})

    async def _served(self, submissions: Submissions, recipe: Recipe, entry: SourceFile) -> bool:
        """Serve the published part; False when there is none, and nothing was sent."""
        manifest: Manifest | None = await submissions.published(entry, recipe)
        if manifest is None:
            return False
        part = manifest.part(self.kind)
        if part is None:
            raise NoSuchPart(self.kind.value, entry.name)
        part = self.names.served_as(entry, recipe, manifest, part)
        if self.named is not None and self.named.name != part.filename:
            # Asked for before it was made, when another kind of index was expected.
            raise NotFound("file", f"{entry.name}/{self.named.name}")
        assert self.published is not None  # there is one where there is a cache
        connection = Connection(self.scope, self.receive, self.send, self.options.preferred)
        try:
            await self.published.deliver(FoundPart(entry, recipe, manifest, part), connection)
        except PartMissing:
            _log.warning(
                "published part is gone", extra={"key": part.key, "request_id": self.context.request_id}
            )
            submissions.forget(entry, recipe)
            return False
        return True

    async def _upstream(self, url: str, filename: str) -> None:
        with self.raw.place(self.context.requester):
            await serve_upstream(
                self.dependencies.sources,
                self.entry,
                url,
                filename,
                self.kind,
                method=self.method,
                headers=self.context.headers,
                max_bytes=self.dependencies.source_max_bytes,
                receive=self.receive,
                send=self.send,
            )
