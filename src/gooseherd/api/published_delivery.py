"""Delivers a published part as this deployment does it: by this process, a redirect, or nginx in front."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive, Scope, Send

from gooseherd.api.artifact_delivery import Redirects
from gooseherd.api.catalog import Catalog
from gooseherd.api.conditional import (
    CACHE_CONTROL,
    IMMUTABLE,
    PRIVATE,
    PRIVATE_IMMUTABLE,
    decide,
    names_tag,
)
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.holding import Client, client_of
from gooseherd.api.names import Names, artifact_path
from gooseherd.api.part_response import PartMissing, PartRequest, PartResponses
from gooseherd.api.problems import NotYetPublished, Pairs
from gooseherd.api.published_parts import PublishedParts
from gooseherd.api.request_context import RequestContext, context_of
from gooseherd.api.request_options import options_of
from gooseherd.api.server.exchange import ZERO_COPY
from gooseherd.control.submission import Submissions
from gooseherd.domain.artifact import Kind, Manifest, Part
from gooseherd.domain.errors import CacheUnavailable, InvalidInput, NotFound, ProcessingDisabled
from gooseherd.domain.keys import MANIFEST, Recipe, cache_key
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.source import AccessLevel, SourceFile

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FoundPart:
    """A part of a published artifact, under its name for this entry."""

    entry: SourceFile
    recipe: Recipe
    manifest: Manifest
    part: Part

    @property
    def is_public(self) -> bool:
        """Whether everybody may keep it."""
        return self.entry.access_level is AccessLevel.PUBLIC


@dataclass(frozen=True, slots=True)
class Connection:
    """A request for a part, by the means of ASGI."""

    scope: Scope
    receive: Receive
    send: Send
    preferred_wait: int | None = None


class PublishedDelivery:
    """Delivers parts that are known to be published, to callers who may have them."""

    def __init__(self, dependencies: Dependencies, cache: CacheBackend, parts: PublishedParts) -> None:
        self._mode = dependencies.delivery.mode
        self._seconds = dependencies.delivery.redirect_seconds
        self._own = dependencies.delivery.base_url is None and dependencies.delivery.signed is None
        self._redirects = Redirects(dependencies.delivery)
        self._responses = PartResponses(cache, by_nginx=self._mode == "accel")
        self._parts = parts

    async def deliver(self, found: FoundPart, connection: Connection) -> None:
        """Answer a request at an address whose bytes may change.

        Raises:
            PartMissing: the cache has it no more; nothing was sent.
        """
        if self._mode == "redirect" and connection.scope["method"] == "GET":
            context = context_of(connection.scope)
            location = await self._location(found, context)
            if location is not None:
                await self._redirect(found, context, location, connection.send)
                return
        await self._respond(found, connection, CACHE_CONTROL if found.is_public else PRIVATE)

    async def deliver_immutable(self, found: FoundPart, connection: Connection) -> None:
        """Answer a request at an address that names the digest. Raises PartMissing."""
        await self._respond(found, connection, IMMUTABLE if found.is_public else PRIVATE_IMMUTABLE)

    async def _respond(self, found: FoundPart, connection: Connection, cache_control: bytes) -> None:
        scope = connection.scope
        request = PartRequest(
            scope["method"],
            context_of(scope).headers,
            connection.receive,
            connection.send,
            zero_copy=ZERO_COPY in scope.get("extensions", ()),
            preferred_wait=connection.preferred_wait,
        )
        await self._responses.send(found.part, request, cache_control=cache_control)
        query = scope["query_string"]
        if not query or (cache_control is IMMUTABLE and b"token" not in query):
            key = cache_key(found.entry.identity, found.recipe, MANIFEST)
            self._parts.remember(scope, found.entry, key, found.manifest, found.part, cache_control)

    async def _location(self, found: FoundPart, context: RequestContext) -> str | None:
        if not self._own:
            return await self._redirects.elsewhere(found.entry, found.part)
        path = artifact_path(found.entry, found.part, found.part.filename)
        # IGV desktop follows absolute addresses only; a path is right behind any proxy.
        viewer = client_of(context.headers) is Client.VIEWER
        return context.path_link(path) if viewer else context.link(path)

    async def _redirect(self, found: FoundPart, context: RequestContext, location: str, send: Send) -> None:
        wanted = context.headers.get(b"if-none-match")
        if wanted is not None and names_tag(wanted, found.part.etag.encode(), weak=True):
            cache_control = CACHE_CONTROL if found.is_public else PRIVATE
            unchanged = decide(found.part, {b"if-none-match": wanted}, cache_control=cache_control)
            await send({"type": "http.response.start", "status": 304, "headers": unchanged.headers})
            await send({"type": "http.response.body", "body": b""})
            return
        kept_by = b"public" if found.is_public else b"private"
        headers: Pairs = [
            (b"location", location.encode("latin-1")),
            (b"cache-control", b"%b, max-age=%d" % (kept_by, self._seconds)),
            (b"content-length", b"0"),
        ]
        await send({"type": "http.response.start", "status": 307, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


class ArtifactRoute:
    """GET and HEAD /artifacts/{digest}/{name}?of=DCC/ID: bytes that never change, by their digest."""

    def __init__(
        self, dependencies: Dependencies, catalog: Catalog, names: Names, delivery: PublishedDelivery | None
    ) -> None:
        self._dependencies = dependencies
        self._catalog = catalog
        self._names = names
        self._delivery = delivery

    async def serve(self, digest: str, name: str, connection: Connection) -> None:
        """The access rules are those of the entry. Starts no work."""
        submissions, delivery = self._dependencies.submissions, self._delivery
        if submissions is None or delivery is None:
            raise ProcessingDisabled
        context = context_of(connection.scope)
        of = options_of(context.query, context.headers, 0).of
        dcc, slash, local_id = (of or "").partition("/")
        if not slash:
            raise InvalidInput(
                "of", "must name the entry, as the addresses that this service lists do: DCC/ID"
            )
        if not _DIGEST.fullmatch(digest):
            raise NotFound("artifact", digest[:64])
        entry = await self._catalog.servable(dcc, local_id, context.caller.visible)
        context.collection = entry.dcc
        for _ in range(2):
            found = await self._found(submissions, entry, digest, name)
            try:
                await delivery.deliver_immutable(found, connection)
            except PartMissing:
                submissions.forget(entry, found.recipe)
            else:
                return
        raise CacheUnavailable("reading a published part")

    async def _found(self, submissions: Submissions, entry: SourceFile, digest: str, name: str) -> FoundPart:
        """Raises NotFound, NotYetPublished."""
        usual = submissions.recipe(entry, Kind.DATA)
        published = False
        for recipe in (usual, *submissions.recipes_on_demand(entry)):
            manifest = await submissions.published(entry, recipe)
            if manifest is None:
                continue
            published = True
            part = next((part for part in manifest.parts if part.sha256 == digest), None)
            served = part and self._names.served_as(entry, recipe, manifest, part)
            if served is not None and served.filename == name:
                return FoundPart(entry, recipe, manifest, served)
        if not published:
            raise NotYetPublished("artifact", entry.name)
        raise NotFound("artifact", f"{digest}/{name}")
