"""Segments of copy number (software.broadinstitute.org, "SEG") as lines of BED.

The format is sample, sequence, place from 1, more columns, mean. Many programs write other columns and say so
in a heading: then columns are taken by their names, and a heading whose names nobody knows is refused, since
numbers read by the places of their columns could be those of other columns.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from gooseherd.processing.formats.bad_lines import refuse
from gooseherd.processing.formats.records import whole_number
from gooseherd.processing.formats.tables import TableReader

_LEAST: Final = 5
_DISPLAY: Final = re.compile(rb"(?:track|browser)\s")
_NO_WORDS: Final = re.compile(rb"[^a-z0-9]+")
_SAMPLES: Final = (
    b"id sample samplename sampleid samplebarcode barcode tumorsamplebarcode gdcaliquot aliquot tumor case "
    b"individual track trackname name"
).split()
_CHROMS: Final = (
    b"chrom chromosome chr seqname seqnames contig sequence chromname chrname chromosomename"
).split()
_STARTS: Final = (
    b"start locstart begin chromstart chrstart startpos startposition positionstart startloc startbp "
    b"segstart segmentstart"
).split()
_ENDS: Final = (
    b"end locend stop chromend chrend endpos endposition positionend endloc endbp segend segmentend"
).split()
_MEANS: Final = (
    b"segmean segmentmean meanlog2copyratio log2copyratio segmedianlogr segmedian log2ratio log2 logratio "
    b"logr mean medianlogr median value score copynumber totalcopynumber"
).split()
"""The names of columns, in small letters and digits: those of DNAcopy, IGV, the GDC, GATK, ichorCNA, PureCN,
aroma and others; of means, the first that is there."""
_KNOWN: Final = "ID chrom loc.start loc.end num.mark seg.mean"


class _Columns(NamedTuple):
    """Where they are, from 0; `sample` None: in none."""

    sample: int | None
    chrom: int
    start: int
    end: int
    mean: int


class Seg(TableReader):
    """The reader of one file."""

    title = "seg"
    lowest = 1

    def __init__(self) -> None:
        super().__init__()
        self._named: list[bytes] = []
        """The heading; empty: there is none."""
        self._columns: _Columns | None = None

    def line(self, text: bytes) -> bytes:
        if text.startswith(b"#"):
            return text + b"\n"
        if text.startswith(b"@") and self.header_of_sam(text):
            return b""
        if _DISPLAY.match(text) and not _has_places(text.split(b"\t")):
            self.count("display_lines")
            return b""
        fields = [field.strip(b'" ') for field in self.columns(text, len(self._named) or 4)]
        if fields == self._named:
            self.count("heading_lines")
            return b""
        if self._columns is None and not fields[2][:1].isdigit() and (found := _found(fields)) is not None:
            return self._heading(fields, found)
        return self._record(fields)

    def _heading(self, fields: list[bytes], found: _Columns) -> bytes:
        if self.records:
            raise refuse(self.lines, "a heading below records that had none: these are several files in one")
        self._named, self._columns = fields, found
        return self.heading(b"name\tscore\tstrand", _others(fields, found))

    def _record(self, fields: list[bytes]) -> bytes:
        if self._columns is None:
            if not self.records and not any(whole_number(field) is not None for field in fields[2:4]):
                raise refuse(
                    self.lines,
                    f"the columns {' '.join(field.decode('utf-8', 'replace') for field in fields)[:200]!r} "
                    f"are not known; a heading is like {_KNOWN!r}",
                )
            if len(fields) < _LEAST:
                raise self.bad(f"{len(fields)} columns, but seg has {_LEAST} or more, split by TAB")
            at = _Columns(0, 1, 2, 3, len(fields) - 1)
        else:
            while len(fields) > len(self._named) and not fields[-1]:
                fields = fields[:-1]
            if len(fields) != len(self._named):
                raise self.bad(f"{len(fields)} columns, but the heading names {len(self._named)}")
            at = self._columns
        sample = b"." if at.sample is None else fields[at.sample] or b"."
        rest = (sample, fields[at.mean], b".", *_others(fields, at))
        return self.bed(fields[at.chrom], fields[at.start], fields[at.end], rest)


def _found(fields: Sequence[bytes]) -> _Columns | None:
    """The columns by their names; None: these are no names, or not known ones."""
    words = [_NO_WORDS.sub(b"", field.lower()) for field in fields]
    start, end = _first(words, _STARTS), _first(words, _ENDS)
    if start is None or end is None:
        return None
    chrom = _first(words, _CHROMS)
    if chrom is None and (start, end) == (2, 3):
        chrom = 1
    if chrom is None:
        return None
    mean = next((words.index(name) for name in _MEANS if name in words), None)
    used = {chrom, start, end}
    if mean is None:
        # As IGV does.
        mean = next((at for at in reversed(range(len(words))) if at not in used), None)
    if mean is None:
        return None
    sample = 0 if (chrom, start, end) == (1, 2, 3) else _first(words, _SAMPLES)
    return _Columns(None if sample == mean else sample, chrom, start, end, mean)


def _first(words: Sequence[bytes], names: Collection[bytes]) -> int | None:
    return next((at for at, word in enumerate(words) if word in names), None)


def _others(fields: Sequence[bytes], at: _Columns) -> list[bytes]:
    """The columns that BED has no place for."""
    return [field for n, field in enumerate(fields) if n not in at]


def _has_places(fields: Sequence[bytes]) -> bool:
    return len(fields) >= _LEAST and None not in map(whole_number, fields[2:4])
