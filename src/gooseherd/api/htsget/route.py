"""GET, HEAD and POST /htsget/{reads,variants}/{dcc}/{local_id}; the rest goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, get_args

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gooseherd.api.allowances import Concurrent
from gooseherd.api.callers import Callers
from gooseherd.api.catalog import Catalog
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.describing import Describing
from gooseherd.api.htsget.refusals import MEDIA_TYPE
from gooseherd.api.htsget.ticket_request import (
    FORMATS,
    Datatype,
    HtsgetRefusal,
    TicketRequest,
    by_body,
    by_query,
)
from gooseherd.api.htsget.tickets import PublishedFile, Tickets
from gooseherd.api.names import Names, artifact_path
from gooseherd.api.part_response import PartMissing
from gooseherd.api.prepared_requests import PreparedRequest, send_accepted
from gooseherd.api.problems import MethodNotAllowed, Pairs
from gooseherd.api.request_context import RequestContext, context_of
from gooseherd.api.request_options import options_of
from gooseherd.api.retries import Retries
from gooseherd.api.route_parameters import body_of
from gooseherd.control.submission import Submissions
from gooseherd.domain.artifact import Kind, Manifest
from gooseherd.domain.errors import NotFound, ProcessingDisabled
from gooseherd.domain.formats import from_filename
from gooseherd.domain.keys import Recipe
from gooseherd.domain.source import AccessLevel, SourceFile

_DATATYPES: Final[tuple[Datatype, ...]] = get_args(Datatype)
_BODY_BYTES: Final = 1 << 18
"""Of a POST: a thousand regions take a quarter of that."""
_SERVICE_INFO: Final = "service-info"


class HtsgetRoute:
    """Answers with tickets. What is not made yet is held as for viewers; a client that says so gets 202."""

    def __init__(
        self,
        inside: ASGIApp,
        dependencies: Dependencies,
        catalog: Catalog,
        names: Names,
        callers: Callers,
        describing: Describing,
        retries: Retries,
    ) -> None:
        self._inside = inside
        self._dependencies = dependencies
        self._catalog = catalog
        self._names = names
        self._callers = callers
        self._describing = describing
        self._retries = retries
        self._tickets = Tickets(dependencies.cache) if dependencies.cache is not None else None
        self.places = Concurrent("tickets", per_requester=dependencies.tickets_per_requester)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Errors are raised; the middleware answers them."""
        words: list[str] = scope["path"].split("/") if scope["type"] == "http" else []
        if len(words) != 5 or words[:2] != ["", "htsget"] or words[2] not in _DATATYPES:
            await self._inside(scope, receive, send)
            return
        scope["gooseherd.route"] = "/htsget"
        datatype: Datatype = "reads" if words[2] == "reads" else "variants"
        context = context_of(scope)
        if scope["method"] not in ("GET", "HEAD", "POST"):
            raise MethodNotAllowed("GET, HEAD, OPTIONS, POST")
        entry = await self._catalog.servable(words[3], words[4], context.caller.visible)
        if scope["method"] == "POST":
            body = await body_of(Request(scope, receive), _BODY_BYTES)
            request = by_body(datatype, context.query, body)
        else:
            request = by_query(datatype, context.query)
        submissions, tickets = self._dependencies.submissions, self._tickets
        if submissions is None or tickets is None:
            raise ProcessingDisabled
        recipe = submissions.recipe(entry, Kind.INDEX)
        _check_format(datatype, entry, request, submissions.filenames(entry, recipe)[Kind.DATA])
        response = _TicketResponse(self, tickets, submissions, recipe, context, request, send)
        options = options_of(context.query, context.headers, self._dependencies.wait_max_seconds)
        prepared = PreparedRequest(
            self._dependencies,
            self._describing,
            self._retries,
            context,
            submissions,
            entry,
            recipe,
            options,
            receive,
            send,
            served=response.served,
        )
        known = prepared.watched()
        if known is None and await response.served(entry):
            return
        if scope["method"] == "HEAD":
            raise NotFound("artifact", entry.name)
        if not options.asynchronous:
            await prepared.held(known, browser=b"sec-fetch-mode" in context.headers)
            return
        job = await prepared.awaited()
        if job is not None:
            await send_accepted(prepared, job, self._names)

    async def url_of(
        self, entry: SourceFile, recipe: Recipe, manifest: Manifest, context: RequestContext
    ) -> str:
        """Where the client reads the data: by its digest, so that the ranges fit, and with what opens it.

        Clients send their credential to the ticket's address alone. So what is not public has a token.
        """
        data = manifest.part(Kind.DATA)
        assert data is not None  # every artifact has
        path = artifact_path(entry, data, self._names.served_as(entry, recipe, manifest, data).filename)
        if entry.access_level is AccessLevel.PUBLIC or context.url_token or context.caller.is_anonymous:
            return context.link(path)
        token, _ = await self._callers.token_for(context.caller, entry.dcc, entry.local_id)
        return context.address_of(f"{path}&token={token}")


@dataclass(slots=True)
class _TicketResponse:
    """The ticket of one request, if its file is published."""

    route: HtsgetRoute
    tickets: Tickets
    submissions: Submissions
    recipe: Recipe
    context: RequestContext
    request: TicketRequest
    send: Send

    async def served(self, entry: SourceFile) -> bool:
        """Whether it was; else nothing was sent."""
        manifest = await self.submissions.published(entry, self.recipe)
        if manifest is None:
            return False
        url = await self.route.url_of(entry, self.recipe, manifest, self.context)
        try:
            with self.route.places.place(self.context.requester):
                ticket = await self.tickets.ticket(PublishedFile(entry.name, manifest, url), self.request)
        except PartMissing:
            self.submissions.forget(entry, self.recipe)
            return False
        # Clients tell a ticket by its first bytes.
        body = json.dumps(ticket, separators=(",", ":")).encode()
        headers: Pairs = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        body = b"" if self.context.method == "HEAD" else body
        await self.send({"type": "http.response.body", "body": body})
        return True


def _check_format(datatype: Datatype, entry: SourceFile, request: TicketRequest, filename: str) -> None:
    """By the name that the data has, or will have: nothing need be made to know it.

    Raises:
        NotFound: it has no such records.
        HtsgetRefusal: it has them in another format.
    """
    made = from_filename(filename) or entry.file_format
    name = made.name.upper()
    if name not in FORMATS[datatype]:
        raise NotFound(f"{datatype} in file", entry.name)
    if name != request.format:
        raise HtsgetRefusal("UnsupportedFormat", f"{entry.name} is served as {name}: ask with format={name}")
