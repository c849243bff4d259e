"""The outermost middleware: CORS, request ids, problems, and refusing malformed requests."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, MutableMapping
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gooseherd import logs, telemetry, tracing
from gooseherd.api.allowances import ByteBudget
from gooseherd.api.audit import Audit
from gooseherd.api.callers import Callers
from gooseherd.api.catalog import Catalog
from gooseherd.api.conditional import kept_privately
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.failed_requests import log_failed_request
from gooseherd.api.holding import Client, client_of
from gooseherd.api.htsget.refusals import PREFIX, as_htsget
from gooseherd.api.methods import Methods
from gooseherd.api.origins import Origins
from gooseherd.api.pages import problem_page
from gooseherd.api.problems import Pairs, Problem, Stopping, problem
from gooseherd.api.request_context import SCOPE_KEY, Headers, RequestContext, header_map
from gooseherd.api.server.exchange import JOINED_BYTES, ZERO_COPY
from gooseherd.api.server.refusals import MalformedRequest
from gooseherd.api.server.scope import ESSENTIAL_KEY, REFUSAL_KEY
from gooseherd.api.slow_responses import SlowResponses
from gooseherd.api.streaming import ClientDisconnected
from gooseherd.api.wrong_keys import WrongKeys
from gooseherd.control.usage import ServedBytes
from gooseherd.domain.artifact import OWN_ADDRESS
from gooseherd.domain.errors import InvalidCredential
from gooseherd.domain.job import Requester
from gooseherd.domain.source import Dcc
from gooseherd.domain.traceparent import read_traceparent, trace_id

_REFUSED: Final = 400
_BODY: Final = frozenset({"http.response.body", ZERO_COPY})
PATH_LIMIT_BYTES: Final = 2048
_WITH_BYTES: Final = frozenset({200, 206})

_FORBIDDEN_PATH = re.compile(
    rb"%(?:2f|5c|[01][0-9a-f]|7f)|%(?![0-9a-f]{2})|[\x00-\x20\x7f-\xff\\]", re.IGNORECASE
)
"""Encoded slashes, backslashes and control bytes: no id has them, and readers disagree about them."""
REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ARTIFACT = re.compile(rf"/(?:{'|'.join(OWN_ADDRESS)}|artifacts)/[^/]*/[^/]*|/files/[^/]*/[^/]*/[^/]*")

_REQUEST_HEADERS: Final = (
    b"Authorization, Range, If-Range, If-Match, If-None-Match, Prefer, Cache-Control, Content-Type, "
    b"Last-Event-ID, X-API-Key, X-Request-Id"
)
_ESSENTIAL: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""What is answered although all connections are taken, beside the admin's calls."""


