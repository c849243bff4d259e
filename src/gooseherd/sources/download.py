"""One source on its way into one file: what each answer means, and where to go on after a break."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from gooseherd.blocking import in_thread
from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.domain.source import SourceFile
from gooseherd.sources.drs import Place
from gooseherd.sources.guarded import GuardedHttp
from gooseherd.sources.retry_policy import TransientFailure
from gooseherd.sources.sink import Sink

if TYPE_CHECKING:
    import aiohttp

FLUSH_BYTES: Final = 1 << 20
_FLUSH_SECONDS: Final = 1.0
_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)$")
_COMPRESSED: Final = (
    ".gz",
    ".bgz",
    ".bgzf",
    ".bam",
    ".bai",
    ".tbi",
    ".csi",
    ".bcf",
    ".zip",
    ".zst",
    ".zstd",
    ".br",
)


class Download:
    """Call `attempt` until it returns; the sink keeps what is good between the calls.

    `report(bytes in the file, total or None)` is called at least with every MiB.
    """

    def __init__(
        self,
        http: GuardedHttp,
        source: SourceFile,
        sink: Sink,
        limit: int,
        report: Callable[[int, int | None], None],
    ) -> None:
        self._http = http
        self._source = source
        self._sink = sink
        self._limit = limit
        self._report = report
        self._total = source.size_in_bytes
        self._validator: str | None = None
        self.joined = False
        """Whether the file is put together of more than one answer."""

    async def attempt(self, place: Place) -> None:
        """One request, from where the sink stands to the end.

        Raises:
            TransientFailure: try again; what arrived is kept where it can be continued.
            StepFailed: source_changed, source_too_large, out_of_disk: trying again is no use.
        """
        start = await self._start()
        asked = {"range": f"bytes={start}-"} if start else {}
        if start and self._validator:
            asked["if-range"] = self._validator
        response = await self._http.get(
            place.url,
            {**place.headers, **asked},
            display_url=place.display_url,
            ours=place.ours,
            is_opened=place.is_opened,
        )
        try:
            if response.status == 416 and start and self._is_complete(response):
                return
            await self._take(response, start, place)
        finally:
            response.release()

    async def restart(self) -> None:
        """Forget what there is."""
        await in_thread(self._sink.restart)
        self._validator, self.joined = None, False

    async def _start(self) -> int:
        # Without a version from upstream or a digest in the catalog nobody would notice
        # two halves of two files.
        if self._sink.size and not (self._validator or self._source.md5 or self._source.sha256):
            await self.restart()
        return self._sink.size

    async def _take(self, response: aiohttp.ClientResponse, start: int, place: Place) -> None:
        span = (
            _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            if response.status == 206
            else None
        )
        total: int | None
        if response.status == 200:
            if start:
                await self.restart()
            total = response.content_length
        elif span and start and span[1] and int(span[1]) == start and not self._is_another(response):
            self.joined = True
            total = int(span[3]) if span[3] != "*" else self._total
        else:
            await self.restart()
            raise TransientFailure(
                place.display_url, response.status, "answered another range than was asked for"
            )
        if not is_verbatim(
            response.headers, (self._source.filename, place.url.partition("?")[0]), total, self._source
        ):
            raise TransientFailure(
                place.display_url, response.status, "encodes the file though asked not to", again=False
            )
        self._accept(total)
        self._validator = _validator(response.headers)
        await self._drain(response, place.display_url)
        if self._total is not None and self._sink.size < self._total:
            problem = f"broke off after {self._sink.size} of {self._total} bytes"
            raise TransientFailure(place.display_url, response.status, problem)

    def _is_another(self, response: aiohttp.ClientResponse) -> bool:
        """Whether a server that does not mind If-Range continued with another version's bytes."""
        if self._validator is None:
            return False
        name = "ETag" if self._validator.startswith('"') else "Last-Modified"
        return response.headers.get(name, self._validator) != self._validator

    def _is_complete(self, response: aiohttp.ClientResponse) -> bool:
        """Whether nothing follows because nothing is missing: the end came without a known total."""
        span = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        return span is not None and span[3] == str(self._sink.size) and not self._is_another(response)

    def _accept(self, total: int | None) -> None:
        expected = self._source.size_in_bytes
        if total is not None and expected is not None and total != expected:
            problem = f"size in bytes is {total}, the catalog says {expected}"
            raise StepFailed.because(Reason.SOURCE_CHANGED, problem)
        self._total = total if total is not None else expected
        too_large(self._total or 0, self._limit)

    async def _drain(self, response: aiohttp.ClientResponse, display_url: str) -> None:
        clock = asyncio.get_running_loop().time
        gathered, since = bytearray(), clock()
        try:
            async for chunk in self._http.chunks(response, display_url):
                gathered += chunk
                if len(gathered) >= FLUSH_BYTES or clock() - since > _FLUSH_SECONDS:
                    await self._write(gathered)
                    gathered, since = bytearray(), clock()
        except TransientFailure:
            await self._write(gathered)
            raise
        await self._write(gathered)

    async def _write(self, data: bytearray) -> None:
        size = self._sink.size + len(data)
        too_large(size, self._limit)
        if self._source.size_in_bytes is not None and size > self._source.size_in_bytes:
            problem = f"size in bytes is at least {size}, the catalog says {self._source.size_in_bytes}"
            raise StepFailed.because(Reason.SOURCE_CHANGED, problem)
        if data:
            await in_thread(self._sink.write, data)
            self._report(self._sink.held, self._total)


def too_large(size: int, limit: int) -> None:
    """Raises StepFailed (source_too_large) when `size` is over `limit`."""
    if size > limit:
        raise StepFailed.because(Reason.SOURCE_TOO_LARGE, f"at least {size} bytes, the limit is {limit}")


def is_verbatim(
    headers: Mapping[str, str],
    names: tuple[str, ...],
    total: int | None = None,
    source: SourceFile | None = None,
) -> bool:
    """Whether a body is the file's bytes, whatever its Content-Encoding says.

    Object stores hand out what was uploaded, and uploads of .gz files are often labelled
    `gzip`: then the label is wrong, not the bytes. A server that compresses on the fly
    against our wish gives other bytes than the file's.
    """
    if headers.get("Content-Encoding", "").strip().lower() in {"", "identity"}:
        return True
    if source is not None and source.size_in_bytes is not None and total is not None:
        return total == source.size_in_bytes
    return any(name.lower().endswith(_COMPRESSED) for name in names)


def _validator(headers: Mapping[str, str]) -> str | None:
    """What If-Range may hold: a strong entity tag, else the date (RFC 9110 §13.1.5)."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified")
