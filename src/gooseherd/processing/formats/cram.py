"""The chain of containers of a CRAM: whether it is whole, and which references its reads are decoded with.

samtools sort may leave out what it cannot read, so the reads that the containers declare are counted here.
"""

from __future__ import annotations

import struct
import threading
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed

_DEFINITION: Final = 26  # CRAMv3 §6: magic, version, file id
_HEADER_MOST: Final = 1 << 16
"""Bytes of a container's header: a few, and five for each slice."""
_BLOCK_MOST: Final = 1 << 24
"""Bytes of a block of headers."""
_BLOCK_HEADER_MOST: Final = 32
"""Method, kind, and three numbers of at most five bytes each."""
_RAW: Final = 0
_GZIP: Final = 1
_COMPRESSION_HEADER: Final = 1
_SLICE_HEADER: Final = 2
_NONE: Final = (1 << 32) - 1  # -1
_SEVERAL: Final = (1 << 32) - 2  # -2


@dataclass
class Containers:
    """What the containers declare."""

    reads: int | None = 0
    """None for versions other than 3."""
    references: set[int] = field(default_factory=set)
    """Sequences, by their place in the header, with which slices of their own are decoded."""
    several: bool = False
    """There are slices of reads on several sequences, with some of which they are decoded."""


def containers_of(path: Path) -> Containers:
    """Walk the chain; blocks of headers alone are read.

    In files of version 2 the first container is not as long as it says, so nothing is known of them.

    Raises:
        StepFailed: source_invalid; the containers are no unbroken chain to the end of the file.
    """
    size = path.stat().st_size
    reads, found = 0, Containers()
    with path.open("rb") as stream:
        if stream.read(_DEFINITION)[4:5] != b"\3":
            return Containers(None, several=True)
        at = _DEFINITION
        while at < size:
            stream.seek(at)
            try:
                container = _container(stream.read(_HEADER_MOST))
                if container.reads:
                    _note_references(stream, at + container.header, container, found)
            except (IndexError, ValueError, struct.error):
                raise _corrupt(f"no container begins at byte {at}") from None
            reads += container.reads
            at += container.header + container.length
    if at != size:
        raise _corrupt("the last container is cut")
    found.reads = reads
    return found


def check_blocks(path: Path, stop: threading.Event) -> None:
    """Check the checksum of every block of a CRAM of version 3, whose chain of containers is whole.

    A decoder that is asked for places alone passes over blocks of bases and qualities. `stop` ends it early.

    Raises:
        StepFailed: source_invalid; the first block that is damaged.
    """
    size, at = path.stat().st_size, _DEFINITION
    with path.open("rb") as stream:
        while at < size and not stop.is_set():
            stream.seek(at)
            container = _container(stream.read(_HEADER_MOST))
            stream.seek(at + container.header)
            at += container.header + container.length
            # The container of the file's header may end in bytes of no block (CRAMv3 §6).
            for _ in range(container.blocks):
                place = stream.tell()
                try:
                    whole = _block_is_whole(stream, at)
                except (IndexError, struct.error):
                    whole = False
                if not whole:
                    raise _corrupt(f"the block at byte {place} is not what its checksum says")


def _block_is_whole(stream: BinaryIO, limit: int) -> bool:
    place = stream.tell()
    head = stream.read(_BLOCK_HEADER_MOST)
    _, at = _itf8(head, 2)
    packed, at = _itf8(head, at)
    _, at = _itf8(head, at)
    if place + at + packed + 4 > limit:
        return False
    crc, rest = zlib.crc32(head[:at]), packed
    stream.seek(place + at)
    while rest:
        data = stream.read(min(rest, 1 << 20))
        if not data:
            return False
        crc, rest = zlib.crc32(data, crc), rest - len(data)
    return struct.unpack("<I", stream.read(4)) == (crc,)


def _corrupt(how: str) -> StepFailed:
    return StepFailed.because(Reason.SOURCE_INVALID, f"corrupt: {how}")


@dataclass(frozen=True, slots=True)
class _Container:
    length: int
    """Bytes of its blocks."""
    header: int
    """Bytes of its header."""
    reads: int
    blocks: int
    slices: tuple[int, ...]
    """Where they begin behind the header."""


