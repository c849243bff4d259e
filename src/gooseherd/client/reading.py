"""Reads one region of an indexed file as a genome browser does: the index whole, the data by byte ranges.

Blocks are inflated and records taken apart while they arrive, so memory is that of the
index, a block and a record, however large the region.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Final

import httpx

from gooseherd.client import alignments, textlines
from gooseherd.client.errors import UnexpectedResponse
from gooseherd.client.transfer import Remote, byte_range, copy_to, look
from gooseherd.domain.bgzf import BLOCK_BYTES, NotBgzf, inflate, read_header
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.contig import declared_contig
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.genome_index import INDEX_BYTES, Chunk, Columns, GenomeIndex
from gooseherd.domain.region import Region

_NEAR_BYTES: Final = 128 << 10
"""Ranges this near to each other are asked for as one: reading on is quicker than asking again."""
_HEADER_STEPS: Final = (64 << 10, 1 << 20, 16 << 20)
"""So much of a file's beginning is asked for at a time: most headers are in the first step."""


def read_region(
    http: httpx.Client, data_url: str, index_url: str, region: Region, data: Remote | None = None
) -> Iterator[str]:
    """The records that overlap `region`, in the file's order, one line each: SAM for BAM, else the text line.

    Bytes that are no UTF-8 become surrogates (PEP 383). All of the data is of one version:
    `data`, or what is there when reading begins.

    Raises:
        InvalidInput: the file has no such contig.
        UnexpectedResponse: data and index cannot be read together.
        Changed: the file was replaced meanwhile.
    """
    if data is None or data.size is None:
        data = look(http, data_url)
    if data.size is None:
        raise UnexpectedResponse(data_url, "the response has no size")
    index = _index(http, index_url)
    file = BlockFile(http, data_url, data, data.size)
    try:
        records = _reads if index.columns is None else _lines
        with contextlib.closing(records(file, index, region)) as found:
            for line in found:
                yield line.decode("utf-8", "surrogateescape")
    except ValueError as error:
        raise UnexpectedResponse(data_url, f"not readable with its index: {error}") from error


def header_lines(http: httpx.Client, data_url: str, data: Remote) -> list[str]:
    """The lines at the top of a text file that begin with `#`.

    Raises:
        UnexpectedResponse: it is no BGZF.
    """
    if data.size is None:
        data = look(http, data_url)
    if data.size is None:
        raise UnexpectedResponse(data_url, "the response has no size")
    try:
        header = _header(BlockFile(http, data_url, data, data.size))
        return [line.decode("utf-8", "surrogateescape") for line in header]
    except ValueError as error:
        raise UnexpectedResponse(data_url, f"its header cannot be read: {error}") from error


def _reads(file: BlockFile, index: GenomeIndex, region: Region) -> Generator[bytes, None, None]:
    names = alignments.sequences(file.beginning())
    tid = _position(names, region)
    for chunk in file.chunks(index.chunks(tid, region.start, region.end)):
        for record in alignments.split_records(chunk):
            read = alignments.Alignment(record)
            if read.sequence != tid or (region.end is not None and read.start >= region.end):
                return
            if read.end > region.start:
                yield read.sam(names)


def _lines(file: BlockFile, index: GenomeIndex, region: Region) -> Generator[bytes, None, None]:
    columns: Columns | None = index.columns
    assert columns is not None
    contig = region.contig.encode("utf-8", "surrogateescape")
    names = index.names or []
    if contig not in names:
        # An index names the contigs of records alone.
        declared = _declared(file)
        if contig in declared:
            return
        names = list(dict.fromkeys([*declared, *names]))
    tid = _position(names, region)
    for chunk in file.chunks(index.chunks(tid, region.start, region.end)):
        for line in textlines.split_lines(chunk):
            if columns.comment and line.startswith(columns.comment):
                continue
            name, start, end = textlines.place(line, columns)
            if name != contig or (region.end is not None and start >= region.end):
                return
            if end > region.start:
                yield line


def _declared(file: BlockFile) -> list[bytes]:
    """The contigs that the header declares, whether they have records or not."""
    return [name for line in _header(file) if (name := declared_contig(line)) is not None]


def _header(file: BlockFile) -> Iterator[bytes]:
    lines = textlines.split_lines(file.beginning())
    return itertools.takewhile(lambda line: line.startswith(b"#"), lines)


def _position(names: list[bytes], region: Region) -> int:
    try:
        return names.index(region.contig.encode("utf-8", "surrogateescape"))
    except ValueError:
        raise no_contig(region, [name.decode("utf-8", "replace") for name in names[:9]]) from None