class EdgeMiddleware:
    """CORS, request ids, problem+json for whatever escaped, counting; ASGI in, ASGI out.

    Behind it `scope` carries the request context. An exception before the first byte becomes a
    problem, one after it ends the connection, so that no client takes half for the whole.
    """

    def __init__(
        self,
        inside: ASGIApp,
        dependencies: Dependencies,
        origins: Origins,
        budget: ByteBudget | None,
        callers: Callers,
        methods: Methods,
        catalog: Catalog,
    ) -> None:
        self._methods = methods
        self._inside = inside
        self._callers = callers
        self._dependencies = dependencies
        self._origins = origins
        self._wrong_keys = WrongKeys(dependencies.clock)
        self._bytes = budget
        self._audit = Audit(catalog, dependencies.clock)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request (other kinds of scope pass through)."""
        if scope["type"] != "http":
            return self._inside(scope, receive, send)
        headers = header_map(scope["headers"])
        if tracing.is_on() and scope["path"] not in _ESSENTIAL:
            return self._traced(scope, headers, receive, send)
        return self._serve(scope, headers, receive, send)

    async def _traced(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """A span around it."""
        given = read_traceparent(headers.get(b"traceparent", b"").decode("latin-1"))
        with tracing.inside(tracing.begin(scope["method"], parent=given, kind=tracing.SpanKind.SERVER)):
            if (own := tracing.current_traceparent()) is not None:
                logs.bind(trace_id=trace_id(own))
            try:
                await self._serve(scope, headers, receive, send)
            finally:
                tracing.annotate(http__request__method=scope["method"], http__route=_route(scope))

    async def _serve(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        request_id = headers.get(b"x-request-id", b"")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = self._dependencies.new_request_id().encode()
        context = RequestContext(scope, headers, request_id.decode(), self._dependencies)
        scope[SCOPE_KEY] = context
        logs.bind(request_id=context.request_id)
        foreign = self._origins.is_foreign(headers)
        opened = await self._origins.opened(scope, headers) if foreign else None
        always = [
            *(opened or self._origins.cors(headers)),
            (b"x-request-id", request_id),
            (b"x-content-type-options", b"nosniff"),
        ]
        slow = self._dependencies.slow_responses
        status, complete, began = 0, False, time.perf_counter()
        waited = 0.0
        budget: ByteBudget | None = None
        payer, sent = Requester(""), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status, complete, waited, sent
            if message["type"] == "http.response.start":
                is_read = scope["method"] == "GET" and _ARTIFACT.fullmatch(scope["path"])
                if slow.full and is_read and not context.is_admin:
                    _check_slow(slow, context, message)
                status, waited = message["status"], time.perf_counter() - began
                message["headers"] = [*message.get("headers", ()), *always]
                if not context.caller.is_anonymous or context.url_token:
                    message["headers"] = _for_one_caller(message["headers"])
                if budget is not None and status < _REFUSED:
                    message["headers"] += budget.fields(payer)
                if self._dependencies.holds.stopped:
                    # The next request of this client is for the process that follows.
                    message["headers"].append((b"connection", b"close"))
            elif message["type"] in _BODY:
                complete = not message.get("more_body", False)
                count = message.get("count") or len(message.get("body", b""))
                sent += count
                if budget is not None:
                    budget.spend(payer, count)
            await send(message)

        try:
            if REFUSAL_KEY in scope:
                raise scope[REFUSAL_KEY]
            # Probes and preflights show no credentials, or some that are for others.
            essential = scope["path"] in _ESSENTIAL
            if scope["method"] != "OPTIONS" and not essential:
                _refuse_malformed(scope)
                self._origins.check_host(headers)
                await self._identify(context)
                if self._bytes is not None and not context.is_admin:
                    budget, payer = self._bytes, context.requester
            if ESSENTIAL_KEY in scope and not essential and not context.is_admin:
                raise scope[ESSENTIAL_KEY]
            self._origins.check_host(headers)
            if scope["method"] == "OPTIONS":
                allow = self._methods.allowed(scope["path"]).encode()
                await _options(allow, headers, send_with_headers, foreign=foreign and opened is None)
            else:
                if foreign and opened is None:
                    raise self._origins.refuse(headers)
                if budget is not None and scope["method"] == "GET" and _ARTIFACT.fullmatch(scope["path"]):
                    budget.check(payer)
                await self._inside(scope, receive, send_with_headers)
        except ClientDisconnected:
            pass
        except asyncio.CancelledError:
            # The server does that at the end of a shutdown, and would answer in plain text, without CORS.
            if status or not self._dependencies.holds.stopped:
                raise
            await send_problem(send_with_headers, context, Stopping(), method=scope["method"])
        except Exception as error:
            context.error = error
            if not complete:
                log_failed_request(error, context, scope["method"], begun=bool(status))
            if not status:
                await send_problem(send_with_headers, context, error, method=scope["method"])
        finally:
            route = _route(scope)
            telemetry.REQUESTS.labels(route, str(status or 499)).inc()
            tracing.annotate(http__response__status_code=status or 499, request_id=context.request_id)
            if status:
                duration = telemetry.REQUEST_DURATION.labels(route)
                (telemetry.HOLD_DURATION if context.held else duration).observe(waited)
            self._audit.note(context, status, context.error)
            if sent and status in _WITH_BYTES and self._dependencies.served is not None:
                self._count(self._dependencies.served, scope["path"], context, sent)

    @staticmethod
    def _count(served: ServedBytes, path: str, context: RequestContext, sent: int) -> None:
        """Bytes of files, whoever asked for them."""
        if _ARTIFACT.fullmatch(path):
            room, _, rest = path[1:].partition("/")
            dcc = context.collection if room == "artifacts" else Dcc(rest.partition("/")[0].lower())
            served.count(context.requester, dcc or Dcc(""), sent)

    async def _identify(self, context: RequestContext) -> None:
        """Raises InvalidCredential, or LimitReached for one of many that are none; StoreUnavailable."""
        try:
            context.caller = await self._callers.identify(context)
            context.identify = self._callers.identify
        except InvalidCredential:
            self._wrong_keys.note(context.network)
            raise


def _check_slow(slow: SlowResponses, context: RequestContext, start: Message) -> None:
    """Raises LimitReached for a response whose body may be more than the kernel takes at once."""
    length = next((value for name, value in start.get("headers", ()) if name == b"content-length"), b"")
    if start["status"] in _WITH_BYTES and (not length or int(length) > JOINED_BYTES):
        slow.check(context.requester)


def _for_one_caller(headers: Pairs) -> Pairs:
    """To whoever showed a credential: no cache keeps it for others, and no page passes its URL on."""
    kept = [
        (name, kept_privately(value)) if name == b"cache-control" else (name, value)
        for name, value in headers
    ]
    if all(name != b"referrer-policy" for name, _ in kept):
        kept.append((b"referrer-policy", b"no-referrer"))
    return [*kept, (b"vary", b"Authorization, X-API-Key")]


def problem_for(error: BaseException, context: RequestContext) -> Problem:
    """The response to `error`, as whoever made the request may read it."""
    return problem(error, instance=context.path, request_id=context.request_id, admin=context.is_admin)


async def send_problem(
    send: Send, context: RequestContext, error: BaseException, *, method: str = "GET"
) -> None:
    """Send the error's problem; a HEAD gets its headers."""
    rendered = problem_for(error, context)
    if context.path.startswith(PREFIX):
        rendered = as_htsget(rendered, error)
    elif client_of(context.headers) is Client.NAVIGATION:
        rendered = problem_page(rendered)
    await send({"type": "http.response.start", "status": rendered.status, "headers": rendered.headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else rendered.body})


