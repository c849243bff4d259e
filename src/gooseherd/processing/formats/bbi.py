"""What a bigBed or bigWig has that the library does not give: its sequences, and of a bigBed some items.

Either order of bytes is read (domain/bbi.py), for which pyBigWig knows one. It asks for an overlap of one
base, too, and takes no region beyond a sequence: empty items where their sequence begins or ends are read
from the file itself.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gooseherd.domain.bbi import MAGIC, BbiFile, Leaf

_ITEM: Final = "III"

Item = tuple[int, int, str]
"""Start, end, the further columns; as pyBigWig has them."""


class BrokenParts(Exception):
    """Parts are not where the header says, or this is neither a bigBed nor a bigWig."""


@dataclass(slots=True)
class Edges:
    """Empty items of one sequence, in the file's order."""

    at_start: list[Item] = field(default_factory=list)
    at_end: list[Item] = field(default_factory=list)


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
        return int.from_bytes(stream.read(4), "big") in MAGIC


def all_items(path: Path) -> Iterator[tuple[str, list[Item]]]:
    """(sequence, items) of each block of a bigBed, in the file's order, without the library.

    Raises:
        BrokenParts: saying what is wrong.
    """
    with _Opened(path) as file:
        for leaf in file.leaves():
            found: dict[str, list[Item]] = {}
            for number, start, end, rest in _items(file, leaf):
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

    def __enter__(self) -> BbiFile:
        self._stream = self._path.open("rb")
        try:
            return BbiFile(self._stream, os.fstat(self._stream.fileno()).st_size)
        except (ValueError, struct.error, OverflowError) as error:
            self._stream.close()
            raise BrokenParts(_problem(error)) from None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._stream.close()
        if isinstance(error, ValueError | struct.error | zlib.error | OverflowError):
            raise BrokenParts(_problem(error)) from None


def _problem(error: BaseException) -> str:
    return str(error) if type(error) is ValueError else "it is damaged"


def _items(file: BbiFile, leaf: Leaf) -> Iterator[tuple[int, int, int, str]]:
    """(sequence, start, end, the further columns) of a bigBed."""
    block, item = file.block(leaf), file.unpacker(_ITEM)
    at = 0
    while at < len(block):
        number, start, end = item.unpack_from(block, at)
        stop = block.index(b"\0", at + item.size)
        yield number, start, end, block[at + item.size : stop].decode("utf-8", "surrogateescape")
        at = stop + 1


def _edges(file: BbiFile) -> dict[str, Edges]:
    found: dict[str, Edges] = {}
    for leaf in file.leaves():
        # A block of one sequence, as all writers make them, has its lowest start and its highest end here.
        if leaf.first == leaf.last and leaf.start > 0 and leaf.end < file.lengths.get(leaf.first, ("", 0))[1]:
            continue
        for number, begin, stop, rest in _items(file, leaf):
            if begin != stop or number not in file.lengths:
                continue
            name, length = file.lengths[number]
            if begin == 0:
                found.setdefault(name, Edges()).at_start.append((begin, stop, rest))
            elif begin == length:
                found.setdefault(name, Edges()).at_end.append((begin, stop, rest))
    return found
