"""Items of a bigBed that no query of the library finds: empty ones where their sequence begins or ends.

pyBigWig asks for an overlap of one base, and takes no region beyond a sequence. So these are read from the
file itself. Its parts: W. J. Kent et al., "BigWig and BigBed", Bioinformatics 26 (2010), supplementary
tables 5 (header), 8 to 11 (tree of names), 14 to 17 (tree of places) and 12 (blocks of items).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

_HEADER: Final = struct.Struct("<IHHQQQHHQQIQ")
_NAMES_HEADER: Final = struct.Struct("<IIIIQQ")
_PLACES_HEADER: Final = struct.Struct("<IIQIIIIQII")
_NODE: Final = struct.Struct("<BBH")
_INNER: Final = struct.Struct("<IIIIQ")
_LEAF: Final = struct.Struct("<IIIIQQ")
_ITEM: Final = struct.Struct("<III")
_MOST_BLOCK_BYTES: Final = 64 << 20
"""Of items; bedToBigBed's own blocks are some 100 kB."""

Item = tuple[int, int, str]
"""Start, end, the further columns; as pyBigWig has them."""


@dataclass(slots=True)
class Edges:
    """Empty items of one sequence, in the file's order."""

    at_start: list[Item] = field(default_factory=list)
    at_end: list[Item] = field(default_factory=list)


def empty_edge_items(source: Path) -> dict[str, Edges]:
    """Those of each sequence that has some.

    Nothing at all of a file whose parts are not where its header says: its reader is the judge of that.
    """
    try:
        with source.open("rb") as stream:
            return _edges(stream)
    except (ValueError, struct.error, zlib.error, OverflowError):
        return {}


def _edges(stream: BinaryIO) -> dict[str, Edges]:
    fields = _HEADER.unpack(stream.read(_HEADER.size))
    names_at, places_at, unpacked_bytes = fields[3], fields[5], fields[10]
    lengths = dict(_lengths(stream, names_at))
    found: dict[str, Edges] = {}
    for first, start, last, end, offset, size in _leaves(stream, places_at):
        # A block of one sequence, as all writers make them, has its lowest start and its highest end here.
        if first == last and start > 0 and end < lengths.get(first, ("", 0))[1]:
            continue
        for number, begin, stop, rest in _items(_read(stream, offset, size), unpacked_bytes):
            if begin != stop or number not in lengths:
                continue
            name, length = lengths[number]
            if begin == 0:
                found.setdefault(name, Edges()).at_start.append((begin, stop, rest))
            elif begin == length:
                found.setdefault(name, Edges()).at_end.append((begin, stop, rest))
    return found


def _read(stream: BinaryIO, offset: int, size: int) -> bytes:
    if size > _MOST_BLOCK_BYTES or offset + size > os.fstat(stream.fileno()).st_size:
        raise ValueError("beyond the file")
    stream.seek(offset)
    return stream.read(size)


def _entries_of_leaves(stream: BinaryIO, root: int, inner_bytes: int, leaf_bytes: int) -> Iterator[bytes]:
    """The entries of a tree's leaves, from left to right; an inner one ends with where its node is.

    Raises:
        ValueError: it is no tree.
    """
    waiting, visited = [root], set[int]()
    while waiting:
        at = waiting.pop()
        if at in visited:
            raise ValueError("two entries lead to one node")
        visited.add(at)
        is_leaf, _, count = _NODE.unpack(_read(stream, at, _NODE.size))
        each = leaf_bytes if is_leaf else inner_bytes
        data = _read(stream, at + _NODE.size, count * each)
        entries = [data[n : n + each] for n in range(0, len(data), each)]
        if is_leaf:
            yield from entries
        else:
            waiting += (struct.unpack_from("<Q", entry, each - 8)[0] for entry in reversed(entries))


def _lengths(stream: BinaryIO, at: int) -> Iterator[tuple[int, tuple[str, int]]]:
    """(number, (name, length)) of each sequence."""
    _, _, key_bytes, value_bytes, _, _ = _NAMES_HEADER.unpack(_read(stream, at, _NAMES_HEADER.size))
    if value_bytes != 8 or key_bytes > 1 << 16:
        raise ValueError("no tree of names")
    for entry in _entries_of_leaves(stream, at + _NAMES_HEADER.size, key_bytes + 8, key_bytes + 8):
        name = entry[:key_bytes].rstrip(b"\0").decode("utf-8", "surrogateescape")
        number, length = struct.unpack_from("<II", entry, key_bytes)
        yield number, (name, length)


def _leaves(stream: BinaryIO, at: int) -> Iterator[tuple[int, int, int, int, int, int]]:
    """First sequence, start, last sequence, end, offset and size of each block."""
    _read(stream, at, _PLACES_HEADER.size)
    for entry in _entries_of_leaves(stream, at + _PLACES_HEADER.size, _INNER.size, _LEAF.size):
        yield _LEAF.unpack(entry)


def _items(block: bytes, unpacked_bytes: int) -> Iterator[tuple[int, int, int, str]]:
    """(sequence, start, end, the further columns); compressed if the header has a size for that."""
    if unpacked_bytes:
        block = zlib.decompressobj().decompress(block, min(unpacked_bytes, _MOST_BLOCK_BYTES))
    at = 0
    while at < len(block):
        number, start, end = _ITEM.unpack_from(block, at)
        stop = block.index(b"\0", at + _ITEM.size)
        yield number, start, end, block[at + _ITEM.size : stop].decode("utf-8", "surrogateescape")
        at = stop + 1
