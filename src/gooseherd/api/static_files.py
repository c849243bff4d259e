"""The pages at / and /docs, and /static: files that the build of web/ left beside this module."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from gooseherd.api.artifact_delivery import ArtifactDelivery
from gooseherd.api.coded_parts import accepts_gzip
from gooseherd.api.conditional import names_tag
from gooseherd.api.problems import MethodNotAllowed, Pairs
from gooseherd.api.request_context import Headers, context_of
from gooseherd.blocking import in_thread
from gooseherd.domain.errors import NotFound

FOLDER: Final = Path(__file__).parent / "static"
PAGES: Final = {"/": "index.html", "/docs": "docs.html"}

_TYPES: Final = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".ts": b"text/plain; charset=utf-8",
    ".txt": b"text/plain; charset=utf-8",
}
_CONTENT_IN_NAME: Final = re.compile(r"-[0-9a-f]{10}\.[a-z]+")
_YEAR: Final = b"public, max-age=31536000, immutable"
_REVALIDATED: Final = b"no-cache"
"""Kept, and asked for again each time: a new build gives other bytes."""


def page_policy(delivery: ArtifactDelivery | None = None) -> bytes:
    """The Content-Security-Policy of our pages: all from here, no script in the page's text.

    igv.js and RapiDoc put styles into what they draw, and icons as data. Files are read from where requests
    for them are redirected, too.
    """
    connect = ["'self'", "data:", "blob:"]
    if delivery is not None and delivery.signed is not None:
        # Known when an address is signed: the bucket's, or a local cloud's.
        connect += ["https:", "http://127.0.0.1:*", "http://localhost:*"]
    elif delivery is not None and delivery.base_url is not None:
        url = urlsplit(delivery.base_url)
        connect.append(f"{url.scheme}://{url.netloc}")
    return (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        f"connect-src {' '.join(connect)}; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ).encode()


@dataclass(frozen=True, slots=True)
class _File:
    """Kept in memory once asked for: a closed set, 4 MB in all."""

    content: bytes
    compressed: bytes
    etag: bytes


class StaticFiles:
    """Serves our pages to browsers, and /static/NAME to all; the rest goes on."""

    def __init__(
        self, inside: ASGIApp, *, folder: Path = FOLDER, delivery: ArtifactDelivery | None = None
    ) -> None:
        self._inside = inside
        self._folder = folder
        self._names = frozenset(path.name for path in folder.iterdir() if path.suffix in _TYPES)
        self._policy = page_policy(delivery)
        self._loading: dict[str, asyncio.Task[_File]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Errors are raised; the middleware answers them."""
        path: str = scope["path"] if scope["type"] == "http" else ""
        if path.startswith("/static/"):
            if scope["method"] not in ("GET", "HEAD"):
                raise MethodNotAllowed("GET, HEAD, OPTIONS")
            name, scope["gooseherd.route"] = path.removeprefix("/static/"), "/static"
            if name not in self._names:
                raise NotFound("file", path)
        elif path in PAGES and scope["method"] in ("GET", "HEAD") and _wants_page(path, scope):
            name, scope["gooseherd.route"] = PAGES[path], path
        else:
            await self._inside(scope, receive, send)
            return
        await self._serve(name, context_of(scope).headers, scope["method"], send)

    async def _serve(self, name: str, asked: Headers, method: str, send: Send) -> None:
        file = await self._file(name)
        compressed = accepts_gzip(asked.get(b"accept-encoding"))
        body = file.compressed if compressed else file.content
        etag = b'"%s-gzip"' % file.etag if compressed else b'"%s"' % file.etag
        headers: Pairs = [
            (b"etag", etag),
            (b"cache-control", _YEAR if _CONTENT_IN_NAME.search(name) else _REVALIDATED),
            (b"vary", b"Accept, Accept-Encoding" if name in PAGES.values() else b"Accept-Encoding"),
        ]
        known = asked.get(b"if-none-match")
        if known is not None and names_tag(known, etag, weak=True):
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        suffix = Path(name).suffix
        headers += [(b"content-type", _TYPES[suffix]), (b"content-length", b"%d" % len(body))]
        if compressed:
            headers.append((b"content-encoding", b"gzip"))
        if suffix == ".html":
            headers += [(b"content-security-policy", self._policy), (b"referrer-policy", b"no-referrer")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})

    async def _file(self, name: str) -> _File:
        """Read and compressed in a thread, once, whoever asks meanwhile."""
        task = self._loading.get(name)
        if task is None:
            task = self._loading[name] = asyncio.create_task(in_thread(_read, self._folder / name))
        try:
            return await asyncio.shield(task)
        except OSError:
            self._loading.pop(name, None)
            raise


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(
        content, gzip.compress(content, 9, mtime=0), hashlib.sha256(content).hexdigest()[:32].encode()
    )


def _wants_page(path: str, scope: Scope) -> bool:
    """Programs that ask for / get the list of entry points."""
    return path != "/" or b"text/html" in context_of(scope).headers.get(b"accept", b"")
