"""Serves upstream's own bytes, with those of its headers that are true here too."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Final

from starlette.types import Receive, Send

from gooseherd import telemetry
from gooseherd.api.conditional import CACHE_CONTROL, disposition, names_tag
from gooseherd.api.problems import Pairs, PreconditionFailed
from gooseherd.api.request_context import Headers
from gooseherd.api.streaming import closing, relay
from gooseherd.domain.artifact import Kind
from gooseherd.domain.byterange import parse_range
from gooseherd.domain.errors import (
    AccessDenied,
    InvalidInput,
    NotFound,
    OutboundRefused,
    RangeNotSatisfiable,
    SourceTooLarge,
    UpstreamUnavailable,
)
from gooseherd.domain.ports.source import Sources, Upstream
from gooseherd.domain.source import Sidecar, SidecarKind, SourceFile

_PASSED_ON: Final = (b"if-range", b"if-none-match", b"if-modified-since")
_UNKNOWN_SIZE = 1 << 62
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(?:(\d{1,19})|\*)", re.ASCII)
_ONE_RANGE = re.compile(r"\s*+bytes\s*+=[\s,]*+(\d*+)\s*+-\s*+(\d*+)[\s,]*+", re.ASCII | re.IGNORECASE)
_NO_RANGE = re.compile(r"bytes \*/(\d{1,19})", re.ASCII)
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,200}"', re.ASCII)
_DATE = re.compile(r"[A-Za-z]{3}, [0-9A-Za-z :]{10,30} GMT", re.ASCII)
_DIGITS = re.compile(r"\d{1,19}", re.ASCII)


async def serve_upstream(
    sources: Sources,
    entry: SourceFile,
    url: str,
    filename: str,
    kind: Kind,
    *,
    method: str,
    headers: Headers,
    max_bytes: int,
    receive: Receive,
    send: Send,
) -> None:
    """Answer with the bytes at `url`, Range and validators passed on; nothing of files above `max_bytes`.

    Content type and file name are the catalog's, never upstream's: another host does not
    choose what a browser runs under our origin.

    Raises:
        NotFound, UpstreamUnavailable, OutboundRefused, RangeNotSatisfiable, MalformedRange, SourceTooLarge:
            before anything is sent.
    """
    head = method == "HEAD"
    asked = _request(headers, head=head)
    async with AsyncExitStack() as stack:
        try:
            upstream = await stack.enter_async_context(sources.open(url, asked))
        except NotFound:
            raise NotFound("upstream file", entry.name) from None
        except AccessDenied:
            raise UpstreamUnavailable(entry.name, 403) from None
        except InvalidInput as error:
            raise OutboundRefused(entry.name, error.problem) from None
        status = _status(upstream, entry, asked)
        if (_stated_bytes(upstream) or 0) > max_bytes:
            raise SourceTooLarge(max_bytes)
        _check_if_match(headers, upstream)
        response_headers: Pairs = [
            (
                b"content-type",
                entry.file_format.media_type.encode() if kind is Kind.DATA else b"application/octet-stream",
            ),
            (b"cache-control", CACHE_CONTROL),
            (b"content-disposition", disposition(filename)),
            *_copied(upstream, status),
        ]
        if status == 304:
            response_headers = [
                pair for pair in response_headers if pair[0] in (b"etag", b"cache-control", b"last-modified")
            ]
        body = None if head or status == 304 else _bounded(upstream.body, max_bytes)
        sent = await relay(status, response_headers, body, receive=receive, send=send)
        telemetry.BYTES_SERVED.labels(kind.value, "upstream").inc(sent)


def upstream_index(entry: SourceFile, *, as_upstream: bool) -> Sidecar | None:
    """The index that is served as upstream has it: what viewers read (tbi, bai) before the rest.

    `as_upstream`: so are the data. Otherwise one that can be checked is in the artifact, if it fits.
    """
    if not as_upstream:
        return entry.unchecked_index if entry.is_upstreams_pair else None
    order = list(SidecarKind)
    return min(entry.sidecars, key=lambda sidecar: order.index(sidecar.kind), default=None)


def _request(headers: Headers, *, head: bool) -> dict[str, str]:
    passed = {"Accept-Encoding": "identity"}
    for name in _PASSED_ON:
        if name in headers:
            passed[name.decode()] = headers[name].decode("latin-1")
    wanted = headers.get(b"range", b"").decode("latin-1")
    if wanted and not head:
        # One range passes; of several the whole is sent, which is as right (RFC 9110 §14.2).
        one = _ONE_RANGE.fullmatch(wanted)
        try:
            readable = parse_range(wanted, _UNKNOWN_SIZE) is not None
        except RangeNotSatisfiable:
            readable = True  # its size is upstream's to tell
        if readable and one:
            passed["Range"] = f"bytes={one[1]}-{one[2]}"
    return passed


def _status(upstream: Upstream, entry: SourceFile, asked: Mapping[str, str]) -> int:
    """What the client is told; an answer to something that was not asked is none."""
    status = upstream.status
    if status == 416 and "Range" in asked:
        size = _NO_RANGE.fullmatch(upstream.headers.get("content-range", ""))
        known = int(size[1]) if size else entry.size_in_bytes
        raise RangeNotSatisfiable(known if known is not None else 0)
    if status in (404, 410):
        raise NotFound("upstream file", entry.name)
    conditional = "if-none-match" in asked or "if-modified-since" in asked
    if status == 200 or (status == 304 and conditional) or (status == 206 and _is_asked_for(upstream, asked)):
        return status
    raise UpstreamUnavailable(entry.name, status)


def _is_asked_for(upstream: Upstream, asked: Mapping[str, str]) -> bool:
    """Whether a partial response is of the range that was asked for, and as long as it says."""
    wanted = _ONE_RANGE.fullmatch(asked.get("Range", ""))
    sent = _CONTENT_RANGE.fullmatch(upstream.headers.get("content-range", ""))
    if wanted is None or sent is None:
        return False
    first, last, size = int(sent[1]), int(sent[2]), int(sent[3]) if sent[3] else None
    count = last - first + 1
    if count < 1 or (size is not None and last >= size):
        return False
    length = upstream.headers.get("content-length", "")
    if _DIGITS.fullmatch(length) and int(length) != count:
        return False
    if not wanted[1]:  # the last so many
        return count <= int(wanted[2]) and (size is None or last == size - 1)
    return first == int(wanted[1]) and (not wanted[2] or last <= int(wanted[2]))


def _stated_bytes(upstream: Upstream) -> int | None:
    """The whole file's size, as far as the response tells."""
    if upstream.status == 206:
        sent = _CONTENT_RANGE.fullmatch(upstream.headers.get("content-range", ""))
        return int(sent[3]) if sent and sent[3] else None
    length = upstream.headers.get("content-length", "")
    return int(length) if upstream.status == 200 and _DIGITS.fullmatch(length) else None


