"""Tables of intervals as lines of BED with their other columns behind: seg, Picard's interval lists, peaks of
MACS, dumps of UCSC's tables.

Comments stay as they are. Any other line of the source is a record or a heading; what is neither is refused
with its number. Where the names of columns are known they stand above the records, in a comment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gooseherd.processing.formats.records import MAX_COORDINATE, refuse

_WHOLE: Final = re.compile(rb"\d{1,10}")
_SCORE: Final = b"0"
_RMSK: Final = (
    b"bin swScore milliDiv milliDel milliIns genoName genoStart genoEnd genoLeft strand repName repClass "
    b"repFamily repStart repEnd repLeft id"
).split()
_GENEPRED: Final = (
    b"bin name chrom strand txStart txEnd cdsStart cdsEnd exonCount exonStarts exonEnds score name2 "
    b"cdsStartStat cdsEndStat exonFrames"
).split()
"""hgdownload.soe.ucsc.edu: rmsk.sql, refGene.sql. Older tables, and those without bin, lack some."""
_TEN: Final = _GENEPRED[1:11]
_GENES: Final = (
    _GENEPRED, _GENEPRED[:11], _GENEPRED[1:], _TEN,
    [*_TEN, b"proteinID", b"alignID"],
    [b"geneName", *_TEN],
)  # fmt: skip
"""The columns of tables of genes without a heading; the last two are knownGene and refFlat."""
_REPEATMASKER: Final = (
    b"swScore percDiv percDel percIns genoLeft repClassFamily repStart repEnd repLeft id"
).split()
"""What is behind the strand of a record of RepeatMasker's own output, in BED's terms: where a repeat lies on
the other strand, that output has its last three places the other way round."""
_HEADING: Final = ((b"SW", b"perc"), (b"score", b"div."), (b"bit", b"perc"), (b"score", b"div"))
"""First words of its two lines of headings; `bit` with HMMER."""
_FRACTION: Final = re.compile(rb"\d{1,3}(?:\.\d+)?")
_NAMES: Final = (
    (b"genoName", b"genoStart", b"genoEnd"),
    (b"chrom", b"txStart", b"txEnd"),
    (b"chrom", b"chromStart", b"chromEnd"),
)


class TableReader:
    """Whole lines in, lines of BED out; `counts` has what was dropped."""

    title = "table"
    lowest = 0

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.lines = 0
        self.records = 0

    def block(self, data: bytes) -> bytes:
        """The records of these whole lines.

        Raises:
            StepFailed: source_invalid, with the line.
        """
        lines = data.split(b"\n")
        lines.pop()
        out = []
        for line in lines:
            self.lines += 1
            text = line.rstrip(b"\r")
            if not text.strip():
                self.count("blank_lines")
            else:
                out.append(self.line(text))
        return b"".join(out)

    def line(self, text: bytes) -> bytes:
        """What becomes of one line that is not blank."""
        raise NotImplementedError

    def count(self, what: str) -> None:
        """Remember that a line was dropped."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def bed(self, chrom: bytes, begin: bytes, end: bytes, rest: Sequence[bytes]) -> bytes:
        """A record; `begin` counts from `lowest`."""
        for number in (begin, end):
            if not _WHOLE.fullmatch(number) or int(number) > MAX_COORDINATE:
                raise self.refused(f"{_shown(number)} is no position")
        start = int(begin) - self.lowest
        if start < 0 or start > int(end):
            raise self.refused(f"{_shown(begin)} to {_shown(end)} is no interval")
        self.records += 1
        return b"\t".join((chrom, b"%d" % start, b"%d" % int(end), *rest)) + b"\n"

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
            return words
        if len(fields) < least:
            raise self.refused(f"{len(fields)} columns, but {self.title} has {least} or more, split by TAB")
        return fields

    def refused(self, problem: str) -> Exception:
        """With the line's number."""
        return refuse(self.lines, problem)


