"""Indexes of genome files: which chunks of a BGZF file hold what may overlap a region.

BAI (SAMv1 §5.2), TBI (the tabix format) and CSI (CSIv1). Only what a question needs is taken
apart, so that memory is that of the index's own bytes.
"""

from __future__ import annotations

import bisect
import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

INDEX_BYTES: Final = 128 << 20
"""Of an index, inflated: ten times that of a human genome read 30 times, twice that of wheat."""
SEQUENCES: Final = 1 << 21
"""Of one file; the most fragmented assemblies have a million."""

_MIN_SHIFT, _DEPTH = 14, 5  # of BAI and TBI
_CHUNKS: Final = 1 << 21
"""Of one question; a BAM of 100 GB has not many more blocks."""
_MOST_BITS: Final = 62
"""Of a position, min_shift and levels taken together."""
_I32, _U64 = struct.Struct("<i"), struct.Struct("<Q")
_CHUNK: Final = struct.Struct("<QQ")
_COLUMNS: Final = struct.Struct("<7i")
_ZERO_BASED: Final = 0x10000


class Chunk(NamedTuple):
    """Virtual offsets (a block's place in the file times 2^16, plus a place in its bytes), half-open."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a text line says its place; columns count from 1, `end` 0: nowhere.

    `preset` is 0 for plain columns, 1 for SAM and 2 for VCF, which have rules of their own.
    """

    preset: int
    zero_based: bool
    name: int
    begin: int
    end: int
    comment: bytes


class BadIndex(ValueError):
    """Bytes that are no index, or not a whole one."""


