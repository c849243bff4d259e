"""Reads a stretch of a reference sequence as a genome browser does: its indexes whole, the data by ranges.

FAI says at which place of the text a base is (samtools-faidx(5)), GZI in which block that place is.
"""

from __future__ import annotations

import bisect
import itertools
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import httpx

from gooseherd.client.errors import UnexpectedResponse
from gooseherd.client.reading import BlockFile, index_bytes
from gooseherd.client.transfer import Remote, look
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.genome_index import Chunk
from gooseherd.domain.region import Region

_LINE: Final = 60
"""Letters of a line of FASTA, as most files have it."""
_PLACE: Final = struct.Struct("<QQ")


class _Sequence(NamedTuple):
    """A line of a FAI."""

    length: int
    offset: int
    letters: int
    """Of a line."""
    width: int
    """Of a line with its end."""

    def place(self, base: int) -> int:
        return self.offset + base // self.letters * self.width + base % self.letters


def read_sequence(
    http: httpx.Client, data_url: str, fai_url: str, gzi_url: str, region: Region, data: Remote | None = None
) -> Iterator[str]:
    """The bases of `region` as lines of FASTA, the title first; to the sequence's end at most.

    Raises:
        InvalidInput: the file has no such sequence.
        UnexpectedResponse: data and indexes cannot be read together.
        Changed: the file was replaced meanwhile.
    """
    if data is None or data.size is None:
        data = look(http, data_url)
    if data.size is None:
        raise UnexpectedResponse(data_url, "the response has no size")
    try:
        sequence = _sequence(index_bytes(http, fai_url), region.contig)
        end = sequence.length if region.end is None else min(region.end, sequence.length)
        yield title(region)
        if region.start >= end:
            return
        blocks = [(0, 0), *_PLACE.iter_unpack(index_bytes(http, gzi_url)[8:])]
        chunk = Chunk(
            _virtual(blocks, sequence.place(region.start)), _virtual(blocks, sequence.place(end - 1) + 1)
        )
        file = BlockFile(http, data_url, data, data.size)
        inflated = itertools.chain.from_iterable(file.chunks([chunk]))
        yield from wrapped(text.replace(b"\n", b"").decode("latin-1") for text in inflated)
    except (ValueError, struct.error) as error:
        raise UnexpectedResponse(data_url, f"not readable with its indexes: {error}") from error


def title(region: Region) -> str:
    """The line above the letters."""
    return f">{region}"


def wrapped(stretches: Iterable[str]) -> Iterator[str]:
    """Letters that follow each other as lines of FASTA."""
    line = ""
    for letters in stretches:
        line += letters
        whole = len(line) - len(line) % _LINE
        yield from (line[at : at + _LINE] for at in range(0, whole, _LINE))
        line = line[whole:]
    if line:
        yield line


def _sequence(fai: bytes, name: str) -> _Sequence:
    wanted = name.encode("utf-8", "surrogateescape")
    for line in fai.splitlines():
        fields = line.split(b"\t")
        if fields[0] == wanted:
            found = _Sequence(*map(int, fields[1:5]))
            if min(found.letters, found.width - found.letters) < 1:
                raise ValueError("the index has lines without letters")
            return found
    raise InvalidInput("region", f"no sequence {name!r}")


def _virtual(blocks: list[tuple[int, int]], place: int) -> int:
    """The virtual offset of a place in the text."""
    packed, unpacked = blocks[bisect.bisect_right(blocks, place, key=lambda block: block[1]) - 1]
    if place - unpacked >= 1 << 16:
        raise ValueError("the index lacks blocks")
    return packed << 16 | place - unpacked
