"""A name index in UCSC's trix form: `ix`, a sorted line of places for each term, and `ixx`, where lines are.

An item is `["contig:start..end"|""|"label"|"name"],1`: JSON with | for commas, texts percent-encoded, as
JBrowse 2's TrixTextSearchAdapter reads it. The second text is the track, which an index of a file cannot
know. Keys of the ixx are whole terms, one about every 64 KiB: readers go to the last key before what they
look for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import BinaryIO, Final

from gooseherd.processing.formats.name_lines import PART

MOST_PLACES: Final = 50
"""Of one term: a line is read whole by everybody who looks for one that begins alike."""
_STEP_BYTES: Final = 64 << 10
_FIRST_KEY: Final = b"     "
"""Before every term."""
_LAST_TERM: Final = "\uffff".encode()
"""Behind every term: readers that find a greater one do not read past the file's end."""
_NEAR: Final = 2_000_000
"""Parts of a gene this near to each other are of one place: the longest gene of a human has 2.5 Mb."""

_Fields = list[bytes]


@dataclass
class TrixCounts:
    """What was written, and what was not."""

    terms: int = 0
    places_left_out: int = 0
    terms_with_too_many: int = field(default=0)


def write_trix(lines: Iterable[bytes], ix: BinaryIO, ixx: BinaryIO) -> TrixCounts:
    """Write the index of name_lines.py's lines, sorted by term and rank. Memory is that of a term."""
    counts = TrixCounts()
    at = step = 0
    ixx.write(b"%b%010X\n" % (_FIRST_KEY, 0))
    for term, group in groupby((line.rstrip(b"\n").split(b"\t") for line in lines), lambda fields: fields[0]):
        items = dict.fromkeys(_items(group, counts))
        line = b"%b %b\n" % (term, b" ".join(b"%b,%d" % (item, n) for n, item in enumerate(items, 1)))
        if at - step >= _STEP_BYTES:
            ixx.write(b"%b%010X\n" % (term, at))
            step = at
        ix.write(line)
        at += len(line)
        counts.terms += 1
    ix.write(_LAST_TERM + b"\n")
    return counts


def _items(group: Iterator[_Fields], counts: TrixCounts) -> Iterator[bytes]:
    """The places of one term, the best first."""
    taken, left_out = 0, 0
    parts: dict[tuple[bytes, bytes], tuple[int, int]] = {}
    for fields in group:
        rank, contig, start, end, label, name = int(fields[1]), *fields[2:7]
        if rank == PART:
            if taken or len(parts) >= MOST_PLACES:
                continue
            span = int(start), int(end)
            before = parts.get((contig, label), span)
            if span[0] - before[1] < _NEAR and before[0] - span[1] < _NEAR:
                parts[contig, label] = min(before[0], span[0]), max(before[1], span[1])
            continue
        if taken == MOST_PLACES:
            left_out += 1
            continue
        taken += 1
        yield _item(contig, int(start), int(end), label, name)
    for (contig, label), (begin, stop) in parts.items():
        yield _item(contig, begin, stop, label, b"")
    counts.places_left_out += left_out
    counts.terms_with_too_many += left_out > 0


def _item(contig: bytes, start: int, end: int, label: bytes, name: bytes) -> bytes:
    named = b'|"%b"' % name if name else b""
    # A place of no bases is shown by the base that follows it.
    return b'["%b%%3A%d..%d"|""|"%b"%b]' % (contig, start + 1, max(end, start + 1), label, named)
