"""Sends one published part: its bytes, or where they are to be had without this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from prometheus_client import Counter
from starlette.types import Receive, Send

from gooseherd import telemetry
from gooseherd.api.artifact_delivery import ACCEL_PREFIX, PLAIN
from gooseherd.api.coded_parts import CodedParts, accepts_gzip, may_be_coded
from gooseherd.api.conditional import ConditionalResponse, decide, decide_coded, fixed_headers
from gooseherd.api.problems import Pairs
from gooseherd.api.request_context import Headers
from gooseherd.api.server.exchange import JOINED_BYTES
from gooseherd.api.streaming import Chunk, closing, relay
from gooseherd.domain.artifact import Kind, Part
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import CacheUnavailable, RangeNotSatisfiable
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import CacheBackend, LocalObjects

_Counters = Mapping[Kind, Counter]


def _counters(source: str) -> _Counters:
    return {kind: telemetry.BYTES_SERVED.labels(kind.value, source) for kind in Kind}


FROM_DISK: Final = _counters("disk")
BY_NGINX: Final = _counters("nginx")
_FROM_STORAGE: Final = _counters("storage")


_UNCODED: Final = frozenset({b"range", b"if-range", b"if-match"})
"""Requests with one of these are about the bytes as they are stored."""


_BY_FILE: Final = frozenset({b"if-match", b"if-unmodified-since"})


class PartMissing(Exception):
    """The manifest names the part and the cache has it no more. Nothing was sent."""


@dataclass(frozen=True, slots=True)
class PartRequest:
    """One GET or HEAD of a part that may be read, and how to answer it."""

    method: str
    headers: Headers
    receive: Receive
    send: Send
    zero_copy: bool
    """The server can send from a file."""
    preferred_wait: int | None = None
    """The wait granted to a Prefer header, to be told back."""


class PartResponses:
    """Answers with the bytes of parts, coded where that pays and the client takes it, or lets nginx do it."""

    def __init__(self, cache: CacheBackend, *, by_nginx: bool) -> None:
        self._cache = cache
        self._coded = CodedParts(cache)
        self._by_nginx = by_nginx
        self._bytes_served = FROM_DISK if isinstance(cache, LocalObjects) else _FROM_STORAGE

    async def send(self, part: Part, request: PartRequest, *, cache_control: bytes) -> None:
        """The response to `request`, in the order of RFC 9110 §13.2.2.

        Raises:
            PartMissing, CacheUnavailable, PreconditionFailed, MalformedRange, RangeNotSatisfiable: before
                anything is sent.
        """
        headers, head = request.headers, request.method == "HEAD"
        coded = await self._coded.of(part) if _takes_coded(part, headers) else None
        if coded is not None:
            answer = decide_coded(part, coded, headers, head=head, cache_control=cache_control)
        else:
            answer = decide(part, headers, head=head, cache_control=cache_control)
        accel = self._by_nginx and coded is None and bool(answer.segments) and takes_accel(headers)
        # What the answer's own first read will not tell must be asked for: a HEAD, an empty
        # object, and a multipart body, which starts with words of ours.
        unread = answer.status == 200 and not answer.segments
        if (unread or accel or coded or len(answer.segments) > 1) and await self._cache.head(
            part.key
        ) is None:
            raise PartMissing
        if request.preferred_wait is not None:
            answer.headers.append((b"preference-applied", b"wait=%d" % request.preferred_wait))
        if accel:
            await _send_by_nginx(part, answer, request.send, cache_control)
            BY_NGINX[part.kind].inc(answer.length)
            return
        body = _chunks(self._cache, part.key, answer.segments, zero_copy=request.zero_copy)
        sent = await relay(
            answer.status,
            answer.headers,
            body if answer.segments else None,
            receive=request.receive,
            send=request.send,
        )
        self._bytes_served[part.kind].inc(sent)


def takes_accel(headers: Headers) -> bool:
    """Whether nginx is in front and sends files (its configuration says so), and may judge the conditions.

    If-Match and If-Unmodified-Since it would compare with what it has itself.
    """
    return headers.get(b"x-sendfile-type", b"").lower() == b"x-accel-redirect" and _BY_FILE.isdisjoint(
        headers
    )


def accel_headers(part: Part, cache_control: bytes, *, partial: bool) -> Pairs:
    """What nginx needs to send the part; the range it takes from the request."""
    path = ACCEL_PREFIX + quote(part.key, safe=PLAIN)
    return [
        (b"content-type", part.media_type.encode("latin-1")),
        (b"content-length", b"0"),
        # With a whole file nginx says itself that it knows ranges, with a range it does not.
        *(pair for pair in fixed_headers(part, cache_control) if partial or pair[0] != b"accept-ranges"),
        (b"x-accel-redirect", path.encode("ascii")),
    ]


async def _send_by_nginx(part: Part, answer: ConditionalResponse, send: Send, cache_control: bytes) -> None:
    headers = accel_headers(part, cache_control, partial=answer.status == 206)
    headers += [pair for pair in answer.headers if pair[0] == b"preference-applied"]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    # `count` is of what nginx sends, for whoever counts bytes.
    await send({"type": "http.response.body", "body": b"", "count": answer.length})


def _takes_coded(part: Part, headers: Headers) -> bool:
    return (
        may_be_coded(part) and _UNCODED.isdisjoint(headers) and accepts_gzip(headers.get(b"accept-encoding"))
    )


async def _chunks(
    cache: CacheBackend, key: CacheKey, segments: tuple[bytes | ByteRange, ...], *, zero_copy: bool
) -> AsyncIterator[Chunk]:
    for segment in segments:
        if isinstance(segment, bytes):
            yield segment
            continue
        got = 0
        try:
            stream: AsyncIterator[Chunk]
            # A small range is copied sooner than a thread has been asked to send it.
            if zero_copy and len(segment) > JOINED_BYTES and isinstance(cache, LocalObjects):
                stream = cache.spans(key, segment)
            else:
                stream = cache.get(key, segment)
            async with closing(stream):
                async for chunk in stream:
                    got += len(chunk) if isinstance(chunk, bytes) else chunk.count
                    yield chunk
        except RangeNotSatisfiable:
            # The client's range lies in the part; it is the stored object that is too short.
            raise CacheUnavailable("reading a part that is shorter than it was") from None
        if not got and segment is segments[0]:
            raise PartMissing
        if got != len(segment):
            raise CacheUnavailable("reading a part to its end")
