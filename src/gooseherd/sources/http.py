"""The Sources port: https, drs, s3 and, where allowed, file URLs, behind one guard."""

from __future__ import annotations

import asyncio
import logging
import os
import random as randomness
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gooseherd.blocking import in_thread, in_thread_or_undo
from gooseherd.domain.errors import AccessDenied, InvalidInput, NotFound, OutboundRefused
from gooseherd.domain.failures import Reason
from gooseherd.domain.ports.source import Fetched, Pausing, SourceDetails, Sources, Upstream, ignore_pause
from gooseherd.domain.processing import StepFailed
from gooseherd.domain.source import SourceFile
from gooseherd.sources import localfile
from gooseherd.sources.download import Download, is_verbatim, too_large
from gooseherd.sources.drs import Drs, Place
from gooseherd.sources.guarded import GuardedHttp
from gooseherd.sources.retry_policy import RetryPolicy, TransientFailure
from gooseherd.sources.s3 import S3Endpoint
from gooseherd.sources.sink import Sink
from gooseherd.sources.urlguard import UrlGuard, safe_url

if TYPE_CHECKING:
    import aiohttp

    from gooseherd.sources.private import PrivateAccess

log = logging.getLogger(__name__)

_PASSED_ON: Final = frozenset({"range", "if-range", "if-none-match", "if-modified-since"})
_PASSED_BACK: Final = (
    *("Content-Type", "Content-Length", "Content-Range", "Accept-Ranges"),
    *("ETag", "Last-Modified", "Content-Disposition"),
)
_PROGRESS: Final = 1 << 20
"""Only so many new bytes make up for a failure, or a server could feed us a byte per connection."""
_COPY_STEP: Final = 4 << 20
_LENGTH: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_VERSION: Final = re.compile(r"[\x20-\x7e]{1,500}", re.ASCII)


