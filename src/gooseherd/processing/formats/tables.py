"""Tables of intervals as lines of BED with their other columns behind: Picard's interval lists and peaks of
MACS; seg.py and ucsc_table.py have the others.

Comments stay as they are. Any other line of the source is a record or a heading; what is neither is a bad
line. Where the names of columns are known they stand above the records, in a comment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gooseherd.processing.formats.bad_lines import refuse
from gooseherd.processing.formats.converted import ConvertedLines, shown

SCORE: Final = b"0"
_SAM_HEADER: Final = re.compile(rb"@[A-Z]{2}\t.*", re.DOTALL)


class TableReader(ConvertedLines):
    """Whole lines in, lines of BED out; `counts` has what was dropped."""

    title = "table"
    lowest = 0

    def bed(self, chrom: bytes, begin: bytes, end: bytes, rest: Sequence[bytes]) -> bytes:
        """A record; `begin` counts from `lowest`."""
        start, stop = self.place(begin, end)
        name = self.name(chrom)
        self.records += 1
        return b"\t".join((name, b"%d" % start, b"%d" % stop, *rest)) + b"\n"

    def place(self, begin: bytes, end: bytes) -> tuple[int, int]:
        """Half-open, from 0."""
        start, stop = self.position(begin) - self.lowest, self.position(end)
        if not 0 <= start <= stop:
            raise self.bad(f"{shown(begin)} to {shown(end)} is no interval")
        return start, stop

    def heading(self, above: bytes, rest: Sequence[bytes]) -> bytes:
        """The names of the columns, as a comment; none once there are records."""
        if self.records:
            self.count("heading_lines")
            return b""
        self.count("replaced_header_lines")
        return b"#chrom\tchromStart\tchromEnd\t" + above + b"".join(b"\t" + name for name in rest) + b"\n"

    def columns(self, text: bytes, least: int) -> list[bytes]:
        """Split by TAB, or by spaces where that gives enough."""
        fields = text.split(b"\t")
        if len(fields) < least <= len(words := text.split()):
            self.count("spaced_lines")
            return words
        if len(fields) < least:
            raise self.bad(f"{len(fields)} columns, but {self.title} has {least} or more, split by TAB")
        return fields

    def header_of_sam(self, text: bytes) -> bool:
        """Whether it is a line of a header as SAM has it, which says nothing in BED."""
        if not _SAM_HEADER.fullmatch(text):
            return False
        self.count("repeated_header_lines" if self.records else "replaced_header_lines")
        return True


class IntervalList(TableReader):
    """Picard's: the header of a SAM, then place from 1, strand, name."""

    title = "interval_list"
    lowest = 1

    def line(self, text: bytes) -> bytes:
        if text.startswith(b"#"):
            return text + b"\n"
        if self.header_of_sam(text):
            return b""
        chrom, begin, end, strand, *rest = self.columns(text, 4)
        if strand not in (b"+", b"-", b"."):
            raise self.bad(f"{shown(strand)} is no strand")
        return self.bed(chrom, begin, end, (rest[0] if rest else b".", SCORE, strand, *rest[1:]))


class MacsPeaks(TableReader):
    """What MACS calls .xls: comments, a heading, places from 1."""

    title = "MACS peaks"
    lowest = 1

    def __init__(self) -> None:
        super().__init__()
        self._named: list[bytes] = []

    def line(self, text: bytes) -> bytes:
        if text.startswith(b"#"):
            return text + b"\n"
        fields = self.columns(text, 4)
        if fields[:3] == [b"chr", b"start", b"end"]:
            if self._named and fields != self._named:
                raise refuse(
                    self.lines, "a second heading with other columns: these are several files in one"
                )
            again, self._named = bool(self._named), fields
            if again:
                self.count("heading_lines")
                return b""
            return self.heading(b"name\tscore\tstrand", [n for n in fields[3:] if n != b"name"])
        if not self._named:
            raise refuse(self.lines, "the heading that begins with chr, start, end is missing above it")
        if len(fields) != len(self._named):
            raise self.bad(f"{len(fields)} columns, but the heading names {len(self._named)}")
        found = dict(zip(self._named, fields, strict=True))
        rest = [value for name, value in list(found.items())[3:] if name != b"name"]
        name = found.get(b"name", b"peak_%d" % (self.records + 1))
        return self.bed(fields[0], fields[1], fields[2], (name, SCORE, b".", *rest))
