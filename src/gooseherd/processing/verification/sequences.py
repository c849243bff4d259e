"""FASTA in blocks with FAI and GZI, read by place as readers do it and compared with the source."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.bgzf import HEADER_BYTES, htslib_header
from gooseherd.processing.formats.decompression import Inflation, inflate
from gooseherd.processing.verification.index_queries import Disagreement, Region

_SOURCE_BYTES: Final = 1 << 20
_REGIONS: Final = 40


def check_sequences(data: Path, fai: Path, gzi: Path, source: Path, chance: random.Random) -> int:
    """Ask for stretches of what the source begins with, and compare the places of all blocks.

    Raises:
        Disagreement: the indexes lead elsewhere.
    """
    import pysam

    _check_blocks(data, gzi)
    try:
        opened: Any = pysam.FastaFile(str(data), filepath_index=str(fai), filepath_index_compressed=str(gzi))
    except (OSError, ValueError) as error:
        raise Disagreement(None, f"the index does not open ({type(error).__name__})") from None
    with opened:
        known = [(name, letters) for name, letters in _beginning(source) if letters]
        for name, letters in known[:1] + chance.choices(known, k=_REGIONS) if known else ():
            begin = chance.randrange(len(letters))
            end = min(begin + chance.choice((1, 60, 61, 5000)), len(letters))
            found = opened.fetch(reference=name, start=begin, end=end)
            if found.encode("latin-1") != letters[begin:end]:
                raise Disagreement(Region(name, begin, end), "other letters than the source has there")
        _check_last(data, opened)
    return _REGIONS if known else 0


def _beginning(source: Path) -> Iterator[tuple[str, bytes]]:
    """(name, letters as far as they were read) of the sequences that the source begins with."""
    text = b""
    with source.open("rb") as stream:
        for chunk in inflate(stream, Inflation(), size=source.stat().st_size, max_bytes=1 << 40):
            text += chunk
            if len(text) >= _SOURCE_BYTES:
                break
    # A title that is cut has no newline behind it.
    for entry in (b"\n" + text.removeprefix(b"\xef\xbb\xbf")).split(b"\n>")[1:]:
        title, _, letters = entry.partition(b"\n")
        yield title.split(None, 1)[0].decode("utf-8", "surrogateescape"), letters.translate(None, b" \t\r\n")


def _check_blocks(data: Path, gzi: Path) -> None:
    """The index has the place of every block but the first, packed and unpacked."""
    places, at, unpacked = [], 0, 0
    with data.open("rb", buffering=0) as stream:
        descriptor = stream.fileno()
        size = os.fstat(descriptor).st_size
        while at < size:
            header = htslib_header(os.pread(descriptor, HEADER_BYTES, at))
            if header is None:
                raise Disagreement(None, "no block begins where one ends")
            at += header.length
            unpacked += int.from_bytes(os.pread(descriptor, 4, at - 4), "little")
            places.append((at, unpacked))
    content = gzi.read_bytes()
    count = int.from_bytes(content[:8], "little")
    found = list(struct.iter_unpack("<QQ", content[8:])) if len(content) == 8 + 16 * count else []
    # What follows the last letters may be named or not: the empty block, or the file's end.
    needed = [place for place in places if place[1] < unpacked]
    if found[: len(needed)] != needed or not set(found) <= set(places):
        raise Disagreement(None, "the index of the blocks names other places than they have")


def _check_last(data: Path, opened: Any) -> None:
    """The last letters of the file are those of the last sequence that has some."""
    name = next(
        (n for n, length in zip(opened.references[::-1], opened.lengths[::-1], strict=True) if length), None
    )
    if name is None:
        return
    length = opened.get_reference_length(name)
    begin = max(length - 50, 0)
    found = opened.fetch(reference=name, start=begin, end=length)
    if len(found) != length - begin or ">" in found:
        raise Disagreement(Region(name, begin, length), "its last letters are not found")
