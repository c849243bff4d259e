"""Which containers of a CRAM hold what may overlap a region, by its CRAI (CRAM index, CRAMv3 §12)."""

from __future__ import annotations

import bisect
import gzip
import io
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from gooseherd.domain.byterange import ByteRange
from gooseherd.domain.genome_index import INDEX_BYTES, BadIndex

END_MARKERS: Final = (
    bytes.fromhex("0f000000ffffffff0fe0454f4600000000010005bdd94f0001000606010001000100ee63014b"),
    bytes.fromhex("0b000000ffffffffffe0454f4600000000010000010006060100010001 00"),
)
"""The last container, of versions 3 and 2.1 (CRAMv3 §9)."""
_UNPLACED: Final = -1
_SEVERAL: Final = -2

Span = tuple[int, int | None]
"""Half-open, from 0; None: to the end of the sequence."""


class ContainerIndex:
    """An opened CRAI."""

    def __init__(self, content: bytes) -> None:
        """Raises BadIndex: it is none, or larger than any."""
        self._slices: list[tuple[int, int, int, int]] = []
        """Sequence, start and end (half-open, from 0), and where its container begins."""
        try:
            for line in _inflated(content).splitlines():
                sequence, start, span, container, *_ = map(int, line.split(b"\t"))
                self._slices.append((sequence, start - 1, start - 1 + span, container))
        except ValueError:
            raise BadIndex("a line that is none of a CRAI") from None
        self._containers = sorted({container for *_, container in self._slices})

    def first(self, end: int) -> int:
        """Where the containers of reads begin; `end` when there are none."""
        return self._containers[0] if self._containers else end

    def containers(self, wanted: Mapping[int | None, Sequence[Span]], end: int) -> list[ByteRange]:
        """Those that may overlap spans of sequences, which are in order; None: reads without a place.

        `end`: where the last container ends. All is found in one pass, whatever is asked for.
        """
        starts = {number: [start for start, _ in spans] for number, spans in wanted.items()}
        places: set[int] = set()
        for number, begins, ends, at in self._slices:
            if number == _SEVERAL or (number == _UNPLACED and None in wanted):
                places.add(at)
            elif spans := wanted.get(number):
                before = bisect.bisect_left(starts[number], ends)
                if before and ((stop := spans[before - 1][1]) is None or begins < stop):
                    places.add(at)
        found: list[ByteRange] = []
        for at in sorted(places):
            place = bisect.bisect_right(self._containers, at)
            until = self._containers[place] if place < len(self._containers) else end
            if found and found[-1].stop == at:
                found[-1] = ByteRange(found[-1].start, until)
            elif at < until:
                found.append(ByteRange(at, until))
        return found


def _inflated(content: bytes) -> bytes:
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            data = stream.read(INDEX_BYTES + 1)
    except (EOFError, OSError, zlib.error):
        raise BadIndex("it is cut or damaged") from None
    if len(data) > INDEX_BYTES:
        raise BadIndex("it is larger than any index")
    return data
