"""Indexes of genome files: which chunks of a BGZF file hold what may overlap a region.

BAI (SAMv1 §5.2), TBI (the tabix format) and CSI (CSIv1). Only what a question needs is taken
apart, so that memory is that of the index's own bytes.
"""

from __future__ import annotations

import bisect
import gzip
import io
import struct
import threading
import zlib
from array import array
from collections.abc import Iterator, Sequence
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
            self._places = array("q", [self._read_head()])
        self._linear_places = array("q")
        """Where the bins of each sequence are, and what is behind them, as far as they were looked for."""
        self._walking = threading.Lock()
        self._placed_end: int | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return len(self._data) + (self.sequences + 1) * 2 * self._places.itemsize

    def chunks(self, sequence: int, start: int, end: int | None) -> list[Chunk]:
        """What may hold records that overlap [start, end), in the file's order; end None: the sequence's end.

        Raises:
            BadIndex: the index is damaged.
        """
        return self.chunks_of(sequence, [(start, end)])

    def chunks_of(self, sequence: int, spans: Sequence[tuple[int, int | None]]) -> list[Chunk]:
        """The same of several spans, which are in order and do not overlap, for the price of about one.

        Raises:
            BadIndex: the index is damaged.
        """
        if not 0 <= sequence < self.sequences:
            return []
        most = 1 << (self._min_shift + 3 * self._depth)
        cut = [(start, most if end is None else min(end, most)) for start, end in spans]
        cut = [(start, end) for start, end in cut if start < end]
        if not cut:
            return []
        with _whole():
            return self._overlapping(sequence, cut)

    def placed_end(self) -> int:
        """Where what has a place on a sequence ends; 0: nothing has. Behind it are unplaced reads.

        Raises:
            BadIndex: the index is damaged.
        """
        if self._placed_end is None:
            with _whole():
                self._placed_end = self._find_placed_end()
        return self._placed_end

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

    def _find_placed_end(self) -> int:
        last, end = ((1 << 3 * (self._depth + 1)) - 1) // 7, 0
        for sequence in range(self.sequences):
            for number, _, where, count in self._bins(self._place(sequence)[0]):
                # Of the pseudo-bin the first chunk is the whole sequence's, the second counts reads.
                for n in range(min(count, 1) if number >= last else count):
                    end = max(end, int(_CHUNK.unpack_from(self._data, where + n * _CHUNK.size)[1]))
        return end

    def _place(self, sequence: int) -> tuple[int, int]:
        """Where its bins are, and what is behind them. Each sequence is walked over once, by one thread."""
        if sequence >= len(self._linear_places):
            with self._walking:
                while sequence >= len(self._linear_places):
                    at = self._behind_bins(self._places[-1])
                    first, count = (at, 0) if self._csi else self._linear(at)
                    self._places.append(first + count * 8)
                    self._linear_places.append(at)
        return self._places[sequence], self._linear_places[sequence]

    def _behind_bins(self, at: int) -> int:
        behind = at + _I32.size
        for _, _, where, chunks in self._bins(at):
            behind = where + chunks * _CHUNK.size
        return behind

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

    def _linear(self, at: int) -> tuple[int, int]:
        """(where the linear index's entries are, how many)."""
        (count,) = _I32.unpack_from(self._data, at)
        if count < 0 or at + 4 + count * 8 > len(self._data):
            raise BadIndex("it is cut")
        return at + 4, count

    def _overlapping(self, sequence: int, spans: Sequence[tuple[int, int]]) -> list[Chunk]:
        """One pass over the bins, each of which finds its spans: those are in order."""
        at, behind = self._place(sequence)
        data, top = self._data, (1 << 64) - 1
        levels = [((1 << 3 * level) - 1) // 7 for level in range(self._depth + 2)]
        last = levels.pop()
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        windows = [start >> self._min_shift for start in starts]
        first_leaves = [levels[-1] + window for window in windows]
        loffsets: dict[int, int | None] = {
            number: None for leaf in first_leaves for number in (_walk(leaf) if self._csi else ())
        }
        found: list[list[Chunk]] = [[] for _ in spans]
        # What a bin says of a span it says of all spans before it, too: they have it in the end.
        uppers, leaves = [top] * len(spans), [(last, top)] * len(spans)
        gathered = 0
        for number, loffset, where, count in self._bins(at):
            if number >= last or not count:
                continue  # the pseudo-bin counts reads
            level = bisect.bisect_right(levels, number) - 1
            shift = self._min_shift + 3 * (self._depth - level)
            begins = (number - levels[level]) << shift
            (begin,) = _U64.unpack_from(data, where)
            past = bisect.bisect_right(ends, begins)
            if past:
                # The file is sorted: all that begins before the end of the span lies before it.
                uppers[past - 1] = min(uppers[past - 1], begin)
            until = bisect.bisect_left(starts, begins + (1 << shift))
            if past < until:
                gathered += count * (until - past)
                if gathered > _CHUNKS and len(spans) > 1:
                    return self._overlapping(sequence, [(starts[0], ends[-1])])
                if gathered > _CHUNKS:
                    raise BadIndex("more chunks than any index has")
                chunks = [Chunk(*_CHUNK.unpack_from(data, where + n * _CHUNK.size)) for n in range(count)]
                for span in range(past, until):
                    found[span] += chunks
            if number in loffsets:
                loffsets[number] = loffset
            if number >= levels[-1] and (span := bisect.bisect_right(first_leaves, number)):
                leaves[span - 1] = min(leaves[span - 1], (number, begin))
        result: list[Chunk] = []
        upper, leaf = top, (last, top)
        for span in reversed(range(len(spans))):
            upper, leaf = min(upper, uppers[span]), min(leaf, leaves[span])
            if self._csi:
                walked = (loffsets[number] for number in _walk(first_leaves[span]))
                lower = next((offset for offset in walked if offset is not None), 0)
            else:
                lower = self._lowest(behind, windows[span])
            # Reads that are placed but not mapped are in leaves only, and no linear index counts them.
            result += _merged(found[span], min(lower, leaf[1]), upper)
        return _merged(result, 0, top) if len(spans) > 1 else result

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
