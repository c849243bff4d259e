"""What the normaliser, or the kernel in its place, reports of a source: counts, contigs, notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gooseherd.domain.contig import Contig

_SENTENCES: Final[dict[str, str]] = {
    "byte_order_mark": "the byte order mark at the start was removed",
    "carriage_returns": "carriage returns at line ends were removed",
    "blank_lines": "blank lines were dropped",
    "comment_lines": "comments below the first record, or in the header of a VCF, were dropped",
    "display_lines": "track and browser lines were dropped",
    "heading_lines": "lines of column headings were dropped",
    "repeated_header_lines": "repeated header lines were dropped",
    "replaced_header_lines": "header lines that named the old format were replaced",
    "added_header_lines": "header lines that readers need were added",
    "separator_lines": "### separators were dropped: they mean nothing in a sorted file",
    "sequence_lines": "sequences (FASTA) among or behind the records were dropped",
    "spaced_lines": "columns split by spaces were split by TAB",
    "respelt_coordinates": "positions written like 1e3, 10.0 or 007 were respelt",
    "respelt_titles": "spaces, or a FORMAT without samples, at the end of the #CHROM line were removed",
    "joined_columns": "attributes that were split by TABs were put into one column",
    "line_comments": "comments behind the attributes of a record were dropped",
    "added_genes": "genes that had no line of their own got one, over all their parts at a place",
    "added_transcripts": "transcripts that had no line of their own got one, over all their parts at a place",
    "wide_records": "records have more columns than the #CHROM line names: readers leave them out",
}

_DROPPED: Final = (
    "bad_lines", "blank_lines", "comment_lines", "display_lines", "heading_lines",
    "repeated_header_lines", "replaced_header_lines", "separator_lines", "sequence_lines",
)  # fmt: skip
"""The counts that each stand for a line of the source that is not in the result."""


@dataclass(frozen=True, slots=True)
class NormaliserReport:
    """`data` is the JSON object that normalise.py or the kernel wrote."""

    data: Mapping[str, Any]

    @property
    def records(self) -> int:
        return int(self.data["records"])

    @property
    def lines(self) -> int:
        """Of header and records together."""
        return self.records + int(self.data["header_lines"])

    @property
    def size(self) -> int:
        """Bytes of header and records together."""
        return int(self.data["record_bytes"]) + int(self.data["header_bytes"])

    @property
    def source_lines(self) -> int:
        """All lines that were read."""
        return int(self.data["lines"])

    @property
    def accounted_lines(self) -> int:
        """Lines of the source that are in the result, or counted as dropped."""
        made = sum(count for what, count in self.counts.items() if what.startswith("added_"))
        return self.lines - made + sum(self.counts.get(what, 0) for what in _DROPPED)

    @property
    def max_end(self) -> int:
        return int(self.data["max_end"])

    @property
    def ordered(self) -> bool:
        """The records came in the order in which they can stay."""
        return bool(self.data["ordered"])

    @property
    def kept(self) -> bool:
        """The source is what would have been made of it."""
        return bool(self.data["kept"])

    @property
    def contigs(self) -> tuple[Contig, ...]:
        return tuple(Contig(name, length) for name, length, *_ in self.data["contigs"])

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.data["counts"])

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what was changed or dropped."""
        notes = [sentence for what, sentence in _SENTENCES.items() if self.counts.get(what)]
        if bad := self.data.get("bad_lines"):
            are = "line that makes no record was" if len(bad) == 1 else "lines that make no records were"
            first = str(self.data["first_bad_line"])
            notes.append(f"{len(bad)} {are} left out: {', '.join(map(str, bad))} ({first})")
        if self.data["without_end_marker"]:
            notes.append("the BGZF end marker is missing; every block that is there was complete")
        return tuple(notes)