async def _bounded(body: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """The body of a response that did not say how long it is ends in an error where it gets too long."""
    sent = 0
    async with closing(body):
        async for chunk in body:
            sent += len(chunk)
            if sent > max_bytes:
                raise SourceTooLarge(max_bytes)
            yield chunk


def _check_if_match(headers: Headers, upstream: Upstream) -> None:
    """If-Match is ours to judge: few upstream servers do, and after a 304 nothing was asked."""
    wanted, etag = headers.get(b"if-match"), upstream.headers.get("etag", "")
    if wanted is not None and not names_tag(wanted, etag.encode("latin-1", "replace"), weak=False):
        raise PreconditionFailed(etag if _ETAG.fullmatch(etag) else '""')


def _copied(upstream: Upstream, status: int) -> Pairs:
    rules = {"etag": _ETAG, "last-modified": _DATE}
    if upstream.headers.get("content-encoding", "identity") == "identity":
        rules["content-length"] = _DIGITS
    if status == 206:
        rules["content-range"] = _CONTENT_RANGE
    found: Pairs = [
        (name.encode(), upstream.headers[name].encode("ascii"))
        for name, rule in rules.items()
        if rule.fullmatch(upstream.headers.get(name, ""))
    ]
    if status == 206 or upstream.headers.get("accept-ranges") == "bytes":
        found.append((b"accept-ranges", b"bytes"))
    return found