def no_contig(region: Region, names: Sequence[str]) -> InvalidInput:
    """What to raise when a file has no such contig; `names` are some of those that it has."""
    some = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return InvalidInput("region", f"no contig {region.contig!r}; there are: {some or 'none'}")


class _Bounded(io.BytesIO):
    """Takes no more than an index can have."""

    def write(self, data: object) -> int:
        written = super().write(data)  # type: ignore[arg-type]
        if self.tell() > INDEX_BYTES:
            raise ValueError("it is larger than any index")
        return written


def index_bytes(http: httpx.Client, url: str) -> bytes:
    """All of an index.

    Raises:
        ValueError: it is larger than any.
    """
    content = _Bounded()
    copy_to(http, url, content)
    return content.getvalue()


def _index(http: httpx.Client, url: str) -> GenomeIndex:
    try:
        return GenomeIndex(index_bytes(http, url))
    except ValueError as error:
        raise UnexpectedResponse(url, f"the index cannot be read: {error}") from error


class BlockFile:
    """One version of a BGZF file that is read by byte ranges."""

    def __init__(self, http: httpx.Client, url: str, remote: Remote, size: int) -> None:
        self._http, self._url, self._remote, self._size = http, url, remote, size

    def beginning(self) -> Iterator[bytes]:
        """The inflated bytes from the file's first on, fetched in steps."""

        def arriving() -> Iterator[bytes]:
            at, steps = 0, iter(_HEADER_STEPS)
            step = 0
            while at < self._size:
                step = next(steps, step)
                stop = min(at + step, self._size)
                yield from self._fetch(ByteRange(at, stop))
                at = stop

        for _, block in _blocks(arriving(), 0):
            yield _inflated(block)

    def chunks(self, chunks: list[Chunk]) -> Iterator[Iterator[bytes]]:
        """The inflated bytes of each chunk; to be read in order, the next one after the last's end.

        Raises:
            ValueError: the chunks do not fit the file.
        """
        for span, members in self._spans(chunks):
            arriving = self._fetch(span)
            blocks = _blocks(arriving, span.start)
            for chunk in members:
                yield _cut(blocks, chunk)
            for _ in arriving:
                pass  # at most a block: a connection read to its end serves again

    def _spans(self, chunks: list[Chunk]) -> Iterator[tuple[ByteRange, list[Chunk]]]:
        start, stop = 0, -1
        members: list[Chunk] = []
        for chunk in chunks:
            begins = chunk.begin >> 16
            if begins >= self._size:
                raise ValueError("the index leads beyond the data")
            # How long the last block is, its header says; none is longer than this.
            ends = min((chunk.end >> 16) + (BLOCK_BYTES if chunk.end & 0xFFFF else 0), self._size)
            if members and begins > stop + _NEAR_BYTES:
                yield ByteRange(start, stop), members
                members = []
            if not members:
                start, stop = begins, ends
            members.append(chunk)
            stop = max(stop, ends)
        if members:
            yield ByteRange(start, stop), members

    def _fetch(self, span: ByteRange) -> Iterator[bytes]:
        return byte_range(self._http, self._url, self._remote, span)


def _blocks(buffers: Iterable[bytes], at: int) -> Iterator[tuple[int, bytearray]]:
    """(place in the file, bytes) of each whole block of what begins at `at`."""
    there = bytearray()
    for buffer in buffers:
        there += buffer
        begin = 0
        while (header := read_header(there, begin)) and len(there) - begin >= header.length:
            yield at, there[begin : begin + header.length]
            at, begin = at + header.length, begin + header.length
        del there[:begin]


def _inflated(block: bytearray) -> bytes:
    header = read_header(block)
    assert header is not None
    return inflate(block, header)


def _cut(blocks: Iterator[tuple[int, bytearray]], chunk: Chunk) -> Iterator[bytes]:
    """What of `blocks` is the chunk's; those before it are not inflated."""
    (first, start), (last, stop) = divmod(chunk.begin, 1 << 16), divmod(chunk.end, 1 << 16)
    began = at = end = -1
    for at, block in blocks:
        if at < first:
            continue
        if began < 0 and at != first:
            break
        began, end = at, at + len(block)
        content = _inflated(block)
        if (at == first and start > len(content)) or (at == last and stop > len(content)):
            break
        yield content[start if at == first else 0 : stop if at == last else None]
        if at == last or (end == last and not stop):
            return
    raise NotBgzf("no block begins or ends where the index says")
