"""GTF becomes GFF3, line by line: every line and attribute kept, ID and Parent set, missing parents made.

The rules stand at the top of kernel/src/formats/gtf.c; this is the same in Python, byte for byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.records import refuse
from gooseherd.processing.formats.text import Gff

_TYPE, _STRAND, _ATTRIBUTES = 2, 6, 8
_JOINED: Final = 256
"""So many attributes of a line are looked through for equal keys."""
_ITEM: Final = re.compile(rb'([^ =";]*) *(=? *)(?:"([^"]*)"?|([^;]*))')
_RESERVED: Final = re.compile(rb"[\x00-\x1f\x7f%;=&,]")
_VERSION: Final = re.compile(rb"##gff-version[ \t\n\v\f\r]+(.*)", re.DOTALL)
_IN_THE_WAY: Final = {b"ID": b"id", b"Parent": b"parent"}

_Attributes = list[tuple[bytes, bytes]]


@dataclass
class _Parent:
    """A gene or transcript of one sequence. `about` is None when its first mention was its own line."""

    start: int
    end: int
    present: bool = False
    about: tuple[bytes, bytes, bytes] | None = None
    """Source, strand and attributes of the record that named it first."""
    name: bytes = b""
    gene: bytes = b""

    def holds(self, start: int, end: int) -> None:
        self.start = min(self.start, start)
        self.end = max(self.end, end)


class Gtf(Gff):
    """Reads GTF, gives GFF3. What the source lacks is in `added` once all is read."""

    def __init__(self, name: str, max_line: int) -> None:
        super().__init__(name)
        self.max_line = max_line
        self.as_is = False
        """It is GFF3 already."""
        self.identified = False
        self.genes: dict[tuple[bytes, bytes], _Parent] = {}
        self.transcripts: dict[tuple[bytes, bytes], _Parent] = {}

    def take_quickly(self, data: bytes) -> bool:
        return self.as_is and super().take_quickly(data)

    def comment(self, number: int, line: bytes) -> None:
        if not self.records and not self.as_is:
            if found := _VERSION.fullmatch(line.rstrip()):
                self.as_is = found[1] == b"3"
                if not self.as_is:
                    self.count("replaced_header_lines")
                    return
            elif line.rstrip() == b"##format: gtf":
                self.count("replaced_header_lines")
                return
        super().comment(number, line)

    def given(self, number: int, fields: list[bytes]) -> bytes:
        if self.as_is:
            return super().given(number, fields)
        attributes, already = self.parse(fields[_ATTRIBUTES])
        if already:
            self.identified = True
            return super().given(number, fields)
        gene, transcript = _first(attributes, b"gene_id"), _first(attributes, b"transcript_id")
        rank = _rank(fields[_TYPE], bool(transcript))
        self.note(fields, attributes, rank, gene, transcript)
        self.identified = self.identified or bool(gene or transcript)
        items = []
        own = {"gene": gene, "transcript": _called(transcript, gene)}.get(rank, b"")
        above = {"gene": b"", "transcript": gene}.get(rank, _called(transcript, gene) or gene)
        if own:
            items.append(b"ID=" + _escaped(own))
        if above:
            items.append(b"Parent=" + _escaped(above))
        if (name := _name(attributes, rank)) and all(key != b"Name" for key, _ in attributes):
            items.append(b"Name=" + _escaped(name))
        items += _spelt(attributes)
        fields[_ATTRIBUTES] = b";".join(items) or b"."
        line = super().given(number, fields)
        if len(line) > self.max_line + 1:
            raise refuse(number, f"the line would be longer than {self.max_line} bytes in GFF3")
        return line

    def parse(self, column: bytes) -> tuple[_Attributes, bool]:
        """(keys and values in order, whether this is GFF3 already)."""
        found: _Attributes = []
        already = False
        if column == b".":
            return found, already
        at, end = 0, len(column)
        while True:
            while at < end and column[at] in b" ;":
                at += 1
            if at == end:
                return found, already
            if column[at] == ord("#"):
                self.count("line_comments")
                return found, already
            item = _ITEM.match(column, at)
            assert item is not None
            at = item.end()
            quoted, bare = item[3], item[4]
            key = item[1] or b"note"
            found.append((key, quoted if quoted is not None else bare.rstrip(b" ")))
            already = already or (b"=" in item[2] and key in _IN_THE_WAY)

    def note(
        self, fields: list[bytes], attributes: _Attributes, rank: str, gene: bytes, transcript: bytes
    ) -> None:
        """Remember which gene and which transcript this record names, and how far they reach."""
        start, end = int(fields[self.begin]), int(fields[self.end])
        strand = fields[_STRAND] if len(fields[_STRAND]) == 1 else b"."
        if gene:
            known = self.genes.setdefault((fields[0], gene), _Parent(start, end))
            known.holds(start, end)
            if rank == "gene":
                known.present = True
            elif not known.present and known.about is None:
                spelt = _named(attributes, "gene") + _spelt(attributes, (b"gene",))
                known.name = gene
                known.about = (fields[1], strand, b";".join(spelt))
        if transcript and rank != "gene":
            known = self.transcripts.setdefault((fields[0], transcript), _Parent(start, end))
            known.holds(start, end)
            if rank == "transcript":
                known.present = True
            elif not known.present and known.about is None:
                spelt = _named(attributes, "transcript") + _spelt(attributes, (b"gene", b"transcript"))
                known.name, known.gene = _called(transcript, gene), gene
                known.about = (fields[1], strand, b";".join(spelt))

    def added(self) -> bytes:
        found = []
        for kind, parents in ((b"gene", self.genes), (b"transcript", self.transcripts)):
            for (contig, _), parent in parents.items():
                if parent.present or parent.about is None:
                    continue
                source, strand, about = parent.about
                above = b";Parent=" + _escaped(parent.gene) if parent.gene else b""
                column = b"ID=" + _escaped(parent.name) + above + b";" + about
                place = b"%d\t%d" % (parent.start, parent.end)
                found.append(b"\t".join((contig, source, kind, place, b".", strand, b".", column)) + b"\n")
                self.count(f"added_{kind.decode()}s")
        self.records += len(found)
        self.ordered = self.ordered and not found
        return b"".join(found)

    def unchanged(self, header: bytes) -> bool:
        return False

    def finish(self) -> bytes:
        if self.records and not self.as_is and not self.identified:
            raise StepFailed.because(
                Reason.SOURCE_INVALID, "no record has a gene_id or transcript_id: this is no GTF"
            )
        header = super().finish()
        if self.as_is:
            return header
        self.count("added_header_lines")
        return b"##gff-version 3\n" + header


def _first(attributes: _Attributes, name: bytes) -> bytes:
    """The first of that name that says something."""
    return next((value for key, value in attributes if key == name and value), b"")


def _rank(kind: bytes, has_transcript: bool) -> str:
    if kind.endswith(b"gene") and (not has_transcript or kind == b"gene"):
        return "gene"
    above = kind.endswith((b"RNA", b"transcript", b"gene_segment", b"gene"))
    return "transcript" if has_transcript and above else "part"


def _name(attributes: _Attributes, rank: str) -> bytes:
    """What browsers show a gene or a transcript by; RefSeq's genes have it as gene."""
    if rank == "gene":
        return _first(attributes, b"gene_name") or _first(attributes, b"gene")
    return _first(attributes, b"transcript_name") if rank == "transcript" else b""


def _named(attributes: _Attributes, rank: str) -> list[bytes]:
    name = _name(attributes, rank)
    return [b"Name=" + _escaped(name)] if name else []


def _called(transcript: bytes, gene: bytes) -> bytes:
    """The transcript's ID."""
    return b"transcript:" + transcript if transcript and transcript == gene else transcript


def _spelt(attributes: _Attributes, about: tuple[bytes, ...] = (b"",)) -> list[bytes]:
    """As GFF3 spells them, values of one key joined; only keys that begin like one of `about`."""
    joined: dict[bytes, list[bytes]] = {}
    for key, value in attributes[:_JOINED]:
        joined.setdefault(key, []).append(_escaped(value))
    all_items = [(key, b",".join(values)) for key, values in joined.items()]
    all_items += [(key, _escaped(value)) for key, value in attributes[_JOINED:]]
    return [_key(key) + b"=" + value for key, value in all_items if key.startswith(about)]


def _key(key: bytes) -> bytes:
    return _IN_THE_WAY.get(key) or _escaped(key)


def _escaped(text: bytes) -> bytes:
    return _RESERVED.sub(lambda found: b"%%%02X" % found[0][0], text)
