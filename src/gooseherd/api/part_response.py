"""Sends one published part: its bytes, or where they are to be had without this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive, Send

from gooseherd import telemetry
from gooseherd.api.conditional import ConditionalResponse, decide
from gooseherd.api.request_context import Headers
from gooseherd.api.server.exchange import JOINED_BYTES
from gooseherd.api.streaming import Chunk, closing, relay
from gooseherd.domain.artifact import Kind, Part
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import CacheUnavailable, RangeNotSatisfiable
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import CacheBackend, LocalObjects

BYTES_SERVED: Final = {kind: telemetry.BYTES_SERVED.labels(kind.value) for kind in Kind}


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


async def send_part(cache: CacheBackend, part: Part, request: PartRequest, *, cache_control: bytes) -> None:
    """The response to `request`, in the order of RFC 9110 §13.2.2.

    Raises:
        PartMissing, CacheUnavailable, PreconditionFailed, MalformedRange, RangeNotSatisfiable: before
            anything is sent.
    """
    answer = decide(part, request.headers, head=request.method == "HEAD", cache_control=cache_control)
    # What the answer's own first read will not tell must be asked for: a HEAD, an empty
    # object, and a multipart body, which starts with words of ours.
    unread = answer.status == 200 and not answer.segments
    if (unread or len(answer.segments) > 1) and await cache.head(part.key) is None:
        raise PartMissing
    if request.preferred_wait is not None:
        answer.headers.append((b"preference-applied", b"wait=%d" % request.preferred_wait))
    sent = await relay(
        answer.status,
        answer.headers,
        _body(cache, part.key, answer, zero_copy=request.zero_copy),
        receive=request.receive,
        send=request.send,
    )
    BYTES_SERVED[part.kind].inc(sent)


def _body(
    cache: CacheBackend, key: CacheKey, answer: ConditionalResponse, *, zero_copy: bool
) -> AsyncIterator[Chunk] | None:
    return _chunks(cache, key, answer.segments, zero_copy=zero_copy) if answer.segments else None


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
