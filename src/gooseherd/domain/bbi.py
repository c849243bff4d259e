"""The parts of a bigWig or bigBed: header, sequences, the tree of places, and the values of a bigWig.

W. J. Kent et al., "BigWig and BigBed", Bioinformatics 26 (2010), supplementary tables 5 (header), 8 to 11
(tree of names), 14 to 17 (tree of places), 12 (blocks of items) and 13 (sections of values). Numbers in
either order of bytes are read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

_BIGWIG: Final = 0x888FFC26
_BIGBED: Final = 0x8789F2EB
MAGIC: Final = frozenset({_BIGWIG, _BIGBED})
_NAMES_MAGIC: Final = 0x78CA8C91
_PLACES_MAGIC: Final = 0x2468ACE0
_HEADER: Final = "IHHQQQHHQQIQ"
_NAMES_HEADER: Final = "IIIIQQ"
_PLACES_HEADER: Final = "IIQIIIIQII"
_NODE: Final = "BBH"
_INNER: Final = "IIIIQ"
_LEAF: Final = "IIIIQQ"
_SECTION: Final = "IIIIIBBH"
_BED_GRAPH, _VARIABLE_STEP, _FIXED_STEP = 1, 2, 3
_ROWS: Final = {_BED_GRAPH: "IIf", _VARIABLE_STEP: "If", _FIXED_STEP: "f"}
"""Of the kinds of section."""
_MOST_BLOCK_BYTES: Final = 64 << 20
"""Of items; bedToBigBed's own blocks are some 100 kB."""
_MOST_NAME_BYTES: Final = 1 << 16
_MOST_NODES_BYTES: Final = 256 << 20
"""Of one tree of names: a million sequences with names of a hundred bytes take half of it."""

Value = tuple[int, int, float]
"""Start, end, value."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A block of items: the sequences and bases it reaches over, and where it is."""

    first: int
    start: int
    last: int
    end: int
    offset: int
    size: int