class HttpSources(Sources):
    """Reads upstream files. `random` in 0..1 spreads retries.

    `drs_prefixes` are those of Drs, `s3_endpoint` and `s3_region` those of S3Endpoint, `tls`
    trusts certificates of one's own, `access` opens private sources. What may be read at all, files
    included, is the guard's to say.
    """

    def __init__(
        self,
        guard: UrlGuard,
        *,
        patience: RetryPolicy | None = None,
        drs_prefixes: Mapping[str, str] | None = None,
        s3_endpoint: str | None = None,
        s3_region: str | None = None,
        tls: ssl.SSLContext | None = None,
        random: Callable[[], float] = randomness.random,
        access: PrivateAccess | None = None,
    ) -> None:
        self._guard = guard
        self._access = access
        self._patience = patience or RetryPolicy()
        self._http = GuardedHttp(guard, self._patience, tls, s3_endpoint, access)
        self._s3 = S3Endpoint(s3_endpoint, s3_region)
        self._drs = Drs(self._http, drs_prefixes or {}, self._s3)
        self._random = random

    def judge(self, url: str) -> None:
        match _scheme(url):
            case "file":
                localfile.judge(url, self._guard.file_roots)
            case "s3":
                public_url = self._s3.public_url(url)
                if self._endpoint_of(url) is None:
                    self._guard.check(public_url)
            case "drs":
                self._guard.check(self._drs.object_url(url))
            case _:
                self._guard.check(url)

    def is_private(self, url: str) -> bool:
        if self._access is None:
            return False
        with suppress(InvalidInput):
            return self._access.is_private(self.asked_first(url) or url)
        return False

    def asked_first(self, url: str) -> str | None:
        """Whom a drs URL is resolved by; None for others. Raises InvalidInput."""
        return self._drs.object_url(url) if _scheme(url) == "drs" else None

    async def s3_url_of(self, url: str) -> tuple[str, str] | None:
        """The s3 URL that a drs URL leads to, and the origin of the server that says so; None: another one.

        Raises:
            InvalidInput, NotFound, AccessDenied, OutboundRefused, TransientFailure: as Drs.place.
        """
        place = await self._drs.place(url)
        return None if place.s3 is None else (place.s3, self._drs.server_of(url))

    def _endpoint_of(self, url: str) -> str | None:
        """The endpoint of an s3 URL that the configuration names."""
        own = None if self._access is None else self._access.endpoint_of(url)
        return own or self._s3.endpoint

    async def details(self, url: str) -> SourceDetails:
        """A length of 0 is taken for none: some servers say it to every HEAD."""
        if _scheme(url) == "file":
            file = await in_thread_or_undo(_close, self._open_file, url)
            os.close(file.fd)
            # As `gooseherd add` spells it.
            return SourceDetails(file.size, f"mtime-{file.modified_ns}")
        try:
            place = await self._place(url, head=True)
            digest = next((f"{name}-{value}" for name, value in place.digests() if value), None)
            if place.size is not None and digest is not None:
                return SourceDetails(place.size, digest)
            headers = await self._http.head(
                place.url,
                place.headers,
                display_url=place.display_url,
                ours=place.ours,
                is_opened=place.is_opened,
            )
        except TransientFailure as faltered:
            log.info("its size and version are not known: %s", faltered)
            raise faltered.plain() from faltered
        length = headers.get("Content-Length", "")
        result = is_verbatim(headers, (place.url.partition("?")[0],)) and _LENGTH.fullmatch(length)
        size = (int(length) or None) if result else None
        return SourceDetails(place.size if place.size is not None else size, digest or _version(headers))

    @asynccontextmanager
    async def open(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Upstream]:
        """Only Range and conditional headers are passed on.

        Statuses are 200, 206, 304 and 416; the body is the file's bytes, never encoded.

        Raises:
            InvalidInput: a drs or s3 URL that leads nowhere.
            MalformedRange: for file URLs; other servers answer that themselves.
            UpstreamUnavailable: also from the body, when it breaks off.
        """
        if _scheme(url) == "file":
            file = await in_thread_or_undo(_close, self._open_file, url)
            try:
                yield localfile.answer(file, headers)
            finally:
                os.close(file.fd)
            return
        passed = {name.lower(): value for name, value in headers.items() if name.lower() in _PASSED_ON}
        try:
            response, place = await self._answer(url, passed)
        except TransientFailure as faltered:
            log.warning("pass-through failed: %s", faltered)
            raise faltered.plain() from faltered
        try:
            passed_back = {
                name.lower(): response.headers[name] for name in _PASSED_BACK if name in response.headers
            }
            yield Upstream(response.status, passed_back, self._body(response, place.display_url))
        finally:
            response.release()

    async def _answer(self, url: str, headers: Mapping[str, str]) -> tuple[aiohttp.ClientResponse, Place]:
        failures = 0
        while True:
            try:
                place = await self._place(url)
                response = await self._http.get(
                    place.url,
                    {**headers, **place.headers},
                    display_url=place.display_url,
                    ours=place.ours,
                    is_opened=place.is_opened,
                )
                if is_verbatim(response.headers, (place.url.partition("?")[0],)):
                    return response, place
                response.close()
                raise TransientFailure(
                    safe_url(url), response.status, "encodes the file though asked not to", again=False
                )
            except TransientFailure as faltered:
                failures += 1
                await self._pause(failures, faltered, self._patience.open_tries)

    async def _body(self, response: aiohttp.ClientResponse, display_url: str) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._http.chunks(response, display_url):
                yield chunk
        except TransientFailure as faltered:
            raise faltered.plain() from faltered

    async def fetch(
        self,
        source: SourceFile,
        into: Path,
        *,
        limit: int,
        report: Callable[[int, int | None], None],
        pausing: Pausing = ignore_pause,
    ) -> Fetched:
        """`into` is made anew, and is not there after a failure.

        What the guard refuses is `source_forbidden`, a URL that names nothing we can read `source_invalid`.
        """
        too_large(source.size_in_bytes or 0, limit)
        # The sink's close without `keep` is the undo: it removes what it made.
        sink = await in_thread_or_undo(Sink.close, Sink, into, sha256=source.sha256 is not None)
        whole = False
        try:
            if _scheme(source.access_url) == "file":
                await self._copy(source, sink, limit, report)
            else:
                await self._download(source, sink, limit, report, pausing)
            if sink.size < sink.held:
                await in_thread(sink.cut)
                report(sink.size, sink.size)
            if difference := sink.difference(source):
                raise StepFailed.because(Reason.SOURCE_CHANGED, difference)
            whole = True
        except (OutboundRefused, AccessDenied, NotFound, InvalidInput, TransientFailure) as error:
            raise _ended(error) from error
        finally:
            await in_thread(sink.close, keep=whole)
        return Fetched(into, sink.size, sink.md5)

    async def _copy(
        self, source: SourceFile, sink: Sink, limit: int, report: Callable[[int, int | None], None]
    ) -> None:
        file = await in_thread_or_undo(_close, self._open_file, source.access_url)
        try:
            too_large(file.size, limit)
            while await in_thread(sink.fill, file.fd, _COPY_STEP):
                too_large(sink.size, limit)
                report(sink.size, file.size)
        finally:
            os.close(file.fd)

    async def _download(
        self,
        source: SourceFile,
        sink: Sink,
        limit: int,
        report: Callable[[int, int | None], None],
        pausing: Pausing,
    ) -> None:
        download = Download(self._http, source, sink, limit, report)
        failures, slow, best, doubted = 0, 0, 0, False
        while True:
            try:
                place = await self._place(source.access_url)
                _agree(source, place)
                await self._attempt(download, place, sink)
                if doubted or not (download.joined and sink.difference(source)):
                    return
                # Two halves of two versions look like this. Loaded once more before it is believed.
                doubted = True
                await download.restart()
            except TransientFailure as faltered:
                # Against the best so far: what is loaded again after a restart is no progress.
                if sink.size >= best + _PROGRESS:
                    failures, best = 0, sink.size
                failures += 1
                slow += faltered.slow
                if slow >= self._patience.slow_tries:
                    raise
                await self._pause(failures, faltered, self._patience.tries, pausing)

    async def _attempt(self, download: Download, place: Place, sink: Sink) -> None:
        started = sink.size
        try:
            await download.attempt(place)
        except AccessDenied:
            if place.lasting or not started:
                raise
            raise TransientFailure(place.display_url, 403, "let a signed URL run out") from None

    async def _place(self, url: str, *, head: bool = False) -> Place:
        scheme = _scheme(url)
        if scheme == "drs":
            place = await self._drs.place(url)
            if place.s3 is None or self._access is None:
                return place
            signed = await self._access.signed(place.s3, head=head, named_by=self._drs.server_of(url))
            if signed is None:
                return place
            return replace(place, url=signed, ours=self._endpoint_of(place.s3) is not None)
        if scheme == "s3":
            ours = self._endpoint_of(url) is not None
            public = self._s3.public_url(url)
            signed = None if self._access is None else await self._access.signed(url, head=head)
            return Place(signed or public, name=safe_url(url), ours=ours, lasting=signed is None)
        return Place(url)

    async def _pause(
        self, failures: int, faltered: TransientFailure, tries: int, pausing: Pausing = ignore_pause
    ) -> None:
        """Wait before the next try, or raise the error when there is none."""
        wait = self._patience.wait(failures, faltered.retry_after, self._random())
        if not faltered.again or failures >= tries or wait is None:
            raise faltered
        log.info("%s; try %d of %d in %.1f s", faltered, failures + 1, tries, wait)
        pausing(f"upstream {faltered.problem}", wait)
        await asyncio.sleep(wait)

    def _open_file(self, url: str) -> localfile.LocalFile:
        return localfile.open_below(url, self._guard.file_roots)

    async def close(self) -> None:
        await self._http.close()


