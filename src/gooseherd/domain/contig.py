"""A reference sequence, apart from artifacts: programs that read text need nothing else of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

CONTIG_LINE: Final = re.compile(rb"##contig=<(?:[^>]*,)?ID=([^,>]+)")
"""Of a VCF's header."""
REGION_LINE: Final = re.compile(rb"##sequence-region\s+(\S+)\s+(\d{1,10})\s+(\d{1,10})\s*")
"""Of GFF3."""
SIZE_LINE: Final = re.compile(rb"#chromsize:\s*(\S+)")
"""Of pairs."""

_DIGITS: Final = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class Contig:
    """A reference sequence of the artifact.

    `length` in bases: as the format declares it, else where the last record ends, None when neither is known.
    """

    name: str
    length: int | None = None


def declared_contig(line: bytes) -> bytes | None:
    """The sequence that a line of a text file's header declares."""
    found = CONTIG_LINE.match(line) or REGION_LINE.fullmatch(line) or SIZE_LINE.match(line)
    return found[1] if found else None


def with_lengths(contigs: Sequence[Contig], measured: Sequence[Contig]) -> tuple[Contig, ...]:
    """`contigs` with lengths of `measured` where they have none; all of `measured` when there are none."""
    if not contigs:
        return tuple(measured)
    known = {contig.name: contig.length for contig in measured}
    return tuple(
        contig if contig.length is not None else Contig(contig.name, known.get(contig.name))
        for contig in contigs
    )


def chrom_sizes(contigs: Iterable[Contig]) -> str:
    """A line of name and length for each that has one, as UCSC's tools read it.

    A name in a binary format may have a line break, which would begin another line: it is left out.
    """
    sized = (contig for contig in contigs if contig.length and contig.name.isprintable())
    return "".join(f"{contig.name}\t{contig.length}\n" for contig in sized)


def chrom_aliases(aliases: Mapping[str, Iterable[str]]) -> str:
    """A line for each sequence: its name, and what else it is called; names as of `chrom_sizes`."""
    rows = [(name, *others) for name, others in aliases.items()]
    kept = ([name for name in row if name.isprintable()] for row in rows if row[0].isprintable())
    return "".join("\t".join(row) + "\n" for row in kept)


def in_natural_order(contigs: Sequence[Contig]) -> list[Contig]:
    """As people count: chr2 before chr10, numbers before letters."""
    return sorted(contigs, key=lambda contig: _natural(contig.name))


def _natural(name: str) -> list[tuple[int, int, str]]:
    # Numbers by their digits: a name may have more of them than int() takes.
    words = [(word, word.lstrip("0")) for word in _DIGITS.split(name) if word]
    return [(0, len(digits), digits) if word[0] in "0123456789" else (1, 0, word) for word, digits in words]
