"""What RFC 9112 demands of the headers that say whom a request is for and where its body ends."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import httptools

from gooseherd.api.server.exchange import EXTENSIONS
from gooseherd.api.server.refusals import BodyTooLarge, MalformedRequest, UnknownTransferCoding

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*(?::\d*)?|\[[0-9A-Fa-f:.]+\](?::\d*)?")
"""uri-host [ ":" port ] of RFC 9112 §3.2; it may be empty."""


def check_head(headers: Iterable[tuple[bytes, bytes]], version: str, body_limit_bytes: int) -> None:
    """§3.2 on Host, §6 on framing; names are lowercase. Length and coding together the parser refuses.

    Raises:
        MalformedRequest, UnknownTransferCoding, BodyTooLarge: it is no request that can be served.
    """
    hosts = codings = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                raise MalformedRequest("the Host header is not the name of a host")
        elif name == b"transfer-encoding":
            codings += 1
            if codings > 1 or value.strip().lower() != b"chunked":
                raise UnknownTransferCoding
        elif name == b"content-length":
            if not value.isdigit():
                raise MalformedRequest("the Content-Length header is not a number")
            if len(value) > 18 or int(value) > body_limit_bytes:
                raise BodyTooLarge(body_limit_bytes)
    if hosts > 1 or (not hosts and version != "1.0"):
        raise MalformedRequest("a request names its host in exactly one Host header")
    if codings and version == "1.0":
        raise MalformedRequest("HTTP/1.0 knows no transfer codings")


def describe_target(scope: dict[str, Any], url: bytes, parser: Any) -> None:
    """Put into the scope what the request line says. Raises HttpParserInvalidURLError."""
    parsed = httptools.parse_url(url)
    raw: bytes = parsed.path
    path = raw.decode("ascii")
    scope["method"] = parser.get_method().decode("ascii")
    scope["http_version"] = parser.get_http_version()
    scope["path"] = unquote(path) if "%" in path else path
    scope["raw_path"] = raw
    scope["query_string"] = parsed.query or b""
    scope["extensions"] = EXTENSIONS
