"""What a line of a text format must be, and how odd lines are corrected.

Blocks of whole lines go in, normalised records come out. A block that a regular expression
proves clean passes as it is (C speed); any other goes line by line through the rules that
define the format. Both ways give the same bytes: that is a tested property.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import groupby
from operator import gt
from typing import Final

from gooseherd.domain.contig import Contig
from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.bad_lines import LineCounts, NoRecord, bad_line, refuse
from gooseherd.processing.formats.sam_header import MAX_CONTIGS

MAX_COORDINATE: Final = (1 << 31) - 1
"""Readers in the browser hold positions in 32 bits."""

INT: Final = rb"(0|[1-9]\d{0,9})"
_PLAIN_INT: Final = re.compile(INT)
# Leading zeros are not plain: tabix reads 010 as octal.
_EXACT: Final = re.compile(rb" *([+-]?\d{1,20}(?:\.\d{0,20})?(?:[eE][+-]?\d{1,2})?) *")
_DISPLAY: Final = re.compile(rb"(?:track|browser)(?:[ \t].*)?", re.DOTALL)
_NO_LETTERS: Final = re.compile(rb"[^A-Za-z]+")
_HEADING: Final = re.compile(rb"beg|from|left|pos|.*(?:start|begin|position).*", re.IGNORECASE)
"""What the letters of a heading of a column of starts are: "chromStart", "txStart", "Start (bp)"."""
_MOST_LETTERS: Final = 32
_HEADER_LINES: Final = frozenset({"display_lines", "heading_lines", "replaced_header_lines"})
"""Counts of what stands above records and is not kept."""
WIDE_RECORDS: Final = "wide_records"
"""Counts records that stay as they are."""
_OF_A_RECORD: Final = ("spaced_lines", "respelt_coordinates", WIDE_RECORDS)
"""Counts of what is no more to be told of a line that is left out."""


def whole_number(text: bytes) -> int | None:
    """In any exact spelling: 1e3, 10.0, +7, 007, with spaces around it."""
    if _PLAIN_INT.fullmatch(text):
        return int(text)
    exact = _EXACT.fullmatch(text)
    number = Decimal(exact[1].decode()) if exact else None
    return None if number is None or number != number.to_integral_value() else int(number)


def _is_heading(field: bytes) -> bool:
    return not field[:1].isdigit() and bool(_HEADING.fullmatch(_NO_LETTERS.sub(b"", field)[:_MOST_LETTERS]))


def _blocks(names: Sequence[bytes]) -> Iterable[tuple[bytes, int]]:
    """Each run of one name with its length."""
    if names[0] == names[-1] and len(set(names)) == 1:
        return ((names[0], len(names)),)
    return ((name, len(list(run))) for name, run in groupby(names))


class Records(LineCounts):
    """The reader of one file; its attributes hold the counts and what the records have in common."""

    columns = 3
    begin, end = 1, 2
    lowest = 0
    """The smallest legal start."""
    called = "records"
    may_be_spaced = False
    """Columns may be split by white space of any kind."""
    may_have_heading = False
    """A line may name the columns."""
    positions = re.compile(rb"[^\t]*\t\d+\t\d+(?:\t|\Z)")
    """A line whose columns of positions are there and hold whole numbers."""
    quick = re.compile(
        rb"^(?!track|browser)([^\t\n#][^\t\n]*)\t" + INT + rb"\t" + INT + rb"(?:\t[^\n]*)?\n", re.MULTILINE
    )

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.header: list[bytes] = []
        self.max_end = 0
        self.lengths: dict[bytes, int] = {}
        self.seen: set[bytes] = set()
        self.over = False
        """Among sequences that follow the records (GFF3 §FASTA)."""
        self.may_be_empty = False
        """Not even a header is needed."""
        self.open_end = False
        """The last line had no newline: by itself nothing odd."""
        self.ordered = True
        """Sequences stand in contiguous blocks, with ascending starts."""
        self._top: list[bytes] = []
        self._last: tuple[bytes, int] = (b"", 0)

    # -- blocks ----------------------------------------------------------------------------

    def block(self, first: int, data: bytes) -> bytes:
        """The records among these whole lines; `first` is the number of the first line."""
        if b"\0" in data:
            line = first + data.count(b"\n", 0, data.index(b"\0"))
            raise refuse(line, "a NUL byte: this is not text")
        if b"\r\n" in data:
            self.count("carriage_returns", data.count(b"\r\n"))
            data = data.replace(b"\r\n", b"\n")
        if self.records and not self.over and b"\r\n" not in data and self.take_quickly(data):
            return data
        lines = data.split(b"\n")
        lines.pop()
        return b"".join(out for n, line in enumerate(lines, first) if (out := self.line(n, line)))

    def take_quickly(self, data: bytes) -> bool:
        """Whether every line is provably a record that `line` would pass unchanged; counts them if so."""
        found = self.quick.findall(data)
        if len(found) != data.count(b"\n"):
            return False
        chroms, starts, ends = zip(*found, strict=True)
        begins = list(map(int, starts))
        stops = list(map(int, ends))
        top = max(stops)
        if top > MAX_COORDINATE or min(begins) < self.lowest or any(map(gt, begins, stops)):
            return False
        self.follow(chroms, begins)
        self.passed(set(chroms), len(found), top)
        return True

    def follow(self, chroms: Sequence[bytes], begins: list[int]) -> None:
        """Check whether these records continue the order; before they are counted."""
        if not self.ordered:
            return
        at = 0
        done: set[bytes] = set()
        for name, many in _blocks(chroms):
            block = begins[at : at + many]
            last, start = self._last
            again = name != last and (name in self.seen or name in done)
            if again or block != sorted(block) or (name == last and block[0] < start):
                self.ordered = False
                return
            self._last = (name, block[-1])
            done.add(name)
            at += many

    def passed(self, chroms: set[bytes], records: int, end: int) -> None:
        """Count records that are written."""
        self.records += records
        self.max_end = max(self.max_end, end)
        if not chroms <= self.seen:
            self.seen |= chroms
            if len(self.seen) > MAX_CONTIGS:
                raise StepFailed.because(
                    Reason.SOURCE_INVALID,
                    f"more than {MAX_CONTIGS} different sequence names: this is no {self.name}",
                )

    # -- lines -----------------------------------------------------------------------------

    def line(self, number: int, line: bytes) -> bytes:
        """The normalised record with its newline, or nothing."""
        if line.endswith(b"\r"):
            self.count("carriage_returns", len(line) - len(line.rstrip(b"\r")))
            line = line.rstrip(b"\r")
        if self.sequence_line(number, line):
            self.count("sequence_lines")
            return b""
        if not line.strip():
            self.count("blank_lines")
            return b""
        if line.startswith(b"#"):
            if not self.records:
                self._top.append(line + b"\n")
            self.comment(number, line)
            return b""
        if _DISPLAY.fullmatch(line) and not self.positions.match(line):
            self.count("display_lines")
            return b""
        if not self.skip_bad_lines:
            return self.record(number, line)
        before = {what: self.counts.get(what, 0) for what in _OF_A_RECORD}
        try:
            return self.record(number, line)
        except NoRecord as bad:
            self.counts = {what: n for what, n in (self.counts | before).items() if n}
            self.leave_out(number, bad.failure)
            return b""

    def sequence_line(self, number: int, line: bytes) -> bool:
        """Whether it belongs to sequences that follow the records."""
        return False

    def comment(self, number: int, line: bytes) -> None:
        """A line that starts with #: above the records it stays, below it goes."""
        if self.records:
            self.count("comment_lines")
        else:
            self.header.append(line)

    def record(self, number: int, line: bytes) -> bytes:
        """Check one record; raise for what cannot be corrected."""
        fields = line.split(b"\t")
        if self.may_be_spaced and not self._has_positions(fields):
            fields = self._split_at_spaces(line, fields)
        if self.may_have_heading and len(fields) > self.begin and _is_heading(fields[self.begin]):
            self.count("heading_lines")
            return b""
        if len(fields) < self.columns:
            raise bad_line(
                number, f"{len(fields)} columns, but {self.name} has {self.columns} or more, split by TAB"
            )
        if not fields[0]:
            raise bad_line(number, "the sequence name is empty")
        if fields[0].startswith(b"#"):
            raise bad_line(number, "the sequence name starts with #, which would make the record a comment")
        self.judge_columns(number, fields)
        end = self.extent(number, line, fields)
        if self.ordered:
            self.follow((fields[0],), [int(fields[self.begin])])
        self.passed({fields[0]}, 1, end)
        return self.given(number, fields)

    def given(self, number: int, fields: list[bytes]) -> bytes:
        """The checked record as it will be written."""
        return b"\t".join(fields) + b"\n"

    def judge_columns(self, number: int, fields: list[bytes]) -> None:
        """Judge them by the header, and the header by the first record."""

    def _has_positions(self, fields: list[bytes]) -> bool:
        """Whether these columns are enough, with numbers where positions belong."""
        return len(fields) >= self.columns and all(
            whole_number(fields[at]) is not None for at in (self.begin, self.end)
        )

    def _split_at_spaces(self, line: bytes, fields: list[bytes]) -> list[bytes]:
        """Split at any white space, if the columns make a record then, or if there is no TAB."""
        words = line.split()
        enough = len(words) >= self.columns
        if (len(fields) == 1 < len(words)) or (
            enough and (len(fields) < self.columns or self._has_positions(words))
        ):
            self.count("spaced_lines")
            return words
        return fields

    def extent(self, number: int, line: bytes, fields: list[bytes]) -> int:
        """Check and rewrite the coordinates in `fields`; the end."""
        begin = self.coordinate(number, fields, self.begin)
        end = self.coordinate(number, fields, self.end)
        if begin > end:
            raise bad_line(number, f"start {begin} is after end {end}")
        return end

    def coordinate(self, number: int, fields: list[bytes], column: int) -> int:
        """The whole number in that column, rewritten when it was spelt oddly (1e3, 10.0, 007)."""
        text = fields[column]
        value = whole_number(text)
        if value is None:
            shown = text[:40].decode("utf-8", "replace")
            raise bad_line(number, f"column {column + 1} is {shown!r}, which is not a whole number")
        if value < self.lowest:
            raise bad_line(number, f"position {value} in column {column + 1} is below {self.lowest}")
        if value > MAX_COORDINATE:
            raise bad_line(number, f"position {value} in column {column + 1} is above {MAX_COORDINATE}")
        if (plain := b"%d" % value) != text:
            self.count("respelt_coordinates")
            fields[column] = plain
        return value

    # -- the end ---------------------------------------------------------------------------

    def finish(self) -> bytes:
        """Everything was read: the header as it will stand above the records.

        Raises:
            StepFailed: there was neither a record nor a header, or there were bad lines alone.
        """
        self.refuse_bad_lines_alone()
        content = self.records or self.lengths or self.header or self.counts.keys() & _HEADER_LINES
        if not content and not self.may_be_empty:
            raise StepFailed.because(Reason.SOURCE_INVALID, f"no {self.called}: the file has no content")
        return b"".join(line + b"\n" for line in self.header)

    def completed(self, header: bytes) -> bytes:
        """That header with what readers need of it; for a source that does not stay as it is."""
        return header

    def added(self) -> bytes:
        """Records that the source lacks; first among those with their start. Call once, at the end."""
        return b""

    def unchanged(self, header: bytes) -> bool:
        """Whether what came out, with this header, is what went in."""
        return not (self.counts.keys() - {WIDE_RECORDS} or self.open_end) and header == b"".join(self._top)

    def contigs(self) -> tuple[Contig, ...]:
        """Declared ones in the header's order, then those that only records name, in byte order."""
        names = [*self.lengths, *sorted(self.seen - self.lengths.keys())]
        return tuple(Contig(name.decode("utf-8", "replace"), self.lengths.get(name)) for name in names)
