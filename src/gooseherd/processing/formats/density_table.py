"""The density table: how many records begin and end in each window; of the kernel or count_records.py.

A sequence is cut into windows of 2^shift bases. A row says of one window how many records begin in
it and how many have their last base in it: so a record costs the same however long it is, and two
neighbouring windows are one of twice the size by addition. Rows are in the order of windows; a
window without either has none. The bytes are described in kernel/src/density.h.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import Final

SHIFT: Final = 10
"""Windows are not smaller than 2^10 bases."""
MOST_ROWS: Final = 96 << 10
"""Of a table, one of each sequence not counted; beyond it the windows are larger. 3.2 Gb in windows of 32,768
bases: a bigWig of them is written in a tenth of a second."""
_MOST_SHIFT: Final = 31
_MOST_COUNT: Final = (1 << 32) - 1
_MAGIC: Final = b"GHDENS1\n"
_TOP: Final = struct.Struct("<8sII")
_SEQUENCE: Final = struct.Struct("<QQII")
_ROW_BYTES: Final = 12

Buffer = bytes | mmap
Row = tuple[int, int, int]
"""Window, records that begin in it, records that end in it."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """One sequence with records. `length` is 0 where it is not declared; `end` is the highest of a record."""

    name: bytes
    length: int
    end: int
    cells: array[int]
    """The rows, flat."""

    def rows(self, coarser: int = 0) -> Iterator[Row]:
        """Rows of windows 2^`coarser` times the size."""
        cells = self.cells
        parts = zip(cells[::3], cells[1::3], cells[2::3], strict=True)
        return iter(parts) if not coarser else merged((w >> coarser, b, e) for w, b, e in parts)

    def windows(self, coarser: int = 0) -> int:
        """How many rows that are."""
        return len({window >> coarser for window in self.cells[::3]}) if coarser else len(self.cells) // 3


@dataclass(frozen=True, slots=True)
class Table:
    """Sequences in the order of the data, with rows of windows of 2^`shift` bases."""

    shift: int
    sequences: tuple[Sequence, ...]

    def to_bytes(self) -> bytes:
        """As kernel/src/density.h says."""
        parts = [_TOP.pack(_MAGIC, self.shift, len(self.sequences))]
        for s in self.sequences:
            parts += (
                _SEQUENCE.pack(s.length, s.end, len(s.name), len(s.cells) // 3),
                s.name,
                _little_endian(s.cells).tobytes(),
            )
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: Buffer) -> Table:
        """Raises ValueError when `data` is no whole table."""
        shift, _, sequences = read_table(data)
        return cls(shift, tuple(sequences))


def read_table(data: Buffer) -> tuple[int, int, Iterator[Sequence]]:
    """(shift, how many sequences, the sequences one by one): a million of them need not be held at once.

    Raises:
        ValueError: `data` is no whole table; maybe only when the sequences are read.
    """
    if len(data) < _TOP.size:
        raise ValueError("the table is cut")
    magic, shift, count = _TOP.unpack_from(data)
    if magic != _MAGIC or not SHIFT <= shift <= _MOST_SHIFT:
        raise ValueError("this is no table of densities")
    return shift, count, _sequences(data, count)


def _sequences(data: Buffer, count: int) -> Iterator[Sequence]:
    at = _TOP.size
    for _ in range(count):
        if at + _SEQUENCE.size > len(data):
            raise ValueError("the table is cut")
        length, end, name_bytes, rows = _SEQUENCE.unpack_from(data, at)
        at += _SEQUENCE.size
        stop = at + name_bytes + rows * _ROW_BYTES
        if stop > len(data):
            raise ValueError("the table is cut")
        cells = array("I", data[at + name_bytes : stop])
        yield Sequence(data[at : at + name_bytes], length, end, _little_endian(cells))
        at = stop
    if at != len(data):
        raise ValueError("more than a table")


def merged(rows: Iterable[Row]) -> Iterator[Row]:
    """Neighbouring rows of one window as one."""
    window, begun, ended = -1, 0, 0
    for w, b, e in rows:
        if w == window:
            begun, ended = min(begun + b, _MOST_COUNT), min(ended + e, _MOST_COUNT)
            continue
        if window >= 0:
            yield window, begun, ended
        window, begun, ended = w, b, e
    if window >= 0:
        yield window, begun, ended


def table_of(sequences: tuple[Sequence, ...], most_rows: int = MOST_ROWS) -> Table:
    """The table of these, counted in windows of 2^SHIFT bases: in larger ones if those are too many."""
    coarser = 0
    while SHIFT + coarser < _MOST_SHIFT and sum(s.windows(coarser) - 1 for s in sequences) > most_rows:
        coarser += 1
    if not coarser:
        return Table(SHIFT, sequences)
    return Table(
        SHIFT + coarser,
        tuple(Sequence(s.name, s.length, s.end, flat(s.rows(coarser))) for s in sequences),
    )


def flat(rows: Iterable[Row]) -> array[int]:
    """Rows as a `Sequence` holds them."""
    return array("I", [cell for row in rows for cell in row])


def _little_endian(cells: array[int]) -> array[int]:
    """Convert between this machine's byte order and the table's."""
    if sys.byteorder == "big":
        cells = cells[:]
        cells.byteswap()
    return cells
