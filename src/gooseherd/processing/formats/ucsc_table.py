"""Dumps of UCSC's tables, and the output of RepeatMasker that one of them is made of, as lines of BED."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gooseherd.processing.formats.bad_lines import refuse
from gooseherd.processing.formats.converted import shown
from gooseherd.processing.formats.records import whole_number
from gooseherd.processing.formats.tables import SCORE, TableReader

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
                if self.records and named != self._named:
                    raise refuse(self.lines, "another heading below records: these are several files in one")
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
                raise self.bad("no record of RepeatMasker's output")
        fields = self.columns(text, 4)
        if not self._named:
            self._named = self._known(fields)
        if len(fields) != len(self._named):
            raise self.bad(f"{len(fields)} columns, but there are {len(self._named)} names")
        found = dict(zip(self._named, fields, strict=True))
        chrom, begin, end = next(names for names in _NAMES if set(names) <= found.keys())
        if b"exonStarts" in found:
            return self._gene(found)
        rest = [found[name] for name in self._rest()]
        name = found.get(b"repName", found.get(b"name", b"."))
        strand = found.get(b"strand", b".")
        return self.bed(found[chrom], found[begin], found[end], (name, SCORE, strand, *rest))

    def _heading_of_repeatmasker(self) -> bytes:
        if self._repeatmasker:
            self.count("heading_lines")
            return b""
        self._repeatmasker = True
        return self.heading(b"name\tscore\tstrand", _REPEATMASKER)

    def _repeat(self, chrom: bytes, begin: bytes, end: bytes, rest: Sequence[bytes]) -> bytes:
        # Unlike UCSC's tables it counts from 1, and no repeat is empty.
        start, stop = self.position(begin), self.position(end)
        if not 0 < start <= stop:
            raise self.bad(f"{shown(begin)} to {shown(end)} is no interval")
        return self.bed(chrom, b"%d" % (start - 1), b"%d" % stop, rest)

    def _heading(self) -> bytes:
        if b"exonStarts" in self._named:
            self.count("heading_lines" if self.records else "replaced_header_lines")
            return b""
        return self.heading(b"name\tscore\tstrand", self._rest())

    def _rest(self) -> list[bytes]:
        """The columns that are no columns of BED."""
        used = {name for names in _NAMES for name in names} | {b"bin", b"strand", b"name", b"repName"}
        return [name for name in self._named if name not in used]

    def _known(self, fields: list[bytes]) -> list[bytes]:
        """The names of the columns of a table without a heading, by the shape of its first record."""
        if len(fields) == len(_RMSK) and whole_number(fields[6]) is not None and fields[9] in (b"+", b"-"):
            return _RMSK
        for names in _GENES:
            if len(fields) == len(names) and _fits(dict(zip(names, fields, strict=True))):
                return names
        raise self.bad(
            "a table without a heading (#bin chrom ...) that is neither rmsk nor genes "
            "(genePred, knownGene, refFlat)"
        )

    def _gene(self, found: dict[bytes, bytes]) -> bytes:
        begins, ends = (self._places(found[name]) for name in (b"exonStarts", b"exonEnds"))
        start = self.position(found[b"txStart"])
        if not begins or len(begins) != len(ends):
            raise self.bad("the lists of exons are damaged")
        sizes = b",".join(b"%d" % (end - begin) for begin, end in zip(begins, ends, strict=True))
        offsets = b",".join(b"%d" % (begin - start) for begin in begins)
        thick = [b"%d" % self.position(found[name]) for name in (b"cdsStart", b"cdsEnd")]
        return self.bed(
            found[b"chrom"],
            b"%d" % start,
            found[b"txEnd"],
            (
                *(found[b"name"], SCORE, found[b"strand"], *thick, b"0"),
                *(b"%d" % len(begins), sizes, offsets, found.get(b"name2", found.get(b"geneName", b"."))),
            ),
        )

    def _places(self, text: bytes) -> list[int]:
        """Of exons, with a comma behind each."""
        return [self.position(number) for number in text.removesuffix(b",").split(b",")] if text else []


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
    if not fractions or None in map(whole_number, (score, begin, end, two)):
        return None
    repeat = (one, two, three) if strand == b"+" else (three, two, one)
    rest = (score, div, deleted, inserted, left, kind, *repeat, *(number or (b".",)))
    return chrom, begin, end, (name, SCORE, b"+" if strand == b"+" else b"-", *rest)


def _fits(gene: dict[bytes, bytes]) -> bool:
    """Whether a line may be one of a table of genes with these names."""
    return gene[b"strand"] in (b"+", b"-") and all(
        whole_number(gene[name]) is not None
        for name in (b"bin", b"txStart", b"txEnd", b"exonCount")
        if name in gene
    )
