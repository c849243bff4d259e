"""The parts of a bigBed or bigWig: its sequences, and of a bigBed the items that the library does not give.

Either order of bytes is read, for which pyBigWig knows one. It asks for an overlap of one base, too, and
takes no region beyond a sequence: empty items where their sequence begins or ends are read from the file
itself. The parts: W. J. Kent et al., "BigWig and BigBed", Bioinformatics 26 (2010), supplementary tables
5 (header), 8 to 11 (tree of names), 14 to 17 (tree of places) and 12 (blocks of items).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

_MAGIC: Final = frozenset({0x888FFC26, 0x8789F2EB})
"""Of bigWig and bigBed."""
_NAMES_MAGIC: Final = 0x78CA8C91
_PLACES_MAGIC: Final = 0x2468ACE0
_HEADER: Final = "IHHQQQHHQQIQ"
_NAMES_HEADER: Final = "IIIIQQ"
_PLACES_HEADER: Final = "IIQIIIIQII"
_NODE: Final = "BBH"
_INNER: Final = "IIIIQ"
_LEAF: Final = "IIIIQQ"
_ITEM: Final = "III"
_MOST_BLOCK_BYTES: Final = 64 << 20
"""Of items; bedToBigBed's own blocks are some 100 kB."""
_MOST_NAME_BYTES: Final = 1 << 16
_MOST_NODES_BYTES: Final = 256 << 20
"""Of one tree of names: a million sequences with names of a hundred bytes take half of it."""

Item = tuple[int, int, str]
"""Start, end, the further columns; as pyBigWig has them."""


class BrokenParts(Exception):
    """Parts are not where the header says, or this is neither a bigBed nor a bigWig."""


@dataclass(slots=True)
class Edges:
    """Empty items of one sequence, in the file's order."""

    at_start: list[Item] = field(default_factory=list)
    at_end: list[Item] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A block of items: the sequences and bases it reaches over, and where it is."""

    first: int
    start: int
    last: int
    end: int
    offset: int
    size: int


def sequences(path: Path) -> dict[str, int]:
    """The length of each sequence by its name. Blocks: it reads a few pages.

    Raises:
        BrokenParts: saying what is wrong.
    """
    with _Opened(path) as file:
        return dict(file.lengths[number] for number in sorted(file.lengths))


def is_big_endian(path: Path) -> bool:
    """Whether its numbers are in the order that pyBigWig does not know."""
    with path.open("rb") as stream:
        return int.from_bytes(stream.read(4), "big") in _MAGIC


def all_items(path: Path) -> Iterator[tuple[str, list[Item]]]:
    """(sequence, items) of each block of a bigBed, in the file's order, without the library.

    Raises:
        BrokenParts: saying what is wrong.
    """
    with _Opened(path) as file:
        for leaf in file.leaves():
            found: dict[str, list[Item]] = {}
            for number, start, end, rest in file.items(leaf):
                if number not in file.lengths:
                    raise BrokenParts("an item lies on a sequence that has no name")
                found.setdefault(file.lengths[number][0], []).append((start, end, rest))
            yield from found.items()


def empty_edge_items(path: Path) -> dict[str, Edges]:
    """Those of each sequence that has some.

    Nothing at all of a file whose parts are not where its header says: its reader is the judge of that.
    """
    try:
        with _Opened(path) as file:
            return _edges(file)
    except BrokenParts:
        return {}


class _Opened:
    """The file, opened as a context; whatever cannot be read in it is BrokenParts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _File:
        self._stream = self._path.open("rb")
        try:
            return _File(self._stream)
        except (ValueError, struct.error, OverflowError) as error:
            self._stream.close()
            raise BrokenParts(_problem(error)) from None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._stream.close()
        if isinstance(error, ValueError | struct.error | zlib.error | OverflowError):
            raise BrokenParts(_problem(error)) from None


def _problem(error: BaseException) -> str:
    return str(error) if type(error) is ValueError else "it is damaged"


