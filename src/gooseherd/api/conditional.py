"""What to answer for a published part: preconditions and ranges of RFC 9110, decided without I/O."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from gooseherd.api.coded_parts import may_be_coded
from gooseherd.api.problems import Pairs, PreconditionFailed
from gooseherd.api.request_context import Headers
from gooseherd.domain.artifact import Part
from gooseherd.domain.byterange import ByteRange, parse_range

CACHE_CONTROL: Final = b"public, max-age=300, no-transform"
"""The URL is mutable (a changed source gives other bytes), so minutes, not years; a viewer
revalidates with the strong ETag. `no-transform`: a proxy that compresses breaks ranges."""
PRIVATE: Final = b"private, max-age=300, no-transform"
"""Of an entry that is not for everybody: no shared cache keeps it."""
SHARED_SECONDS: Final = 300
IMMUTABLE: Final = b"public, max-age=31536000, s-maxage=%d, immutable, no-transform" % SHARED_SECONDS
"""What is at such an address never changes, but who may read it does: a shared cache (RFC 9111 §5.2.2.10)
asks again by ETag, and learns of an entry that is no longer for everybody. A browser keeps what it read."""
PRIVATE_IMMUTABLE: Final = b"private, max-age=31536000, immutable, no-transform"

_OVERHEAD = 160
"""About what the framing of one more part costs; smaller gaps are sent rather than framed."""
_SHARED = re.compile(rb"s-maxage=[0-9]+, ")
_TAG = re.compile(rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*+")\s*+(?:,|$)')


@dataclass(frozen=True, slots=True)
class ConditionalResponse:
    """Status, headers, and the body as literal bytes and spans of the part, in order."""

    status: int
    headers: Pairs
    segments: tuple[bytes | ByteRange, ...] = ()
    length: int = 0


def decide(
    part: Part, headers: Headers, *, head: bool = False, cache_control: bytes = CACHE_CONTROL
) -> ConditionalResponse:
    """The answer to a GET (or HEAD) of `part`, in the order of RFC 9110 §13.2.2.

    Raises:
        PreconditionFailed: If-Match.
        MalformedRange, RangeNotSatisfiable: the Range header, when it counts.
    """
    etag = part.etag.encode()
    if_match = headers.get(b"if-match")
    if if_match is not None and not names_tag(if_match, etag, weak=False):
        raise PreconditionFailed(part.etag)
    if_none_match = headers.get(b"if-none-match")
    if if_none_match is not None and names_tag(if_none_match, etag, weak=True):
        return _not_modified(part, etag, cache_control)
    wanted = None if head else headers.get(b"range")  # Range has a meaning for GET alone (§14.2)
    if_range = headers.get(b"if-range")
    if if_range is not None and if_range.strip() != etag:
        wanted = None  # a weak tag or a date never proves that the bytes are the same (§13.1.5)
    spans = parse_range(wanted.decode("latin-1"), part.size) if wanted is not None else None
    if spans is None:
        return _whole(part, cache_control, head=head)
    spans = coalesce(spans)
    if len(spans) == 1:
        return _single(part, spans[0], cache_control)
    return _multi(part, spans, cache_control)


def decide_coded(
    part: Part, coded: bytes, headers: Headers, *, head: bool, cache_control: bytes
) -> ConditionalResponse:
    """The same for the gzip-coded part, without If-Match, Range and If-Range. It has an ETag of its own."""
    etag = f'"{part.sha256}-gzip"'.encode()
    if_none_match = headers.get(b"if-none-match")
    for tag in (etag, part.etag.encode()):  # whoever has the bytes uncoded has them
        if if_none_match is not None and names_tag(if_none_match, tag, weak=True):
            return _not_modified(part, tag, cache_control)
    pairs = [
        (b"content-type", part.media_type.encode("latin-1")),
        (b"content-encoding", b"gzip"),
        (b"content-length", b"%d" % len(coded)),
        *((name, etag if name == b"etag" else value) for name, value in fixed_headers(part, cache_control)),
    ]
    return ConditionalResponse(200, pairs, () if head else (coded,), 0 if head else len(coded))


def kept_privately(cache_control: bytes) -> bytes:
    """The same for a response to somebody who showed a credential: no shared cache keeps it."""
    return _SHARED.sub(b"", cache_control.replace(b"public", b"private", 1))


def _not_modified(part: Part, etag: bytes, cache_control: bytes) -> ConditionalResponse:
    kept = [pair for pair in fixed_headers(part, cache_control) if pair[0] in (b"vary", b"accept-ranges")]
    return ConditionalResponse(304, [(b"etag", etag), (b"cache-control", cache_control), *kept])


def coalesce(spans: Sequence[ByteRange]) -> tuple[ByteRange, ...]:
    """The same bytes, none twice: in the order asked unless some overlap or nearly touch (§15.3.7.2).

    What is sent is therefore never more than the object, however often a range is repeated.
    """
    ordered = sorted(spans)
    merged = [ordered[0]]
    for span in ordered[1:]:
        last = merged[-1]
        if span.start <= last.stop + _OVERHEAD:
            merged[-1] = ByteRange(last.start, max(last.stop, span.stop))
        else:
            merged.append(span)
    return tuple(spans) if len(merged) == len(spans) else tuple(merged)


@lru_cache(maxsize=4096)
def fixed_headers(part: Part, cache_control: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Those that responses with bytes of `part` have, whichever bytes."""
    varies = ((b"vary", b"Accept-Encoding"),) if may_be_coded(part) else ()
    return (
        *varies,
        (b"etag", part.etag.encode()),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", cache_control),
        (b"content-disposition", disposition(part.filename)),
    )


