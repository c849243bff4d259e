"""File formats: EDAM ids, common names and file suffixes, all leading to one `Format`.

EDAM ids are from the EDAM ontology (edamontology.org), branch `format`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Family(StrEnum):
    """What a file holds, which decides who processes it."""

    ALIGNMENTS = "alignments"
    INTERVALS = "intervals"
    TABLE = "table"
    SIGNAL = "signal"
    SEQUENCES = "sequences"


@dataclass(frozen=True, slots=True)
class Format:
    """One file format.

    `name` is the canonical spelling, used in keys and on the wire. `suffixes` are
    lowercase and without a compression suffix.
    """

    name: str
    edam: str
    family: Family
    suffixes: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    media_type: str = "application/octet-stream"


BAM: Final = Format("bam", "format_2572", Family.ALIGNMENTS, ("bam",))
SAM: Final = Format("sam", "format_2573", Family.ALIGNMENTS, ("sam",))
CRAM: Final = Format("cram", "format_3462", Family.ALIGNMENTS, ("cram",))
VCF: Final = Format("vcf", "format_3016", Family.INTERVALS, ("vcf",))
BCF: Final = Format("bcf", "format_3020", Family.INTERVALS, ("bcf",))
GFF: Final = Format("gff", "format_2305", Family.INTERVALS, ("gff", "gff2"), aliases=("format_1974",))
GFF3: Final = Format("gff3", "format_1975", Family.INTERVALS, ("gff3",))
GTF: Final = Format("gtf", "format_2306", Family.INTERVALS, ("gtf",))
BED: Final = Format("bed", "format_3003", Family.INTERVALS, ("bed",))
NARROWPEAK: Final = Format("narrowpeak", "format_3613", Family.INTERVALS, ("narrowpeak",))
BROADPEAK: Final = Format("broadpeak", "format_3614", Family.INTERVALS, ("broadpeak",))
BIGBED: Final = Format("bigbed", "format_3004", Family.INTERVALS, ("bb", "bigbed"))
BIGWIG: Final = Format("bigwig", "format_3006", Family.SIGNAL, ("bw", "bigwig"))
BEDGRAPH: Final = Format(
    "bedgraph", "format_3583", Family.SIGNAL, ("bedgraph", "bdg", "bg"), aliases=("bedgraph4",)
)
WIG: Final = Format("wig", "format_3005", Family.SIGNAL, ("wig", "wiggle"))
CSV: Final = Format("csv", "format_3752", Family.TABLE, ("csv",), media_type="text/csv")
TSV: Final = Format(
    "tsv", "format_3475", Family.TABLE, ("tsv", "tab"), media_type="text/tab-separated-values"
)
FASTA: Final = Format(
    "fasta", "format_1929", Family.SEQUENCES, ("fa", "fasta", "fna", "ffn", "faa", "frn", "fas", "mpfa"),
    aliases=("format_2200", "format_1332", "format_1954", "format_2546"),
)  # fmt: skip

ALL: Final[tuple[Format, ...]] = (
    BAM, SAM, CRAM, VCF, BCF, GFF, GFF3, GTF, BED, NARROWPEAK, BROADPEAK, BIGBED, BIGWIG, CSV, TSV,
    FASTA, BEDGRAPH, WIG,
)  # fmt: skip

NAMES: Final = tuple(f.name for f in ALL)
"""What a user may call them, among other names."""

_COMPRESSION = ("gz", "bgz", "bgzf", "bz2", "xz", "zst", "zstd")
_EDAM = re.compile(r"(?:https?://edamontology\.org/)?(format)[_:](\d{4})$")

_BY_NAME: Final[dict[str, Format]] = {
    word: f for f in ALL for word in (f.name, f.edam, *f.suffixes, *f.aliases)
}


def resolve(text: str) -> Format | None:
    """The format meant by an EDAM id, an EDAM URL, a name or a suffix; None when nothing known.

    >>> resolve("http://edamontology.org/format_2572").name
    'bam'
    >>> resolve("VCF.GZ").name
    'vcf'
    """
    word = text.strip().lower().lstrip(".")
    edam = _EDAM.match(word)
    if edam:
        word = f"{edam[1]}_{edam[2]}"
    if word in _BY_NAME:
        return _BY_NAME[word]
    return from_filename(f"x.{word}")


def from_filename(filename: str) -> Format | None:
    """The format a file name's suffix says, seen through one compression suffix."""
    parts = filename.lower().rsplit("/", 1)[-1].split(".")
    if len(parts) > 2 and parts[-1] in _COMPRESSION:
        parts.pop()
    return next((f for f in ALL if parts[-1] in f.suffixes), None) if len(parts) > 1 else None
