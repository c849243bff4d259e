"""The calls about bytes: whole files, ranges, records and letters of a region."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import BinaryIO

import httpx

from gooseherd.client import reading, sequences, transfer
from gooseherd.client.errors import UnexpectedResponse
from gooseherd.client.parts import ReadyPart, data_path, index_path
from gooseherd.client.ready_calls import ReadyCalls
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.region import Region


class ByteCalls(ReadyCalls):
    """Bytes of artifacts. A client of an event loop does this in threads."""

    async def download(
        self, url: str, target: Path, *, on_bytes: transfer.OnBytes | None = None
    ) -> transfer.Received:
        """See `transfer.download`: whole and verified at `target`, resumed where an earlier one stopped."""
        return await self.transport.work(lambda http: transfer.download(http, url, target, on_bytes=on_bytes))

    async def copy_to(
        self, url: str, sink: BinaryIO, *, on_bytes: transfer.OnBytes | None = None
    ) -> transfer.Received:
        """See `transfer.copy_to`: the bytes, in order, into an open stream."""
        return await self.transport.work(lambda http: transfer.copy_to(http, url, sink, on_bytes=on_bytes))

    async def read_bytes(self, part: ReadyPart, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop` of a part that is ready, fewer where it ends before.

        Raises:
            Changed: it was replaced since.
            InvalidInput: `start` is negative, or after `stop`.
        """
        if not 0 <= start <= stop:
            raise InvalidInput("range", f"{start} to {stop} is none")

        def read(http: httpx.Client) -> bytes:
            remote = _version(part)
            if remote.size is None:
                remote = transfer.look(http, part.url)
            if remote.size is None:
                raise UnexpectedResponse(part.url, "the response has no size")
            span = ByteRange(start, min(stop, remote.size))
            return (
                b"".join(transfer.byte_range(http, part.url, remote, span)) if span.start < span.stop else b""
            )

        return await self.transport.work(read)

    def read_region(self, data: ReadyPart, index: ReadyPart, region: Region) -> AsyncGenerator[str, None]:
        """The records that overlap `region` of parts that are ready: sorted lines or a BAM, and its index."""

        def lines(http: httpx.Client) -> Iterator[str]:
            return reading.read_region(http, data.url, index.url, region, _version(data))

        return self.transport.items(lines)

    def read_sequence(
        self, data: ReadyPart, index: ReadyPart, blocks: ReadyPart, region: Region
    ) -> AsyncGenerator[str, None]:
        """The bases of `region` as lines of FASTA, of an artifact with `index` (FAI) and `gzi`."""

        def lines(http: httpx.Client) -> Iterator[str]:
            return sequences.read_sequence(http, data.url, index.url, blocks.url, region, _version(data))

        return self.transport.items(lines)

    def url(self, path: str) -> str:
        """`path` as an absolute URL."""
        return self.endpoint.url(path)

    def region_urls(self, dcc: str, local_id: str) -> tuple[str, str]:
        """The URLs of data and index, for a genome library or a browser. Asks nothing of the service."""
        return self.url(data_path(dcc, local_id)), self.url(index_path(dcc, local_id))


def _version(part: ReadyPart) -> transfer.Remote:
    return transfer.Remote(part.size, part.etag)
