"""A published file of BGZF blocks: where its header ends, and any of it as ranges and blocks of its own.

What a virtual offset cuts out of a block is compressed anew, so that a ticket has whole records, whoever
wrote the file: blocks of some writers begin in the middle of one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from gooseherd.api.part_response import PartMissing
from gooseherd.blocking import in_executor
from gooseherd.domain.artifact import Part
from gooseherd.domain.bgzf import BLOCK_BYTES, END_MARKER, BlockHeader, NotBgzf, inflate, read_header
from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.genome_index import SEQUENCES, Chunk
from gooseherd.domain.ports.cache import CacheBackend

RANGE_BYTES: Final = 512 << 20
"""Of one address in a ticket (the specification: at most about 1 GB); clients try again what broke off."""
_HEADER_STEPS: Final = (256 << 10, 4 << 20, 64 << 20)
"""So much of a file's beginning is read, compressed; most headers are in the first step."""
_HEADER_BYTES: Final = 256 << 20
"""Of a header, inflated: four times that of the most fragmented assemblies. Blocks may be a thousand times
larger than they are stored."""
_U32: Final = struct.Struct("<I")
_LEVEL: Final = 1


class UnreadableFile(ValueError):
    """The published bytes are not what they are called, or their header is larger than any."""


@dataclass(frozen=True, slots=True)
class FileHeader:
    """Where the records begin, a virtual offset, and the sequences that a BAM declares by number."""

    end: int
    sequences: dict[str, int] | None


Stretch = ByteRange | bytes
"""Of a file's bytes, or bytes that stand for some of them."""


class PublishedBlocks:
    """One part in the cache."""

    def __init__(self, cache: CacheBackend, part: Part, threads: Executor) -> None:
        self._cache = cache
        self._part = part
        self._threads = threads

    async def header(self) -> FileHeader:
        """Of a BAM or of text whose header lines begin with `#`.

        Raises:
            UnreadableFile: it has none that can be used.
        """
        for step in _HEADER_STEPS:
            content = await self._read(ByteRange(0, min(step, self._part.size)))
            found = await in_executor(
                self._threads, _header_of, content, whole=len(content) == self._part.size
            )
            if found is not None:
                return found
            if len(content) == self._part.size:
                break
        raise UnreadableFile("its header is cut, or larger than any that is read")

    async def records_end(self) -> int:
        """Behind the last record, without the marker of the end: a virtual offset."""
        size = self._part.size
        tail = await self._read(ByteRange(max(size - len(END_MARKER), 0), size))
        return (size - len(END_MARKER) if tail == END_MARKER else size) << 16

    async def stretches(self, chunk: Chunk) -> Sequence[Stretch]:
        """All between two virtual offsets: whole blocks as ranges, what is cut out of one as a new block."""
        first, within = chunk.begin >> 16, chunk.begin & 0xFFFF
        last, until = chunk.end >> 16, chunk.end & 0xFFFF
        found: list[Stretch] = []
        if within or first == last:
            content, length = await self._block(first)
            cut = content[within : until if first == last else None]
            if cut:
                found.append(await in_executor(self._threads, as_block, cut))
            first += length
        found += split(first, last)
        if until and (chunk.begin >> 16) < last:
            content, _ = await self._block(last)
            if content[:until]:
                found.append(await in_executor(self._threads, as_block, content[:until]))
        return found

    async def _block(self, at: int) -> tuple[bytes, int]:
        """(the bytes of the block that begins there, its length in the file); nothing at the file's end."""
        if at >= self._part.size:
            return b"", 0
        block = await self._read(ByteRange(at, min(at + BLOCK_BYTES, self._part.size)))
        try:
            header = read_header(block)
            if header is None:
                raise UnreadableFile("its index leads to where no block begins")
            return await in_executor(self._threads, inflate, block[: header.length], header), header.length
        except NotBgzf:
            raise UnreadableFile("its index leads to where no block begins") from None

    async def _read(self, span: ByteRange) -> bytes:
        data = b"".join([chunk async for chunk in self._cache.get(self._part.key, span)])
        if len(data) != len(span):
            raise PartMissing
        return data


def split(start: int, stop: int) -> Iterator[ByteRange]:
    """Ranges of at most RANGE_BYTES."""
    for begin in range(start, stop, RANGE_BYTES):
        yield ByteRange(begin, min(begin + RANGE_BYTES, stop))


def as_block(content: bytes) -> bytes:
    """One block of BGZF, or two where it does not compress (SAMv1 §4.1)."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
    packed = stream.compress(content) + stream.flush()
    length = 18 + len(packed) + 8
    if length > BLOCK_BYTES:
        half = len(content) // 2
        return as_block(content[:half]) + as_block(content[half:])
    head = END_MARKER[:16] + struct.pack("<H", length - 1)
    return head + packed + struct.pack("<II", zlib.crc32(content), len(content))


def _header_of(content: bytes, *, whole: bool) -> FileHeader | None:
    """Of the beginning of a file; None: more of it is needed."""
    text, places = bytearray(), []
    at = 0
    while at < len(content):
        header: BlockHeader | None
        try:
            header = read_header(content, at)
            if header is None or at + header.length > len(content):
                break
            block = inflate(content[at : at + header.length], header)
        except NotBgzf:
            raise UnreadableFile("it is not block-compressed") from None
        places.append((len(text), at))
        text += block
        if len(text) > _HEADER_BYTES:
            raise UnreadableFile("its header is larger than any that is read")
        at += header.length
    found = _end_in_bam(text) if text.startswith(b"BAM\1") else _end_in_text(text, whole=whole)
    if found is None:
        return None
    end, sequences = found
    # Of several blocks that begin there the last: those before it are empty.
    start, place = next(((s, p) for s, p in reversed(places) if s <= end), (0, 0))
    if end == len(text):
        return FileHeader(at << 16, sequences)
    return FileHeader(place << 16 | end - start, sequences)


def _end_in_bam(data: bytearray) -> tuple[int, dict[str, int]] | None:
    """SAMv1 §4.2."""
    try:
        at = 8 + _U32.unpack_from(data, 4)[0]
        count = _U32.unpack_from(data, at)[0]
        if count > SEQUENCES:
            raise UnreadableFile("it has more sequences than any")
        at += 4
        sequences: dict[str, int] = {}
        for number in range(count):
            length = _U32.unpack_from(data, at)[0]
            name = bytes(data[at + 4 : at + 4 + length]).removesuffix(b"\0")
            sequences[name.decode("utf-8", "surrogateescape")] = number
            at += 8 + length
    except struct.error:
        return None
    return (at, sequences) if at <= len(data) else None


def _end_in_text(data: bytearray, *, whole: bool) -> tuple[int, None] | None:
    at = 0
    while at < len(data):
        if data[at] != ord("#"):
            return at, None
        newline = data.find(b"\n", at)
        if newline < 0:
            break
        at = newline + 1
    return (len(data), None) if whole else None
