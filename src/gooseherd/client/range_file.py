"""A part of an artifact as a file to seek and read in, for libraries that take one."""

from __future__ import annotations

import io
from typing import Final

import httpx

from gooseherd.client.endpoint import Endpoint
from gooseherd.client.errors import UnexpectedResponse
from gooseherd.client.parts import ReadyPart
from gooseherd.client.transfer import Remote, byte_range, look
from gooseherd.domain.byterange import ByteRange

_BUFFER_BYTES: Final = 256 << 10
"""Read ahead at each seek: a block of a bigWig is some tens of kilobytes."""


class _Ranges(io.RawIOBase):
    def __init__(self, endpoint: Endpoint, part: ReadyPart) -> None:
        super().__init__()
        self._http = httpx.Client(**endpoint.options())
        self._url, self._place = part.url, 0
        self._remote = look(self._http, part.url) if part.size is None else Remote(part.size, part.etag)
        if self._remote.size is None:
            self._http.close()
            raise UnexpectedResponse(part.url, "the response has no size")
        self._size = self._remote.size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(base + offset, 0)
        return self._place

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        span = ByteRange(min(self._place, self._size), min(self._place + len(view), self._size))
        at = 0
        if len(span):
            for chunk in byte_range(self._http, self._url, self._remote, span):
                view[at : at + len(chunk)] = chunk
                at += len(chunk)
        self._place += at
        return at

    def close(self) -> None:
        if not self.closed:
            self._http.close()
        super().close()


def range_file(endpoint: Endpoint, part: ReadyPart) -> io.BufferedReader:
    """The part, read by byte ranges, over a connection of its own, all of one version.

    Reading raises Changed when it was replaced meanwhile, NotReachable when the connection kept breaking.
    """
    return io.BufferedReader(_Ranges(endpoint, part), _BUFFER_BYTES)
