"""file: URLs, for the embedded profile: regular files below allowed folders, whatever symlinks say."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from gooseherd.blocking import in_thread
from gooseherd.domain.byterange import ByteRange, parse_range
from gooseherd.domain.errors import NotFound, OutboundRefused, RangeNotSatisfiable
from gooseherd.domain.ports.source import Upstream
from gooseherd.sources.urlguard import safe_url

_CHUNK: Final = 1 << 20
_SETTING: Final = "SOURCE_FILE_ROOTS"


@dataclass(frozen=True, slots=True)
class LocalFile:
    """An open file below an allowed folder; whoever has it closes `fd`."""

    fd: int
    size: int
    etag: str
    modified: str
    modified_ns: int


def judge(url: str, roots: tuple[Path, ...]) -> Path:
    """The path a URL names. By its text only, so that nobody learns from the answer what exists elsewhere.

    Raises:
        OutboundRefused: no folder is allowed, or the file is outside of all of them.
    """
    display_url = safe_url(url)
    if not roots:
        raise OutboundRefused(display_url, "scheme 'file' is not allowed", _SETTING)
    path = _path(url)
    allowed = (one for root in roots for one in (root, root.resolve()))
    if ".." in path.parts or not any(path.is_relative_to(one) for one in allowed):
        raise OutboundRefused(display_url, "file outside of the allowed folders", _SETTING)
    return path


def open_below(url: str, roots: tuple[Path, ...]) -> LocalFile:
    """Open the file a URL names. Blocks.

    Raises:
        OutboundRefused: no folder is allowed, the file is outside of all of them (also after
            its symlinks are resolved), or it is no regular file.
        NotFound: there is no such file.
    """
    display_url, path = safe_url(url), judge(url, roots)
    try:
        # O_PATH touches nothing: opening a FIFO would wait and opening a device may act.
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        raise NotFound("source", display_url) from None
    try:
        found = os.fstat(place)
        # Where the descriptor really is, symlinks resolved: cannot change between check and use.
        real = Path(f"/proc/self/fd/{place}").readlink()
        if not any(real.is_relative_to(root.resolve()) for root in roots):
            raise OutboundRefused(display_url, "file outside of the allowed folders", _SETTING)
        if not stat.S_ISREG(found.st_mode):
            raise OutboundRefused(display_url, "not a regular file")
        try:
            fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            raise OutboundRefused(display_url, "not readable") from None
    finally:
        os.close(place)
    etag = f'"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"'
    return LocalFile(fd, found.st_size, etag, formatdate(found.st_mtime, usegmt=True), found.st_mtime_ns)


def _path(url: str) -> Path:
    # Not urlsplit's path alone: '?' and '#' are letters of a file's name unless they are encoded.
    split = urlsplit(url.replace("?", "%3F").replace("#", "%23"))
    text = unquote(split.path)
    if split.netloc not in {"", "localhost"} or not text.startswith("/") or "\0" in text:
        raise OutboundRefused(safe_url(url), "must be file:///PATH")
    return Path(text)


def answer(file: LocalFile, headers: Mapping[str, str]) -> Upstream:
    """The file as an HTTP server would give it: 200, 206, 304 or 416; one range, else the whole.

    Raises:
        MalformedRange: as parse_range.
    """
    asked = {name.lower(): value for name, value in headers.items()}
    reply_headers = {"accept-ranges": "bytes", "etag": file.etag, "last-modified": file.modified}
    if asked.get("if-none-match", "").strip() in {file.etag, "*"}:
        return Upstream(304, reply_headers, _bytes(file.fd, ByteRange(0, 0)))
    wanted = asked.get("range")
    if "if-range" in asked and asked["if-range"].strip() not in {file.etag, file.modified}:
        wanted = None
    try:
        ranges = parse_range(wanted, file.size)
    except RangeNotSatisfiable:
        reply_headers |= {"content-range": f"bytes */{file.size}", "content-length": "0"}
        return Upstream(416, reply_headers, _bytes(file.fd, ByteRange(0, 0)))
    reply_headers["content-type"] = "application/octet-stream"
    if ranges is not None and len(ranges) == 1:
        span = ranges[0]
        reply_headers |= {"content-range": span.content_range(file.size), "content-length": str(len(span))}
        return Upstream(206, reply_headers, _bytes(file.fd, span))
    reply_headers["content-length"] = str(file.size)
    return Upstream(200, reply_headers, _bytes(file.fd, ByteRange(0, file.size)))


async def _bytes(fd: int, span: ByteRange) -> AsyncIterator[bytes]:
    at = span.start
    while at < span.stop and (data := await in_thread(os.pread, fd, min(_CHUNK, span.stop - at), at)):
        at += len(data)
        yield data