class Seg(TableReader):
    """Segments of copy number (software.broadinstitute.org, "SEG"): sample, place from 1, ..., mean."""

    title = "seg"
    lowest = 1

    def __init__(self) -> None:
        super().__init__()
        self._first = True
        """No line but comments was read yet."""

    def line(self, text: bytes) -> bytes:
        if text.startswith((b"#", b"track")):
            return text + b"\n"
        fields = self.columns(text, 5)
        sample, chrom, begin, end, *between, mean = (field.strip(b'"') for field in fields)
        if self._first and not begin[:1].isdigit():
            self._first = False
            return self.heading(b"name\tscore\tstrand", between)
        self._first = False
        return self.bed(chrom, begin, end, (sample, mean, b".", *between))


class IntervalList(TableReader):
    """Picard's: the header of a SAM, then place from 1, strand, name."""

    title = "interval_list"
    lowest = 1

    def line(self, text: bytes) -> bytes:
        if text.startswith(b"@") and not self.records:
            self.count("replaced_header_lines")
            return b""
        chrom, begin, end, strand, *rest = self.columns(text, 4)
        if strand not in (b"+", b"-", b"."):
            raise self.refused(f"{_shown(strand)} is no strand")
        return self.bed(chrom, begin, end, (rest[0] if rest else b".", _SCORE, strand, *rest[1:]))


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
            self._named = fields
            return self.heading(b"name\tscore\tstrand", [n for n in fields[3:] if n != b"name"])
        if not self._named:
            raise self.refused("the heading that begins with chr, start, end is missing above it")
        if len(fields) != len(self._named):
            raise self.refused(f"{len(fields)} columns, but the heading names {len(self._named)}")
        found = dict(zip(self._named, fields, strict=True))
        rest = [value for name, value in list(found.items())[3:] if name != b"name"]
        name = found.get(b"name", b"peak_%d" % (self.records + 1))
        return self.bed(fields[0], fields[1], fields[2], (name, _SCORE, b".", *rest))


