"""The quickest way to a byte range: parts that were just served, with what every response of theirs repeats.

In front of everything else. What is unusual about a request (a condition, a key, several ranges, an origin
that is not known) is left to what stands behind, which also finds a part for the first time.
"""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from gooseherd import telemetry, tracing
from gooseherd.api.addresses import network_of
from gooseherd.api.allowances import ByteBudget
from gooseherd.api.catalog import Catalog
from gooseherd.api.conditional import fixed_headers
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.file_lookups import EMPTY, FOR_A_MOMENT, KEPT, NO_FILE, NOT_KEPT, is_lookup, lookup_lines
from gooseherd.api.middleware import REQUEST_ID
from gooseherd.api.origins import Origins
from gooseherd.api.part_response import BY_NGINX, FROM_DISK, accel_headers
from gooseherd.api.problems import Pairs
from gooseherd.api.request_context import client_address, last_hops
from gooseherd.api.server.exchange import JOINED_BYTES
from gooseherd.api.server.scope import ESSENTIAL_KEY, REFUSAL_KEY, Repeat, Respond
from gooseherd.domain.artifact import Manifest, Part
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.job import Requester
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import LocalObjects
from gooseherd.domain.ports.store import STORE_AWAY
from gooseherd.domain.source import AccessLevel, Dcc, LocalId, SourceFile

_log = logging.getLogger(__name__)

_REMEMBERED: Final = 4096
"""Addresses; the one that was found longest ago is forgotten first."""
_LONGEST_ADDRESS: Final = 1024
"""Bytes: four megabytes in all. An id has 255 characters at most."""
_HOSTS: Final = 16
_NOTHING: Final = ByteRange(0, 0)
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_UNIT: Final = b"bytes="
_ONE_RANGE: Final = re.compile(rb"(\d{1,18})-(\d{1,18})?")
_ELSEWHERE: Final = frozenset(
    (
        *(b"if-match", b"if-range", b"if-none-match", b"if-unmodified-since"),
        *(b"prefer", b"authorization", b"x-api-key"),
    )
)
"""Headers that make a request one for the rooms behind."""


@dataclass(frozen=True, slots=True)
class Found:
    """A part at an address, and by what it was found: it is there as long as both are remembered."""

    entry: SourceFile
    ids: tuple[Dcc, LocalId]
    manifest_key: CacheKey
    parts: tuple[Part, ...]
    """The manifest's; the manifest itself, which may be large, is not kept from being forgotten."""
    part: Part
    accel: bytes
    """The whole response by which nginx sends it; empty: this process does."""
    lookup: bytes
    """What nginx learns that asks for the file."""
    head: bytes
    """The header lines that all its ranges share."""
    range_lines: bytes
    """Of Content-Range, what is behind the range."""
    tally: telemetry.Tally
    tally_by_nginx: telemetry.Tally


@dataclass(frozen=True, slots=True)
class _Head:
    """What the head of a request says, and the lines by which other sites' pages may read the response."""

    address: bytes
    wanted: bytes
    """The value of Range."""
    cors: bytes
    request_id: bytes
    """Empty: the client gave none that can be kept."""
    forwarded: str
    by_nginx: bool