def _whole(part: Part, cache_control: bytes, *, head: bool) -> ConditionalResponse:
    headers = [
        (b"content-type", part.media_type.encode("latin-1")),
        (b"content-length", b"%d" % part.size),
        *fixed_headers(part, cache_control),
    ]
    if head or not part.size:
        return ConditionalResponse(200, headers)
    return ConditionalResponse(200, headers, (ByteRange(0, part.size),), part.size)


def _single(part: Part, span: ByteRange, cache_control: bytes) -> ConditionalResponse:
    headers = [
        (b"content-type", part.media_type.encode("latin-1")),
        (b"content-length", b"%d" % len(span)),
        (b"content-range", span.content_range(part.size).encode()),
        *fixed_headers(part, cache_control),
    ]
    return ConditionalResponse(206, headers, (span,), len(span))


def _multi(part: Part, spans: tuple[ByteRange, ...], cache_control: bytes) -> ConditionalResponse:
    # Nobody can write content that holds its own digest's digest, so the boundary is not in the body.
    boundary = hashlib.sha256(part.etag.encode()).hexdigest()[:32].encode()
    segments: list[bytes | ByteRange] = []
    for span in spans:
        segments.append(
            (b"\r\n" if segments else b"")
            + b"--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n"
            % (boundary, part.media_type.encode("latin-1"), span.content_range(part.size).encode())
        )
        segments.append(span)
    segments.append(b"\r\n--%s--\r\n" % boundary)
    length = sum(map(len, segments))
    headers = [
        (b"content-type", b"multipart/byteranges; boundary=" + boundary),
        (b"content-length", b"%d" % length),
        *fixed_headers(part, cache_control),
    ]
    return ConditionalResponse(206, headers, tuple(segments), length)


def names_tag(header: bytes, etag: bytes, *, weak: bool) -> bool:
    """Whether the entity-tag list names `etag`; weak comparison ignores the W/ (§8.8.3.2)."""
    if header.strip() == b"*":
        return True
    return any(tag == etag and (weak or not is_weak) for is_weak, tag in _TAG.findall(header))


def disposition(filename: str) -> bytes:
    """Content-Disposition for saving under `filename`: ASCII fallback and RFC 8187 form."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in filename)
    value = f'attachment; filename="{plain}"'
    if plain != filename:
        value += f"; filename*=UTF-8''{quote(filename, safe='')}"
    return value.encode("ascii")