class BbiFile:
    """One of them, read from a stream of that size a node and a block at a time.

    Whatever cannot be read in it raises ValueError, struct.error, zlib.error or OverflowError.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size
        stream.seek(0)
        magic = stream.read(4)
        self._order = ">" if int.from_bytes(magic, "big") in MAGIC else "<"
        kind = self.unpack("I", magic)[0]
        if kind not in MAGIC:
            raise ValueError("it is neither a bigBed nor a bigWig")
        self.is_bigwig = kind == _BIGWIG
        stream.seek(0)
        fields = self.unpack(_HEADER, stream.read(self.bytes_of(_HEADER)))
        names_at, self._places_at, self._unpacked_bytes = fields[3], fields[5], fields[10]
        self.lengths: dict[int, tuple[str, int]] = dict(self._lengths(names_at))
        """(name, length) of each sequence by its number."""
        places = self.unpack(_PLACES_HEADER, self._read(self._places_at, self.bytes_of(_PLACES_HEADER)))
        if places[0] != _PLACES_MAGIC:
            raise ValueError("there is no tree of places where the header says")

    def leaves(self, number: int | None = None, start: int = 0, end: int = 0) -> Iterator[Leaf]:
        """The blocks in the file's order: all, or those that reach into [start, end) of a sequence."""

        def reaches(entry: bytes) -> bool:
            first, begin, last, stop = self.unpack("IIII", entry[:16])
            return (first, begin) < (number, end) and (last, stop) > (number, start)

        root, leaf = self._places_at + self.bytes_of(_PLACES_HEADER), self.bytes_of(_LEAF)
        wanted = None if number is None else reaches
        for entry in self._entries_of_leaves(root, self.bytes_of(_INNER), leaf, wanted=wanted):
            yield Leaf(*self.unpack(_LEAF, entry))

    def block(self, leaf: Leaf) -> bytes:
        """Its bytes; they are compressed if the header has a size for that."""
        block = self._read(leaf.offset, leaf.size)
        if self._unpacked_bytes:
            return zlib.decompressobj().decompress(block, min(self._unpacked_bytes, _MOST_BLOCK_BYTES))
        return block

    def values(self, number: int, start: int, end: int) -> Iterator[Value]:
        """Those of a bigWig that share a base with [start, end) of a sequence, whole, in the file's order."""
        if not self.is_bigwig:
            raise ValueError("it is no bigWig")
        for leaf in self.leaves(number, start, end):
            block, section = self.block(leaf), self.bytes_of(_SECTION)
            sequence, at, _, step, span, kind, _, count = self.unpack(_SECTION, block[:section])
            if sequence != number:
                continue
            if kind not in _ROWS:
                raise ValueError(f"it has a section of kind {kind}")
            row = self.unpacker(_ROWS[kind])
            if len(block) < section + count * row.size:
                raise ValueError("a section is cut off")
            for found in row.iter_unpack(block[section : section + count * row.size]):
                if kind == _BED_GRAPH:
                    begin, stop, value = found
                elif kind == _VARIABLE_STEP:
                    begin, stop, value = found[0], found[0] + span, found[1]
                else:
                    begin, stop, value = at, at + span, found[0]
                    at += step
                if begin < end and stop > start:
                    yield begin, stop, value

    def bytes_of(self, pattern: str) -> int:
        """How many a struct has in this file."""
        return struct.calcsize(self._order + pattern)

    def unpack(self, pattern: str, data: bytes) -> tuple[int, ...]:
        """In the file's order of bytes."""
        return struct.unpack(self._order + pattern, data)

    def unpacker(self, pattern: str) -> struct.Struct:
        """The same, for many."""
        return struct.Struct(self._order + pattern)

    def _read(self, offset: int, size: int) -> bytes:
        if size > _MOST_BLOCK_BYTES or offset + size > self._size:
            raise ValueError("something lies beyond the end of the file")
        self._stream.seek(offset)
        return self._stream.read(size)

    def _entries_of_leaves(
        self,
        root: int,
        inner_bytes: int,
        leaf_bytes: int,
        *,
        most: int | None = None,
        wanted: Callable[[bytes], bool] | None = None,
    ) -> Iterator[bytes]:
        """The entries of a tree's leaves, from left to right; an inner one ends with where its node is.

        `most`: bytes that its nodes may have. `wanted`: which entries are followed; None: all.
        """
        left = self._size if most is None else most
        waiting, visited = [root], set[int]()
        while waiting:
            at = waiting.pop()
            if at in visited:
                raise ValueError("two entries lead to one node")
            visited.add(at)
            is_leaf, _, count = self.unpack(_NODE, self._read(at, self.bytes_of(_NODE)))
            each = leaf_bytes if is_leaf else inner_bytes
            left -= self.bytes_of(_NODE) + count * each
            if left < 0:
                raise ValueError("its nodes lie over each other")
            data = self._read(at + self.bytes_of(_NODE), count * each)
            entries = [data[n : n + each] for n in range(0, len(data), each)]
            if wanted is not None:
                entries = [entry for entry in entries if wanted(entry)]
            if is_leaf:
                yield from entries
            else:
                waiting += (self.unpack("Q", entry[-8:])[0] for entry in reversed(entries))

    def _lengths(self, at: int) -> Iterator[tuple[int, tuple[str, int]]]:
        """(number, (name, length)) of each sequence."""
        header = self.unpack(_NAMES_HEADER, self._read(at, self.bytes_of(_NAMES_HEADER)))
        _, _, key_bytes, value_bytes, _, _ = header
        if header[0] != _NAMES_MAGIC or value_bytes != 8 or key_bytes > _MOST_NAME_BYTES:
            raise ValueError("there is no tree of names where the header says")
        root, each = at + self.bytes_of(_NAMES_HEADER), key_bytes + 8
        for entry in self._entries_of_leaves(root, each, each, most=_MOST_NODES_BYTES):
            name = entry[:key_bytes].rstrip(b"\0").decode("utf-8", "surrogateescape")
            number, length = self.unpack("II", entry[key_bytes:])
            yield number, (name, length)
