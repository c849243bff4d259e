"""An index that somebody else made: whether it fits the data it is served with.

It is read whole, within bounds, and compared with the data where that costs little: its blocks begin where it
says, its sequences have their first records there, and behind its last place there are none. Formats: SAMv1
§5.2 (BAI), tabix.pdf (TBI), CSIv1 (CSI), SAMv1 §4 (BGZF, BAM).
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from gooseherd.domain import bgzf

MOST_BYTES: Final = 1 << 28
"""Of an index, unpacked: that of a genome of 100 GB has some 10 MB."""
_MOST_COUNT: Final = 1 << 22
_MOST_HEADER_BYTES: Final = 1 << 28
_SAMPLES: Final = 64
_MOST_TEXT: Final = 1 << 20
"""Bytes behind the last place that are looked at."""
_MAGIC: Final = {"bai": b"BAI\1", "tbi": b"TBI\1", "csi": b"CSI\1"}
_TABIX: Final = struct.Struct("<7i")
"""Preset, columns of sequence, begin and end, meta character, lines to skip, bytes of names."""
_DEPTH: Final = 5
_DEEPEST: Final = 9


class NotUsable(Exception):
    """Why an index does not fit, as text that follows its name."""


@dataclass
class Index:
    """What is looked at of an index. Places are virtual offsets (SAMv1 §4.1.1)."""

    references: int = 0
    names: tuple[bytes, ...] = ()
    sequence_column: int = 1
    meta: bytes = b"#"
    blocks: list[int] = field(default_factory=lambda: [0])
    """Where some of the blocks it names begin."""
    firsts: list[tuple[int, int]] = field(default_factory=list)
    """Some of the references, with their first places."""
    last: int = 0


def check_index(path: Path, kind: str, data: Path) -> tuple[str, ...]:
    """Check an index of `kind` (bai, tbi, csi) against its data; the sequences that it names.

    Blocks: it reads all of the index and some blocks of the data.

    Raises:
        NotUsable: it does not fit, or is none, or the data are no BGZF.
        OSError: one of them cannot be read.
    """
    size = data.stat().st_size
    with data.open("rb") as file:
        if bgzf.htslib_header(file.read(bgzf.HEADER_BYTES)) is None:
            raise NotUsable("is there, but the file is not block-compressed")
        file.seek(0)
        alignments = next(_inflated(file, 0), b"").startswith(b"BAM\1")
        try:
            index = _read(path, kind, size, alignments=alignments)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise NotUsable("cannot be read: it is damaged") from None
        if alignments and (known := _bam_references(data)) != index.references:
            raise NotUsable(
                f"is of {index.references} contigs, the file has {known}: it belongs to another file"
            )
        for start in index.blocks:
            if start < size and not bgzf.htslib_header(os.pread(file.fileno(), bgzf.HEADER_BYTES, start)):
                raise NotUsable("points to where no block begins: it belongs to another file")
        for number, place in index.firsts:
            _check_first(file, index, number, place, alignments=alignments)
        _check_last(file, index, alignments=alignments)
    return tuple(name.decode("utf-8", "replace") for name in index.names)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Reader:
    def __init__(self, file: _Readable) -> None:
        self._file = file
        self._remaining = MOST_BYTES

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self._remaining:
            raise NotUsable("is damaged, or larger than any index of this kind")
        self._remaining -= count
        data = self._file.read(count)
        if len(data) != count:
            raise NotUsable("is cut short")
        return data

    def numbers(self, pattern: str) -> tuple[int, ...]:
        return struct.unpack(f"<{pattern}", self.take(struct.calcsize(f"<{pattern}")))

    def count(self) -> int:
        (count,) = self.numbers("i")
        if not 0 <= count <= _MOST_COUNT:
            raise NotUsable("is damaged: it counts what cannot be")
        return count


def _read(path: Path, kind: str, size: int, *, alignments: bool) -> Index:
    if path.stat().st_size > MOST_BYTES:
        raise NotUsable("is larger than any index of this kind")
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if packed == (kind == "bai") or (kind != "csi" and alignments != (kind == "bai")):
            raise NotUsable(
                f"is no {kind} index" if packed == (kind == "bai") else "is of another kind of file"
            )
        reader = _Reader(gzip.GzipFile(fileobj=raw) if packed else raw)
        if reader.take(4) != _MAGIC[kind]:
            raise NotUsable(f"is no {kind} index")
        return _read_bins(reader, kind, size, alignments=alignments)


def _read_bins(reader: _Reader, kind: str, size: int, *, alignments: bool) -> Index:
    index, depth, described = Index(), _DEPTH, b""
    if kind == "csi":
        _, depth, aux = reader.numbers("3i")
        if not 0 < depth <= _DEEPEST or not 0 <= aux <= MOST_BYTES:
            raise NotUsable("is damaged: its bins have no size")
        described = reader.take(aux)
    index.references = reader.count()
    if kind == "tbi":
        described = reader.take(_TABIX.size)
        described += reader.take(max(_TABIX.unpack(described)[6], 0))
    if not alignments:
        _describe(index, described)
    pseudo = ((1 << 3 * (depth + 1)) - 1) // 7 + 1
    step = seen = 0
    for number in range(index.references):
        first = -1
        for _ in range(reader.count()):
            bin_number, *_ = reader.numbers("IQ" if kind == "csi" else "I")
            chunks = reader.count()
            offsets = reader.numbers(f"{2 * chunks}Q")
            if bin_number == pseudo:
                offsets = offsets[:2]  # The rest is counts.
            _within(offsets, size)
            if any(begin > end for begin, end in zip(offsets[::2], offsets[1::2], strict=True)):
                raise NotUsable("is damaged: a chunk ends before it begins")
            index.last = max(index.last, *offsets[1::2], 0)
            if bin_number != pseudo and offsets:
                first = min(offsets[::2]) if first < 0 else min(first, *offsets[::2])
            for offset in offsets[::2]:
                seen += 1
                if seen >> step << step == seen:
                    index.blocks.append(offset >> 16)
                if len(index.blocks) > _SAMPLES:
                    index.blocks, step = index.blocks[::2], step + 1
        if kind != "csi":
            _within(reader.numbers(f"{reader.count()}Q"), size)
        if first >= 0 and len(index.firsts) < _SAMPLES:
            index.firsts.append((number, first))
    return index


def _describe(index: Index, described: bytes) -> None:
    """The sequences by name, and where a line has them."""
    if len(described) < _TABIX.size:
        raise NotUsable("is damaged: its contigs cannot be read")
    _, column, _, _, meta, _, length = _TABIX.unpack_from(described)
    names = described[_TABIX.size : _TABIX.size + max(length, 0)]
    if column < 1 or names.count(b"\0") != index.references or (names and names[-1:] != b"\0"):
        raise NotUsable("is damaged: its contigs cannot be read")
    index.names = tuple(names.split(b"\0")[:-1])
    index.sequence_column = column
    index.meta = bytes((meta & 0xFF,))


def _within(offsets: tuple[int, ...], size: int) -> None:
    if offsets and max(offsets) >> 16 > size:
        raise NotUsable("points beyond the end of the file: it belongs to another file")


def _inflated(file: BinaryIO, place: int) -> Iterator[bytes]:
    """The data from a virtual offset on, block by block."""
    file.seek(place >> 16)
    skip = place & 0xFFFF
    while head := file.read(bgzf.HEADER_BYTES):
        header = bgzf.htslib_header(head)
        if header is None:
            raise NotUsable("points to where no block begins: it belongs to another file")
        try:
            content = bgzf.inflate(head + file.read(header.length - bgzf.HEADER_BYTES), header)
        except bgzf.NotBgzf:
            raise NotUsable("points to a block that cannot be read") from None
        if skip > len(content):
            raise NotUsable("points beyond the end of a block: it belongs to another file")
        yield content[skip:]
        skip = 0


def _at_most(file: BinaryIO, place: int, count: int) -> bytes:
    found = b""
    for content in _inflated(file, place):
        found += content
        if len(found) >= count:
            break
    return found


def _check_first(file: BinaryIO, index: Index, number: int, place: int, *, alignments: bool) -> None:
    """The first place of a sequence has a record of it."""
    if alignments:
        found = _at_most(file, place, 8)
        fits = len(found) >= 8 and struct.unpack_from("<i", found, 4)[0] == number
    else:
        columns = _at_most(file, place, 1 << 12).split(b"\n", 1)[0].split(b"\t")
        fits = index.names[number] in columns[index.sequence_column - 1 : index.sequence_column]
    if not fits:
        raise NotUsable("points to records of other sequences: it belongs to another file")


def _check_last(file: BinaryIO, index: Index, *, alignments: bool) -> None:
    """No record lies behind the last place; in a BAM none that is placed."""
    if alignments:
        rest = _at_most(file, index.last, 8) if index.last else b""
        beyond = len(rest) >= 8 and struct.unpack_from("<i", rest, 4)[0] >= 0
    else:
        lines = _at_most(file, index.last, _MOST_TEXT).split(b"\n")
        beyond = any(line.strip() and not line.startswith(index.meta) for line in lines)
    if beyond:
        raise NotUsable("ends before the last records of the file: they would not be found")


def _bam_references(data: Path) -> int:
    with gzip.open(data, "rb") as file:
        file.read(4)
        (length,) = struct.unpack("<i", _exactly(file, 4))
        if not 0 <= length <= _MOST_HEADER_BYTES:
            raise NotUsable("is there, but the file's header cannot be read")
        while length:
            length -= len(_exactly(file, min(length, 1 << 20)))
        (references,) = struct.unpack("<i", _exactly(file, 4))
        return int(references)


def _exactly(file: _Readable, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise NotUsable("is there, but the file's header cannot be read")
    return data