class _File:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._size = os.fstat(stream.fileno()).st_size
        magic = stream.read(4)
        self._order = ">" if int.from_bytes(magic, "big") in _MAGIC else "<"
        if self._unpack("I", magic)[0] not in _MAGIC:
            raise ValueError("it is neither a bigBed nor a bigWig")
        stream.seek(0)
        fields = self._unpack(_HEADER, stream.read(self._bytes(_HEADER)))
        names_at, self._places_at, self._unpacked_bytes = fields[3], fields[5], fields[10]
        self.lengths = dict(self._lengths(names_at))
        places = self._unpack(_PLACES_HEADER, self._read(self._places_at, self._bytes(_PLACES_HEADER)))
        if places[0] != _PLACES_MAGIC:
            raise ValueError("there is no tree of places where the header says")

    def leaves(self) -> Iterator[_Leaf]:
        root, leaf = self._places_at + self._bytes(_PLACES_HEADER), self._bytes(_LEAF)
        for entry in self._entries_of_leaves(root, self._bytes(_INNER), leaf):
            yield _Leaf(*self._unpack(_LEAF, entry))

    def items(self, leaf: _Leaf) -> Iterator[tuple[int, int, int, str]]:
        """(sequence, start, end, the further columns); compressed if the header has a size for that."""
        block = self._read(leaf.offset, leaf.size)
        if self._unpacked_bytes:
            block = zlib.decompressobj().decompress(block, min(self._unpacked_bytes, _MOST_BLOCK_BYTES))
        item = struct.Struct(self._order + _ITEM)
        at = 0
        while at < len(block):
            number, start, end = item.unpack_from(block, at)
            stop = block.index(b"\0", at + item.size)
            yield number, start, end, block[at + item.size : stop].decode("utf-8", "surrogateescape")
            at = stop + 1

    def _bytes(self, pattern: str) -> int:
        return struct.calcsize(self._order + pattern)

    def _unpack(self, pattern: str, data: bytes) -> tuple[int, ...]:
        return struct.unpack(self._order + pattern, data)

    def _read(self, offset: int, size: int) -> bytes:
        if size > _MOST_BLOCK_BYTES or offset + size > self._size:
            raise ValueError("something lies beyond the end of the file")
        self._stream.seek(offset)
        return self._stream.read(size)

    def _entries_of_leaves(
        self, root: int, inner_bytes: int, leaf_bytes: int, most: int | None = None
    ) -> Iterator[bytes]:
        """The entries of a tree's leaves, from left to right; an inner one ends with where its node is.

        `most`: bytes that its nodes may have.
        """
        left = self._size if most is None else most
        waiting, visited = [root], set[int]()
        while waiting:
            at = waiting.pop()
            if at in visited:
                raise ValueError("two entries lead to one node")
            visited.add(at)
            is_leaf, _, count = self._unpack(_NODE, self._read(at, self._bytes(_NODE)))
            each = leaf_bytes if is_leaf else inner_bytes
            left -= self._bytes(_NODE) + count * each
            if left < 0:
                raise ValueError("its nodes lie over each other")
            data = self._read(at + self._bytes(_NODE), count * each)
            entries = [data[n : n + each] for n in range(0, len(data), each)]
            if is_leaf:
                yield from entries
            else:
                waiting += (self._unpack("Q", entry[-8:])[0] for entry in reversed(entries))

    def _lengths(self, at: int) -> Iterator[tuple[int, tuple[str, int]]]:
        """(number, (name, length)) of each sequence."""
        header = self._unpack(_NAMES_HEADER, self._read(at, self._bytes(_NAMES_HEADER)))
        _, _, key_bytes, value_bytes, _, _ = header
        if header[0] != _NAMES_MAGIC or value_bytes != 8 or key_bytes > _MOST_NAME_BYTES:
            raise ValueError("there is no tree of names where the header says")
        root, each = at + self._bytes(_NAMES_HEADER), key_bytes + 8
        for entry in self._entries_of_leaves(root, each, each, most=_MOST_NODES_BYTES):
            name = entry[:key_bytes].rstrip(b"\0").decode("utf-8", "surrogateescape")
            number, length = self._unpack("II", entry[key_bytes:])
            yield number, (name, length)


def _edges(file: _File) -> dict[str, Edges]:
    found: dict[str, Edges] = {}
    for leaf in file.leaves():
        # A block of one sequence, as all writers make them, has its lowest start and its highest end here.
        if leaf.first == leaf.last and leaf.start > 0 and leaf.end < file.lengths.get(leaf.first, ("", 0))[1]:
            continue
        for number, begin, stop, rest in file.items(leaf):
            if begin != stop or number not in file.lengths:
                continue
            name, length = file.lengths[number]
            if begin == 0:
                found.setdefault(name, Edges()).at_start.append((begin, stop, rest))
            elif begin == length:
                found.setdefault(name, Edges()).at_end.append((begin, stop, rest))
    return found