def _version(headers: Mapping[str, str]) -> str | None:
    result = (headers.get(name, "") for name in ("ETag", "Last-Modified"))
    return next((text for text in result if _VERSION.fullmatch(text)), None)


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _close(file: localfile.LocalFile) -> None:
    os.close(file.fd)


def _agree(source: SourceFile, place: Place) -> None:
    """What a DRS server says of an object must be what the catalog says."""
    for what, found, expected in (
        ("size in bytes", place.size, source.size_in_bytes),
        ("md5", place.md5, source.md5),
        ("sha256", place.sha256, source.sha256),
    ):
        if found is not None and expected is not None and found != expected:
            problem = f"{what} is {found} by its DRS server, the catalog says {expected}"
            raise StepFailed.because(Reason.SOURCE_CHANGED, problem[:300])


def _ended(error: OutboundRefused | AccessDenied | NotFound | InvalidInput | TransientFailure) -> StepFailed:
    match error:
        case OutboundRefused():
            return StepFailed.because(Reason.SOURCE_FORBIDDEN, str(error))
        case AccessDenied():
            return StepFailed.because(Reason.SOURCE_FORBIDDEN, f"upstream denies access to {error.name}")
        case NotFound():
            return StepFailed.because(Reason.SOURCE_MISSING, f"upstream has no {error.name}")
        case InvalidInput():
            return StepFailed.because(Reason.SOURCE_INVALID, str(error))
        case TransientFailure():
            return StepFailed.because(Reason.SOURCE_UNAVAILABLE, str(error))
