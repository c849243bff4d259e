"""Records with two places on the genome, such as contacts and alignments of genomes: a line each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gooseherd.domain.contig import Contig
from gooseherd.processing.formats.bad_lines import bad_line, refuse
from gooseherd.processing.formats.records import MAX_COORDINATE, Records
from gooseherd.processing.formats.sam_header import MAX_CONTIGS

Sink = Callable[[bytes], object]
_NOWHERE: Final = frozenset((b".", b"*", b"!", b""))
"""In place of a name: the end is not on the genome (BEDPE, PAF without a hit, pairtools)."""
_WHOLE: Final = re.compile(rb"\d+")


@dataclass(frozen=True, slots=True)
class End:
    """The columns of a place, from 0; `end` is `begin` for a single base, `length` that of the sequence."""

    name: int
    begin: int
    end: int
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a format has its two ends, how many columns it has at least, and from what its places count."""

    title: str
    columns: int
    first: End
    second: End
    zero_based: bool


LAYOUTS: Final[dict[str, Layout]] = {
    # bedtools.readthedocs.io, "BEDPE format"
    "bedpe": Layout("BEDPE", 6, End(0, 1, 2), End(3, 4, 5), zero_based=True),
    # github.com/lh3/miniasm/blob/master/PAF.md; the target is the reference
    "paf": Layout("PAF", 12, End(5, 7, 8, 6), End(0, 2, 3, 1), zero_based=True),
    # github.com/4dn-dcic/pairix/blob/master/pairs_format_specification.md
    "pairs": Layout("pairs", 5, End(1, 2, 2), End(3, 4, 4), zero_based=False),
}


class TwoEnded(Records):
    """The reader of one file. Records go to `both`, or to the sink of the end that alone is known."""

    def __init__(self, format_name: str, both: Sink, first: Sink, second: Sink) -> None:
        layout = LAYOUTS[format_name]
        super().__init__(layout.title)
        self.layout = layout
        self.columns = layout.columns
        self.lowest = 0 if layout.zero_based else 1
        self.may_be_spaced = format_name == "bedpe"
        self._both, self._first, self._second = both, first, second
        self.bytes_of_both = self.bytes_of_first = self.bytes_of_second = 0

    def take_quickly(self, data: bytes) -> bool:
        return False

    def comment(self, number: int, line: bytes) -> None:
        if self.records:
            self.count("comment_lines")
        elif self.layout.title == "pairs" and line.startswith(b"#sorted:"):
            self.count("replaced_header_lines")
        else:
            self.header.append(line)
            if self.layout.title == "pairs" and line.startswith(b"#chromsize:"):
                self._declare(number, line)

    def _declare(self, number: int, line: bytes) -> None:
        words = line.split()
        if len(words) != 3 or not _WHOLE.fullmatch(words[2]) or int(words[2]) > MAX_COORDINATE:
            raise refuse(number, "a #chromsize line has a name and a length")
        self.lengths[words[1]] = int(words[2])
        if len(self.lengths) > MAX_CONTIGS:
            raise refuse(number, f"more than {MAX_CONTIGS} sequences declared")

    def record(self, number: int, line: bytes) -> bytes:
        fields = line.split(b"\t")
        if self.may_be_spaced and len(fields) < self.columns <= len(words := line.split()):
            self.count("spaced_lines")
            fields = words
        if not self.records and len(fields) >= self.columns and self._is_title(fields):
            self.count("heading_lines")
            return b""
        if len(fields) < self.columns:
            raise bad_line(
                number, f"{len(fields)} columns, but {self.name} has {self.columns} or more, split by TAB"
            )
        known = [self._place(number, fields, end) for end in (self.layout.first, self.layout.second)]
        if not any(known):
            self.count("without_place")
            return b""
        text = b"\t".join(fields) + b"\n"
        if fields[0].startswith(b"#"):
            raise bad_line(number, "the first column starts with #, which would make the record a comment")
        if all(known):
            self._both(text)
            self.bytes_of_both += len(text)
        elif known[0]:
            self._first(text)
            self.bytes_of_first += len(text)
            self.count("without_second_end")
        else:
            self._second(text)
            self.bytes_of_second += len(text)
            self.count("without_first_end")
        self.records += 1
        return b""

    def _is_title(self, fields: list[bytes]) -> bool:
        """Whether no column of a place has a digit in front, in the first line that is no comment."""
        places = (self.layout.first, self.layout.second)
        return all(fields[end.begin][:1].isalpha() and fields[end.end][:1].isalpha() for end in places)

    def _place(self, number: int, fields: list[bytes], end: End) -> bool:
        """Check one end; False: it is not on the genome."""
        name = fields[end.name]
        if name in _NOWHERE or fields[end.begin] == b"-1":
            return False
        begin = self.coordinate(number, fields, end.begin)
        stop = begin if end.end == end.begin else self.coordinate(number, fields, end.end)
        if begin > stop:
            raise bad_line(number, f"start {begin} is after end {stop}")
        if end.length is not None:
            length = self.coordinate(number, fields, end.length)
            if stop > length:
                raise bad_line(number, f"the place ends at {stop}, beyond the {length} bases of its sequence")
            if end is self.layout.first:
                self.lengths.setdefault(name, length)
        self.max_end = max(self.max_end, stop)
        self.passed({name} if end is self.layout.first else set(), 0, stop)
        return True

    def contigs(self) -> tuple[Contig, ...]:
        """Of the first ends."""
        return tuple(Contig(contig.name, contig.length or None) for contig in super().contigs())