class PublishedParts:
    """What Delivery has served from this machine's disk, by path and query."""

    def __init__(
        self, dependencies: Dependencies, catalog: Catalog, origins: Origins, budget: ByteBudget | None
    ) -> None:
        self._dependencies = dependencies
        cache: object = dependencies.cache
        self._cache = cache if isinstance(cache, LocalObjects) else None
        self._catalog = catalog
        self.by_nginx = dependencies.delivery.mode == "accel"
        """nginx is in front, and sends files."""
        self._looked_up = self.by_nginx and dependencies.delivery.lookups
        self._origins = origins
        self._budget = budget
        self._elsewhere = _ELSEWHERE | {b"traceparent"} if tracing.is_on() else _ELSEWHERE
        self._cors_lines: dict[bytes | None, bytes] = {}
        """By Host, where one is looked at."""
        self._found: OrderedDict[bytes, Found] = OrderedDict()

    def remember(
        self,
        scope: Scope,
        entry: SourceFile,
        manifest_key: CacheKey,
        manifest: Manifest,
        part: Part,
        cache_control: bytes,
    ) -> None:
        """It was found at that address, for everybody to read."""
        if entry.access_level is not AccessLevel.PUBLIC:
            return
        shared: Pairs = [
            (b"content-type", part.media_type.encode("latin-1")),
            *fixed_headers(part, cache_control),
            _NOSNIFF,
        ]
        lines = header_lines(shared)
        if lines.count(b"\n") != len(shared) or lines.count(b"\r") != len(shared):
            return  # a name with a line break: whoever sends it is refused
        address = _address(scope)
        if len(address) > _LONGEST_ADDRESS:
            return  # clients may add to a query what they like
        self._found[address] = Found(
            entry,
            (entry.dcc, entry.local_id),
            manifest_key,
            manifest.parts,
            part,
            header_lines([*accel_headers(part, cache_control, partial=True), _NOSNIFF])
            if self.by_nginx
            else b"",
            lookup_lines(part, cache_control) if self._looked_up else NO_FILE + FOR_A_MOMENT,
            lines,
            b"/%d\r\n" % part.size,
            telemetry.tally(scope["gooseherd.route"], "206", FROM_DISK[part.kind]),
            telemetry.tally(scope["gooseherd.route"], "200", BY_NGINX[part.kind]),
        )
        self._found.move_to_end(address)
        if len(self._found) > _REMEMBERED:
            self._found.popitem(last=False)

    def looked_up(self, scope: Scope) -> tuple[int, bytes] | None:
        """Status and header lines for nginx, which asks for the file at an address (file_lookups).

        None: the entry has to be read first.
        """
        found = self._found.get(_address(scope))
        if found is None or self._dependencies.holds.stopped:
            return NOT_KEPT, NO_FILE + EMPTY
        if not (self._catalog.was_just_read(found.ids) and self._is_there(found)):
            return None
        return KEPT, found.lookup if self._origins.are_alike else NO_FILE + FOR_A_MOMENT

    async def looked_up_anew(self, scope: Scope) -> tuple[int, bytes]:
        """The same, once the entry was read: what nginx keeps begins with what is stored now."""
        found = self._found.get(_address(scope))
        if found is not None:
            with suppress(*STORE_AWAY):  # the client's own request is answered why
                await self._catalog.read_just_now(found.ids)
        return self.looked_up(scope) or (NOT_KEPT, NO_FILE + EMPTY)

    def answered(self, scope: Scope, respond: Respond) -> bool:
        """Whether the response was sent; else nothing was."""
        began = time.perf_counter()
        if scope["method"] != "GET" or REFUSAL_KEY in scope or ESSENTIAL_KEY in scope:
            return False
        address = _address(scope)
        if address not in self._found:
            return False
        head = self._read(address, scope["headers"])
        if head is None or not head.wanted.startswith(_UNIT):
            return False
        return self._answer(head, head.wanted[len(_UNIT) :], scope["client"], respond, began)

    def prepare(self, scope: Scope) -> Repeat | None:
        """For other requests with the head of this one, which was answered: only their range is looked at.

        What the head says is kept, and nothing of what was found for it.
        """
        head = self._read(_address(scope), scope["headers"])
        return partial(self._repeat, head) if head is not None else None

    def _repeat(self, head: _Head, wanted: bytes, client: tuple[str, int] | None, respond: Respond) -> bool:
        return self._answer(head, wanted, client, respond, time.perf_counter())

    def _read(self, address: bytes, headers: Iterable[tuple[bytes, bytes]]) -> _Head | None:
        """What the head of a request says; None: it is one for the rooms behind."""
        wanted: bytes | None = None
        request_id, host, forwarded, by_nginx = b"", None, b"", False
        for name, value in headers:
            if name == b"range":
                if wanted is not None:
                    return None
                wanted = value
            elif name == b"x-request-id":
                request_id = value
            elif name == b"host":
                host = value
            elif name == b"x-forwarded-for":
                forwarded = forwarded + b", " + value if forwarded else value
            elif name == b"x-sendfile-type":
                by_nginx = self.by_nginx and value.lower() == b"x-accel-redirect"
            elif (name == b"origin" and not self._origins.are_alike) or name in self._elsewhere:
                return None
        cors = self._cors(host)
        if wanted is None or cors is None:
            return None
        if not REQUEST_ID.fullmatch(request_id):
            request_id = b""
        hops = last_hops(forwarded.decode("latin-1"), self._dependencies.trusted_proxies)
        return _Head(address, wanted, cors, request_id, ", ".join(hops), by_nginx)

    def _answer(
        self,
        head: _Head,
        wanted: bytes,
        client: tuple[str, int] | None,
        respond: Respond,
        began: float,
    ) -> bool:
        found = self._found.get(head.address)
        if found is None or self._dependencies.holds.stopped:
            return False
        span = _span(wanted, found.part.size)
        if span is None:
            return False
        request_id = head.request_id or self._dependencies.new_request_id().encode()
        always = b"%bx-request-id: %b\r\n" % (head.cors, request_id)
        send = self._send_by_nginx if head.by_nginx else self._send
        budget, served = self._budget, self._dependencies.served
        if budget is None and served is None:
            return send(found, span, respond, began, always)
        peer = client[0] if client else "unknown"
        payer = _payer(peer, head.forwarded, self._dependencies.trusted_proxies)
        if budget is not None:
            if budget.left(payer) <= 0:
                return False
            always += header_lines(budget.fields(payer))
        if not send(found, span, respond, began, always):
            return False
        if budget is not None:
            budget.spend(payer, len(span))
        if served is not None:
            served.count(payer, found.ids[0], len(span))
        return True

    def _cors(self, host: bytes | None) -> bytes | None:
        lines = self._cors_lines.get(host)
        if lines is None:
            pairs = self._origins.usual_cors(host)
            if pairs is None:
                return None
            lines = header_lines(pairs)
            if len(self._cors_lines) < _HOSTS:
                self._cors_lines[host] = lines
        return lines

    def _send(self, found: Found, span: ByteRange, respond: Respond, began: float, always: bytes) -> bool:
        cache = self._cache
        if cache is None or not self._is_current(found):
            return False
        small = len(span) <= JOINED_BYTES
        if not small and self._dependencies.slow_responses.full:
            return False  # perhaps this requester's; behind here it is told so
        body = cache.read_now(found.part.key, span) if small else cache.span_now(found.part.key, span)
        if body is None:
            return False
        length_and_range = b"content-length: %d\r\ncontent-range: bytes %d-%d" % (
            len(span),
            span.start,
            span.stop - 1,
        )
        if not respond(206, b"".join((found.head, always, length_and_range, found.range_lines)), body):
            return False
        found.tally.add(len(span), time.perf_counter() - began)
        return True

    def _send_by_nginx(
        self, found: Found, span: ByteRange, respond: Respond, began: float, always: bytes
    ) -> bool:
        if not self._is_there(found) or not respond(200, found.accel + always, b""):
            return False
        found.tally_by_nginx.add(len(span), time.perf_counter() - began)
        return True

    def _is_there(self, found: Found) -> bool:
        """Whether nginx, which looks later, will find it."""
        cache = self._cache
        return (
            cache is not None
            and self._is_current(found)
            and cache.read_now(found.part.key, _NOTHING) is not None
        )

    def _is_current(self, found: Found) -> bool:
        """Whether it is still what is at this address."""
        submissions = self._dependencies.submissions
        return (
            submissions is not None
            and self._catalog.remembered(found.ids) is found.entry
            and (manifest := submissions.remembered(found.manifest_key)) is not None
            and manifest.parts is found.parts
        )