class GenomeIndex:
    """One opened index. `columns` and `names` are None when the data itself says them (BAM)."""

    def __init__(self, content: bytes) -> None:
        """Take an index as it is stored.

        Raises:
            BadIndex: it is none, it is cut, or it is larger than any.
        """
        self._data = _inflated(content)
        self.columns: Columns | None = None
        self.names: list[bytes] | None = None
        self._min_shift, self._depth, self._csi = _MIN_SHIFT, _DEPTH, False
        with _whole():
            self._at = self._read_head()

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return len(self._data)

    def chunks(self, sequence: int, start: int, end: int | None) -> list[Chunk]:
        """What may hold records that overlap [start, end), in the file's order; end None: the sequence's end.

        Raises:
            BadIndex: the index is damaged.
        """
        with _whole():
            return self._chunks(sequence, start, end)

    def placed_end(self) -> int:
        """Where what has a place on a sequence ends; 0: nothing has. Behind it are unplaced reads.

        Raises:
            BadIndex: the index is damaged.
        """
        last = ((1 << 3 * (self._depth + 1)) - 1) // 7
        with _whole():
            at, end = self._at, 0
            for _ in range(self.sequences):
                for number, _, where, count in self._bins(at):
                    # Of the pseudo-bin the first chunk is the whole sequence's, the second counts reads.
                    for n in range(min(count, 1) if number >= last else count):
                        end = max(end, _CHUNK.unpack_from(self._data, where + n * _CHUNK.size)[1])
                at = self._after
                if not self._csi:
                    first, entries = self._linear(at)
                    at = first + entries * 8
            return end

    # --------------------------------------------------------------------------------------

    def _read_head(self) -> int:
        data, magic = self._data, self._data[:4]
        if magic == b"BAI\1":
            at = 4
        elif magic == b"TBI\1":
            at = 8
            self._read_columns(at)
            at += _COLUMNS.size + int(_I32.unpack_from(data, at + 24)[0])
            self.sequences = self._count(4)
            self._agree()
            return at
        elif magic == b"CSI\1":
            self._csi = True
            self._min_shift, self._depth, length = struct.unpack_from("<3i", data, 4)
            if self._min_shift < 1 or min(self._depth, length) < 0:
                raise BadIndex("an impossible shape")
            if self._min_shift + 3 * self._depth > _MOST_BITS:
                raise BadIndex("an impossible shape")
            if length >= _COLUMNS.size:
                self._read_columns(16)
            at = 16 + length
        else:
            raise BadIndex("neither BAI nor TBI nor CSI; regions of a CRAM: samtools view URL chr1:1-9")
        self.sequences = self._count(at)
        self._agree()
        return at + 4

    def _read_columns(self, at: int) -> None:
        preset, name, begin, end, comment, _, length = _COLUMNS.unpack_from(self._data, at)
        if preset & 0xFFFF > 2 or min(name, begin) < 1 or end < 0 or length < 0:
            raise BadIndex("columns that nobody knows")
        if not 0 <= comment < 256:
            raise BadIndex("columns that nobody knows")
        names = self._data[at + _COLUMNS.size : at + _COLUMNS.size + length]
        if len(names) != length or names.count(b"\0") > SEQUENCES:
            raise BadIndex("its names are cut")
        self.columns = Columns(
            preset & 0xFFFF,
            bool(preset & _ZERO_BASED),
            name,
            begin,
            end,
            bytes([comment]) if comment else b"",
        )
        self.names = names.split(b"\0")[:-1]

    def _agree(self) -> None:
        if self.names is not None and len(self.names) != self.sequences:
            raise BadIndex(f"{self.sequences} sequences, but {len(self.names)} names")

    def _count(self, at: int) -> int:
        (number,) = _I32.unpack_from(self._data, at)
        if not 0 <= number <= SEQUENCES:
            raise BadIndex("an impossible number of sequences")
        return int(number)

    def _bins(self, at: int) -> Iterator[tuple[int, int, int, int]]:
        """(number, loffset, where its chunks are, how many) of the bins at `at`."""
        data = self._data
        (count,) = _I32.unpack_from(data, at)
        if count < 0:
            raise BadIndex("an impossible number of bins")
        at += 4
        head = struct.Struct("<IQi" if self._csi else "<Ii")
        for _ in range(count):
            number, *loffset, chunks = head.unpack_from(data, at)
            at += head.size
            if chunks < 0 or at + chunks * _CHUNK.size > len(data):
                raise BadIndex("it is cut")
            yield number, loffset[0] if loffset else 0, at, chunks
            at += chunks * _CHUNK.size
        self._after = at

    def _linear(self, at: int) -> tuple[int, int]:
        """(where the linear index's entries are, how many)."""
        (count,) = _I32.unpack_from(self._data, at)
        if count < 0 or at + 4 + count * 8 > len(self._data):
            raise BadIndex("it is cut")
        return at + 4, count

    def _chunks(self, sequence: int, start: int, end: int | None) -> list[Chunk]:
        if not 0 <= sequence < self.sequences:
            return []
        at = self._at
        for _ in range(sequence):
            for _ in self._bins(at):
                pass
            at = self._after
            if not self._csi:
                first, count = self._linear(at)
                at = first + count * 8
        most = 1 << (self._min_shift + 3 * self._depth)
        end = most if end is None else min(end, most)
        if start >= end:
            return []
        return self._overlapping(at, start, end)

    def _overlapping(self, at: int, start: int, end: int) -> list[Chunk]:
        found: list[Chunk] = []
        data, upper = self._data, (1 << 64) - 1
        levels = [((1 << 3 * level) - 1) // 7 for level in range(self._depth + 2)]
        last = levels.pop()
        window = start >> self._min_shift
        first_leaf = levels[-1] + window
        leaf, leaf_begin = last, upper
        loffsets: dict[int, int | None] = dict.fromkeys(_walk(first_leaf))
        for number, loffset, where, count in self._bins(at):
            if number >= last or not count:
                continue  # the pseudo-bin counts reads
            level = bisect.bisect_right(levels, number) - 1
            shift = self._min_shift + 3 * (self._depth - level)
            begins = (number - levels[level]) << shift
            (begin,) = _U64.unpack_from(data, where)
            if begins >= end:
                upper = min(upper, begin)  # the file is sorted: all that begins before `end` lies before it
            elif begins + (1 << shift) > start:
                if len(found) + count > _CHUNKS:
                    raise BadIndex("more chunks than any index has")
                found += (Chunk(*_CHUNK.unpack_from(data, where + n * _CHUNK.size)) for n in range(count))
            if number in loffsets:
                loffsets[number] = loffset
            if first_leaf <= number < leaf:
                leaf, leaf_begin = number, begin
        lower = next((offset for offset in loffsets.values() if offset is not None), 0)
        if not self._csi:
            lower = self._lowest(self._after, window)
        # Reads that are placed but not mapped are in leaves only, and no linear index counts them.
        return _merged(found, min(lower, leaf_begin), upper)

    def _lowest(self, at: int, window: int) -> int:
        """By the linear index at `at`: no mapped record that reaches into `window` or further lies before."""
        first, count = self._linear(at)
        return int(_U64.unpack_from(self._data, first + 8 * min(window, count - 1))[0]) if count else 0


def _walk(number: int) -> Iterator[int]:
    """The bins whose loffset bounds what overlaps bin `number`, best first (htslib: hts_itr_query)."""
    while number:
        parent = (number - 1) >> 3
        yield from range(number, parent << 3, -1)
        number = parent
    yield 0


class _whole:  # noqa: N801 - reads as a statement
    """Turns a read past the end into BadIndex."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, struct.error):
            raise BadIndex("it is cut") from None


def _inflated(content: bytes) -> bytes:
    if content[:2] != b"\x1f\x8b":
        return content
    data = bytearray()
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            while buffer := stream.read(1 << 20):
                data += buffer
                if len(data) > INDEX_BYTES:
                    raise BadIndex("it is larger than any index")
    except (EOFError, OSError, zlib.error):
        raise BadIndex("it is cut or damaged") from None
    return bytes(data)


def _merged(chunks: list[Chunk], lower: int, upper: int) -> list[Chunk]:
    """In the file's order, cut to [lower, upper), and one where they share a block or overlap."""
    merged: list[Chunk] = []
    for begin, end in sorted(chunks):
        begin, end = max(begin, lower), min(end, upper)  # noqa: PLW2901
        if begin >= end:
            continue
        if merged and begin >> 16 <= merged[-1].end >> 16:
            merged[-1] = Chunk(merged[-1].begin, max(merged[-1].end, end))
        else:
            merged.append(Chunk(begin, end))
    return merged
