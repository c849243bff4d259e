"""Reads a stretch of a sequence of a .2bit by byte ranges.

Four letters a byte, beside them the runs of N and of lower case (genome.ucsc.edu/FAQ/FAQformat.html#format7);
numbers in either order of bytes, places of 32 or, since version 1, of 64 bits.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import struct
from array import array
from collections.abc import Iterator
from typing import BinaryIO, Final

from gooseherd.client.endpoint import Endpoint
from gooseherd.client.errors import UnexpectedResponse
from gooseherd.client.parts import ReadyPart
from gooseherd.client.range_file import range_file
from gooseherd.client.reading import no_contig
from gooseherd.client.sequences import title, wrapped
from gooseherd.domain.region import Region

_SIGNATURE: Final = 0x1A412743
_LETTERS: Final = ["".join(four) for four in itertools.product("TCAG", repeat=4)]
"""Of each byte, the first letter in its highest bits."""
_UNPACKED_LETTERS: Final = 1 << 20
"""At a time."""
_MOST_RUNS: Final = 1 << 24
"""Of one sequence: a human chromosome has half a million of lower case."""


def read_twobit(endpoint: Endpoint, data: ReadyPart, region: Region) -> Iterator[str]:
    """The letters of `region` as lines of FASTA, the title first, to the sequence's end at most.

    Lower case as it is stored.

    Raises:
        InvalidInput: the file has no such sequence.
        UnexpectedResponse: it is no .2bit.
        Changed: the file was replaced meanwhile.
    """
    with contextlib.closing(range_file(endpoint, data)) as stream:
        try:
            sequence = _Sequence(stream, region)
            yield title(region)
            yield from wrapped(sequence.letters(region))
        except (ValueError, struct.error, EOFError, OverflowError) as error:
            raise UnexpectedResponse(data.url, f"not readable as a .2bit: {error}") from error


class _Sequence:
    """One sequence of an opened file."""

    def __init__(self, stream: BinaryIO, region: Region) -> None:
        self._stream = stream
        self._order = "<" if int.from_bytes(self._read(4), "little") == _SIGNATURE else ">"
        stream.seek(0)
        signature, version, count, _ = self._numbers(4)
        if signature != _SIGNATURE or version not in (0, 1):
            raise ValueError("it has another signature or version")
        stream.seek(self._place(region, count, struct.Struct(f"{self._order}{'Q' if version else 'I'}")))
        (self._length,) = self._numbers(1)
        self._unknown, self._masked = self._runs(), self._runs()
        self._numbers(1)  # reserved
        self._packed_at = stream.tell()

    def letters(self, region: Region) -> Iterator[str]:
        stop = self._length if region.end is None else min(region.end, self._length)
        for start in range(region.start, stop, _UNPACKED_LETTERS):
            end = min(start + _UNPACKED_LETTERS, stop)
            first = start // 4
            self._stream.seek(self._packed_at + first)
            packed = self._read(-(-end // 4) - first)
            letters = "".join(map(_LETTERS.__getitem__, packed))[start - 4 * first : end - 4 * first]
            for begin, past in _within(self._unknown, start, end):
                letters = letters[:begin] + "N" * (past - begin) + letters[past:]
            yield _lowered(letters, list(_within(self._masked, start, end)))

    def _place(self, region: Region, count: int, place: struct.Struct) -> int:
        """Where the sequence's record is."""
        some: list[str] = []
        wanted = region.contig.encode("utf-8", "surrogateescape")
        for _ in range(count):
            name = self._read(self._read(1)[0])
            (at,) = place.unpack(self._read(place.size))
            if name == wanted:
                return int(at)
            if len(some) <= 8:
                some.append(name.decode("utf-8", "replace"))
        raise no_contig(region, some)

    def _runs(self) -> tuple[array[int], array[int]]:
        """Where they begin and how long they are."""
        (count,) = self._numbers(1)
        if count > _MOST_RUNS:
            raise ValueError(f"a sequence has {count} runs")
        return self._array(count), self._array(count)

    def _array(self, count: int) -> array[int]:
        found = array("I")
        found.frombytes(self._read(4 * count))
        if (self._order == "<") != (struct.pack("=H", 1) == b"\1\0"):
            found.byteswap()
        return found

    def _numbers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"{self._order}{count}I", self._read(4 * count))

    def _read(self, size: int) -> bytes:
        content = self._stream.read(size)
        if len(content) != size:
            raise EOFError("it ends too early")
        return content


def _within(runs: tuple[array[int], array[int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    """The runs of [start, end), counted from `start`."""
    begins, lengths = runs
    for number in range(max(bisect.bisect_right(begins, start) - 1, 0), bisect.bisect_left(begins, end)):
        begin, past = max(begins[number], start), min(begins[number] + lengths[number], end)
        if begin < past:
            yield begin - start, past - start


def _lowered(letters: str, runs: list[tuple[int, int]]) -> str:
    stretches: list[str] = []
    at = 0
    for begin, past in runs:
        stretches += letters[at:begin], letters[begin:past].lower()
        at = past
    return "".join((*stretches, letters[at:]))
