"""GTF becomes GFF3, line by line: every line and attribute kept, ID and Parent set, missing parents made.

The rules stand at the top of kernel/src/formats/gtf.c; this is the same in Python, byte for byte.
"""

from __future__ import annotations

import re
from typing import Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.bad_lines import refuse
from gooseherd.processing.formats.parents import About, Parent, Parents, Query
from gooseherd.processing.formats.text import Gff

_TYPE, _STRAND, _ATTRIBUTES = 2, 6, 8
_JOINED: Final = 256
"""So many attributes of a line are looked through for equal keys."""
_ITEM: Final = re.compile(rb'([^ =";]*) *(=? *)(?:"([^"]*)"?|([^;]*))')
_BARE: Final = re.compile(rb'[ ;]*([^ =";#][^ =";]*)[ ;]*')
_CLOSING: Final = re.compile(rb'(?<!\\)"')
_RESERVED: Final = re.compile(rb"[\x00-\x1f\x7f%;=&,]")
_VERSION: Final = re.compile(rb"##gff-version[ \t\n\v\f\r]+(.*)", re.DOTALL)
_IN_THE_WAY: Final = {b"ID": b"id", b"Parent": b"parent"}

_Attributes = list[tuple[bytes, bytes]]


class Gtf(Gff):
    """Reads GTF, gives GFF3. What the source lacks is in `added` once all is read."""

    def __init__(self, name: str, max_line: int) -> None:
        super().__init__(name)
        self.max_line = max_line
        self.as_is = False
        """It is GFF3 already."""
        self.identified = False
        self.parents = Parents()

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
        # What stands behind the ninth column belongs to it: some write TABs between attributes, or in them.
        column = b" ".join(fields[_ATTRIBUTES:])
        attributes, already = self.parse(column)
        if already:
            self.identified = True
            return super().given(number, fields)
        if len(fields) > _ATTRIBUTES + 1:
            self.count("joined_columns")
            del fields[_ATTRIBUTES + 1 :]
        bare = _read_bare(attributes, column, fields[_TYPE])
        gene, transcript = _id(attributes, b"gene_id"), _id(attributes, b"transcript_id")
        rank = _rank(fields[_TYPE], bool(transcript))
        of_gene, of_transcript = self.family(fields, attributes, rank, gene, transcript, bare=bare)
        self.identified = self.identified or bool(gene or transcript)
        items = []
        own = {"gene": of_gene, "transcript": of_transcript}.get(rank)
        above = None if rank == "gene" else of_transcript if rank == "part" and transcript else of_gene
        if own:
            items.append(b"ID=" + _escaped(own.id))
        if above:
            items.append(b"Parent=" + _escaped(above.id))
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
            if quoted is not None and b'\\"' in column:
                quoted, at = _quoted(column, item.start(3))
            key = item[1] or b"note"
            found.append((key, quoted if quoted is not None else bare.rstrip(b" ")))
            already = already or (b"=" in item[2] and key in _IN_THE_WAY)

    def family(
        self,
        fields: list[bytes],
        attributes: _Attributes,
        rank: str,
        gene: bytes,
        transcript: bytes,
        *,
        bare: bool,
    ) -> tuple[Parent | None, Parent | None]:
        """The gene and the transcript that this record stands for or belongs to."""
        parents, contig = self.parents, fields[0]
        strand = fields[_STRAND] if len(fields[_STRAND]) == 1 else b"."
        query = Query(int(fields[self.begin]), int(fields[self.end]), strand, rank == "part")
        if rank == "gene":
            transcript = b""
        gene_name, of_gene, of_transcript = None, None, None
        if gene:
            gene_name = parents.name(contig, gene, transcript=False)
            if rank != "part" or not transcript:
                of_gene = parents.at(gene_name, None, query)
                of_gene.present = of_gene.present or rank == "gene"
        elif bare and transcript:
            of_gene = parents.gene_above(contig, query)
            gene_name = of_gene.name if of_gene else None
        in_need = of_gene is not None and not of_gene.present
        if transcript:
            made = len(parents.all)
            of_transcript = parents.at(parents.name(contig, transcript, transcript=True), gene_name, query)
            if len(parents.all) > made:
                of_transcript.like_gene = gene == transcript
            if rank == "transcript":
                of_transcript.present = True
                of_transcript.gene = of_gene
            elif not of_transcript.present:
                in_need = bool(gene)
                if of_transcript.about is None:
                    of_transcript.about = _about(fields, attributes, "transcript")
        if in_need and gene_name is not None and gene_name.about is None:
            gene_name.about = _about(fields, attributes, "gene")
        return of_gene, of_transcript

    def added(self) -> bytes:
        self.parents.finish()
        found = []
        for transcripts, kind in ((False, b"gene"), (True, b"transcript")):
            for parent in self.parents.all:
                if parent.present or parent.name.transcript != transcripts:
                    continue
                source, text = (parent.about if transcripts else parent.name.about) or (b"", b"")
                items = [b"ID=" + _escaped(parent.id)]
                items += [b"Parent=" + _escaped(parent.gene.id)] if parent.gene else []
                items += [text] if text else []
                column, place = b";".join(items), b"%d\t%d" % (parent.start, parent.end)
                line = (parent.name.contig, source, kind, place, b".", parent.strand, b".", column)
                found.append(b"\t".join(line) + b"\n")
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


def _id(attributes: _Attributes, name: bytes) -> bytes:
    """The first of that name that says something, if it is not the dot that stands for nothing."""
    found = _first(attributes, name)
    return b"" if found == b"." else found


def _read_bare(attributes: _Attributes, column: bytes, kind: bytes) -> bool:
    """A bare word instead of attributes: the id of a gene or a transcript. Whether it was one."""
    if len(attributes) != 1 or not (word := _BARE.fullmatch(column)):
        return False
    rank = "gene" if kind.endswith(b"gene") else _rank(kind, has_transcript=True)
    if rank == "part":
        return False
    attributes[0] = (b"gene_id" if rank == "gene" else b"transcript_id", word[1])
    return True


def _quoted(column: bytes, start: int) -> tuple[bytes, int]:
    """(the value that begins there, where it ends): at a quote that is not escaped, or at the last one."""
    closing = _CLOSING.search(column, start)
    end = closing.start() if closing else column.rfind(b'"', start)
    end = len(column) if end < 0 else end
    return column[start:end].replace(b'\\"', b'"'), min(end + 1, len(column))


def _about(fields: list[bytes], attributes: _Attributes, rank: str) -> About:
    """What a line of its own would say of a gene or transcript."""
    wanted = (b"gene", b"transcript") if rank == "transcript" else (b"gene",)
    return fields[1], b";".join(_named(attributes, rank) + _spelt(attributes, wanted))


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