async def _options(allow: bytes, headers: Headers, send: Send, *, foreign: bool = False) -> None:
    """`foreign`: a page asks that is let in nowhere, and nothing is allowed to it."""
    response_headers: Pairs = [(b"allow", allow), (b"cache-control", b"no-store")]
    if b"access-control-request-method" in headers and not foreign:
        if headers.get(b"access-control-request-private-network") == b"true":
            # Chromium asks before a public page reaches a private address; CORS above says who may.
            response_headers.append((b"access-control-allow-private-network", b"true"))
        response_headers += [
            (b"access-control-allow-methods", allow),
            (b"access-control-allow-headers", _REQUEST_HEADERS),
            (b"access-control-max-age", b"86400"),  # Chromium caps it at 7200
        ]
    await send({"type": "http.response.start", "status": 204, "headers": response_headers})
    await send({"type": "http.response.body", "body": b""})


def _refuse_malformed(scope: MutableMapping[str, Any]) -> None:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    if len(raw) > PATH_LIMIT_BYTES:
        raise MalformedRequest(f"paths are limited to {PATH_LIMIT_BYTES} bytes")
    if _FORBIDDEN_PATH.search(raw) or not scope["path"].isprintable():
        raise MalformedRequest(
            "the path holds an encoded slash, which no id has, a control byte or a broken escape"
        )


def _route(scope: MutableMapping[str, Any]) -> str:
    """The route as a metric label: from the routes there are, never from what was asked."""
    label = scope.get("gooseherd.route")
    if label is not None:
        return str(label)
    route = scope.get("route")
    return str(getattr(route, "path", "other"))