def _container(data: bytes) -> _Container:
    """Read a container's header (CRAMv3 §7)."""
    (length,) = struct.unpack_from("<i", data)
    if length < 0:
        raise ValueError("a container of less than nothing")
    at = 4
    for _ in range(3):  # sequence, start, span
        _, at = _itf8(data, at)
    reads, at = _itf8(data, at)
    for _ in range(2):  # reads before this container, bases
        at += _ltf8_size(data[at])
    blocks, at = _itf8(data, at)
    count, at = _itf8(data, at)
    slices = []
    for _ in range(count):
        place, at = _itf8(data, at)
        slices.append(place)
    (crc,) = struct.unpack_from("<I", data, at)
    if zlib.crc32(data[:at]) != crc:
        raise ValueError("a container's header is not what its checksum says")
    return _Container(length, at + 4, reads, blocks, tuple(slices))


def _note_references(stream: BinaryIO, blocks: int, container: _Container, found: Containers) -> None:
    """Which references the slices are decoded with; what cannot be told counts as several."""
    try:
        if not _reference_required(_content(stream, blocks, _COMPRESSION_HEADER)):
            return
        for place in container.slices:
            _note_slice(_content(stream, blocks + place, _SLICE_HEADER), found)
    except (IndexError, ValueError, struct.error, zlib.error):
        # Whether its bytes are damaged is for the decoder to find out.
        found.several = True


def _note_slice(data: bytes, found: Containers) -> None:
    """Read a slice's header (CRAMv3 §8.5)."""
    sequence, at = _itf8(data, 0)
    for _ in range(3):  # start, span, reads
        _, at = _itf8(data, at)
    at += _ltf8_size(data[at])
    _, at = _itf8(data, at)  # blocks
    count, at = _itf8(data, at)
    for _ in range(count):
        _, at = _itf8(data, at)
    embedded, _ = _itf8(data, at)
    if embedded != _NONE:
        return
    if sequence == _SEVERAL:
        found.several = True
    elif sequence != _NONE:
        found.references.add(sequence)


def _reference_required(data: bytes) -> bool:
    """RR of the preservation map (CRAMv3 §8.4)."""
    _, at = _itf8(data, 0)
    count, at = _itf8(data, at)
    for _ in range(count):
        key, at = data[at : at + 2], at + 2
        if key == b"RR":
            return bool(data[at])
        if key == b"SM":
            at += 5
        elif key == b"TD":
            length, at = _itf8(data, at)
            at += length
        else:
            at += 1
    return True


def _content(stream: BinaryIO, place: int, kind: int) -> bytes:
    """The content of a block of headers (CRAMv3 §8.1)."""
    stream.seek(place)
    head = stream.read(_BLOCK_HEADER_MOST)
    if head[1] != kind:
        raise ValueError("a block of another kind")
    _, at = _itf8(head, 2)
    packed, at = _itf8(head, at)
    size, at = _itf8(head, at)
    if max(packed, size) > _BLOCK_MOST:
        raise ValueError("a larger block than any of headers")
    stream.seek(place + at)
    data = stream.read(packed)
    if head[0] == _RAW:
        return data
    if head[0] == _GZIP:
        return zlib.decompressobj(wbits=31).decompress(data, max(size, 1))
    raise ValueError("packed as no block of headers is")


def _itf8_size(first: int) -> int:
    return next((n for n, bit in enumerate((0x80, 0x40, 0x20, 0x10), 1) if not first & bit), 5)


def _ltf8_size(first: int) -> int:
    return next((n for n in range(1, 9) if not first & (0x100 >> n)), 9)


def _itf8(data: bytes, at: int) -> tuple[int, int]:
    """(an unsigned number, what follows it) (CRAMv3 §2.3)."""
    size = _itf8_size(data[at])
    if size == 5:
        high = int.from_bytes(data[at : at + 4], "big") & 0x0FFFFFFF
        return high << 4 | data[at + 4] & 0x0F, at + size
    value = int.from_bytes(data[at : at + size], "big")
    return value & ((1 << 7 * size) - 1), at + size