class UcscTable(TableReader):
    """A dump of a table of UCSC: with its heading (#bin chrom ...), or else of rmsk or genes; or what rmsk is
    made of, the output of RepeatMasker (.out), by its headings or the shape of its first record.

    Genes become BED of twelve columns.
    """

    title = "a table of UCSC"

    def __init__(self) -> None:
        super().__init__()
        self._named: list[bytes] = []
        self._repeatmasker = False
        """It is no table but the output of RepeatMasker that rmsk is made of."""

    def line(self, text: bytes) -> bytes:
        if text.startswith(b"#"):
            named = text[1:].split(b"\t")
            if any(set(names) <= set(named) for names in _NAMES):
                self._named = named
                return self._heading()
            return text + b"\n"
        if not self._named and (self._repeatmasker or b"\t" not in text):
            if tuple(text.split()[:2]) in _HEADING:
                return self._heading_of_repeatmasker()
            if (repeat := _repeat(text.split())) is not None:
                self._repeatmasker = True
                return self._repeat(*repeat)
            if self._repeatmasker:
                raise self.refused("no record of RepeatMasker's output")
        fields = self.columns(text, 4)
        if not self._named:
            self._named = self._known(fields)
        if len(fields) != len(self._named):
            raise self.refused(f"{len(fields)} columns, but there are {len(self._named)} names")
        found = dict(zip(self._named, fields, strict=True))
        chrom, begin, end = next(names for names in _NAMES if set(names) <= found.keys())
        if b"exonStarts" in found:
            return self._gene(found)
        rest = [found[name] for name in self._rest()]
        name = found.get(b"repName", found.get(b"name", b"."))
        strand = found.get(b"strand", b".")
        return self.bed(found[chrom], found[begin], found[end], (name, _SCORE, strand, *rest))

    def _heading_of_repeatmasker(self) -> bytes:
        if self._repeatmasker:
            self.count("heading_lines")
            return b""
        self._repeatmasker = True
        return self.heading(b"name\tscore\tstrand", _REPEATMASKER)

    def _repeat(self, chrom: bytes, begin: bytes, end: bytes, rest: Sequence[bytes]) -> bytes:
        # Unlike UCSC's tables it counts from 1.
        if not 0 < int(begin) <= int(end):
            raise self.refused(f"{_shown(begin)} to {_shown(end)} is no interval")
        return self.bed(chrom, b"%d" % (int(begin) - 1), end, rest)

    def _heading(self) -> bytes:
        if b"exonStarts" in self._named:
            self.count("replaced_header_lines")
            return b""
        return self.heading(b"name\tscore\tstrand", self._rest())

    def _rest(self) -> list[bytes]:
        """The columns that are no columns of BED."""
        used = {name for names in _NAMES for name in names} | {b"bin", b"strand", b"name", b"repName"}
        return [name for name in self._named if name not in used]

    def _known(self, fields: list[bytes]) -> list[bytes]:
        """The names of the columns of a table without a heading, by the shape of its first record."""
        if len(fields) == len(_RMSK) and _WHOLE.fullmatch(fields[6]) and fields[9] in (b"+", b"-"):
            return _RMSK
        for names in _GENES:
            if len(fields) == len(names) and _fits(dict(zip(names, fields, strict=True))):
                return names
        raise self.refused(
            "a table without a heading (#bin chrom ...) that is neither rmsk nor genes "
            "(genePred, knownGene, refFlat)"
        )

    def _gene(self, found: dict[bytes, bytes]) -> bytes:
        begins, ends = (
            [int(n) for n in found[name].split(b",") if _WHOLE.fullmatch(n)]
            for name in (b"exonStarts", b"exonEnds")
        )
        start = found[b"txStart"]
        if not begins or len(begins) != len(ends) or not _WHOLE.fullmatch(start):
            raise self.refused("the lists of exons are damaged")
        sizes = b",".join(b"%d" % (end - begin) for begin, end in zip(begins, ends, strict=True))
        offsets = b",".join(b"%d" % (begin - int(start)) for begin in begins)
        return self.bed(
            found[b"chrom"],
            start,
            found[b"txEnd"],
            (
                *(found[b"name"], _SCORE, found[b"strand"], found[b"cdsStart"], found[b"cdsEnd"], b"0"),
                *(b"%d" % len(begins), sizes, offsets, found.get(b"name2", found.get(b"geneName", b"."))),
            ),
        )


def _repeat(words: list[bytes]) -> tuple[bytes, bytes, bytes, tuple[bytes, ...]] | None:
    """(sequence, begin, end, the other columns) of a record of RepeatMasker's output.

    As repeatmasker.org/webrepeatmaskerhelp.html has it. The number of the repeat is not in all versions; a
    star at the end marks one that a better one overlaps.
    """
    if words[-1:] == [b"*"]:
        words = words[:-1]
    if len(words) not in (14, 15) or words[8] not in (b"+", b"C"):
        return None
    score, div, deleted, inserted, chrom, begin, end, left, strand, name, kind, one, two, three, *number = (
        words
    )
    fractions = all(_FRACTION.fullmatch(word) for word in (div, deleted, inserted))
    if not fractions or not all(_WHOLE.fullmatch(word) for word in (score, begin, end, two)):
        return None
    repeat = (one, two, three) if strand == b"+" else (three, two, one)
    rest = (score, div, deleted, inserted, left, kind, *repeat, *(number or (b".",)))
    return chrom, begin, end, (name, _SCORE, b"+" if strand == b"+" else b"-", *rest)


def _fits(gene: dict[bytes, bytes]) -> bool:
    """Whether a line may be one of a table of genes with these names."""
    return gene[b"strand"] in (b"+", b"-") and all(
        _WHOLE.fullmatch(gene[name]) for name in (b"bin", b"txStart", b"txEnd", b"exonCount") if name in gene
    )


READERS: Final[dict[str, type[TableReader]]] = {
    "seg": Seg,
    "interval_list": IntervalList,
    "macs": MacsPeaks,
    "ucsc_table": UcscTable,
}


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", "replace"))