def _address(scope: Scope) -> bytes:
    path: bytes = scope.get("raw_path", b"")
    query: bytes = scope.get("query_string", b"")
    return b"%b?%b" % (path, query) if query else path


def header_lines(pairs: Pairs) -> bytes:
    """As they go out."""
    return b"".join([b"%b: %b\r\n" % pair for pair in pairs])


@lru_cache(maxsize=4096)
def _payer(peer: str, forwarded_for: str, proxies: int) -> Requester:
    """Whose bytes these are: as RequestContext.requester without a key."""
    return Requester(network_of(client_address(peer, forwarded_for, proxies)))


def _span(wanted: bytes, size: int) -> ByteRange | None:
    """The one range that is asked for, if the object has it."""
    match = _ONE_RANGE.fullmatch(wanted)
    if match is None:
        return None
    start, last = int(match[1]), int(match[2]) if match[2] else size - 1
    stop = min(last + 1, size)
    return ByteRange(start, stop) if start < stop else None


class PublishedFirst:
    """Answers from PublishedParts what they can answer, and passes the rest on.

    A server that knows `answered` asks it first, and starts a task for the rest alone.
    """

    def __init__(self, parts: PublishedParts, inside: ASGIApp) -> None:
        self._parts = parts
        self._inside = inside

    def answered(self, scope: Scope, respond: Respond) -> bool:
        """Whether the response to an HTTP request was sent; else nothing was."""
        try:
            if self._parts.by_nginx and _may_look_up(scope):
                file = self._parts.looked_up(scope)
                return file is not None and respond(*file, b"")
            return self._parts.answered(scope, respond)
        except Exception:
            _log.exception("the quick way failed")
            return False

    def prepare(self, scope: Scope) -> Repeat | None:
        """What answers other requests with the head of this one, which was answered."""
        if self._parts.by_nginx and _may_look_up(scope):
            return None
        repeat = self._parts.prepare(scope)
        return partial(_unless_it_fails, repeat) if repeat is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and _may_look_up(scope):
            status, lines = await self._parts.looked_up_anew(scope)
            pairs = [line.split(b": ", 1) for line in lines.splitlines()]
            await send({"type": "http.response.start", "status": status, "headers": pairs})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._inside(scope, receive, send)


def _unless_it_fails(repeat: Repeat, wanted: bytes, client: tuple[str, int] | None, respond: Respond) -> bool:
    try:
        return repeat(wanted, client, respond)
    except Exception:
        _log.exception("the quick way failed")
        return False


def _may_look_up(scope: Scope) -> bool:
    return is_lookup(scope) and REFUSAL_KEY not in scope and ESSENTIAL_KEY not in scope
