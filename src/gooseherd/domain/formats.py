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
    MATRIX = "matrix"


@dataclass(frozen=True, slots=True)
class Format:
    """One file format.

    `name` is the canonical spelling, used in keys and on the wire. `edam` is empty where the ontology knows
    none. `suffixes` are lowercase and without a compression suffix.
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
VCF: Final = Format("vcf", "format_3016", Family.INTERVALS, ("vcf", "gvcf"))
BCF: Final = Format("bcf", "format_3020", Family.INTERVALS, ("bcf",))
GFF: Final = Format("gff", "format_2305", Family.INTERVALS, ("gff", "gff2"), aliases=("format_1974",))
GFF3: Final = Format("gff3", "format_1975", Family.INTERVALS, ("gff3", "gvf"), aliases=("format_3019",))
GTF: Final = Format("gtf", "format_2306", Family.INTERVALS, ("gtf",))
BED: Final = Format(
    "bed",
    "format_3003",
    Family.INTERVALS,
    ("bed", "bed3", "bed4", "bed5", "bed6", "bed9", "bed12", "bedmethyl"),
    aliases=("format_3584", "format_3585", "format_3586", "beddetail"),
)
NARROWPEAK: Final = Format("narrowpeak", "format_3613", Family.INTERVALS, ("narrowpeak",))
BROADPEAK: Final = Format("broadpeak", "format_3614", Family.INTERVALS, ("broadpeak",))
GAPPEDPEAK: Final = Format("gappedpeak", "", Family.INTERVALS, ("gappedpeak",))
TAGALIGN: Final = Format("tagalign", "", Family.INTERVALS, ("tagalign",))
INTERACT: Final = Format("interact", "", Family.INTERVALS, ("interact",))
BIGBED: Final = Format(
    "bigbed",
    "format_3004",
    Family.INTERVALS,
    ("bb", "bigbed", "biginteract", "bignarrowpeak", "biggenepred"),
    aliases=("bigpsl", "bigmaf", "bigchain", "bigbarchart", "biglolly", "bigrmsk"),
)
BIGWIG: Final = Format("bigwig", "format_3006", Family.SIGNAL, ("bw", "bigwig"))
SEG: Final = Format("seg", "", Family.INTERVALS, ("seg",))
INTERVAL_LIST: Final = Format("interval_list", "", Family.INTERVALS, ("interval_list", "intervals"))
MACS: Final = Format("macs", "", Family.INTERVALS, ("xls",), aliases=("macs2", "macs3"))
UCSC_TABLE: Final = Format(
    "ucsc_table",
    "",
    Family.INTERVALS,
    ("rmsk", "genepred", "refflat"),
    aliases=("refgene", "genepredext", "knowngene", "repeatmasker"),
)
BEDPE: Final = Format("bedpe", "", Family.INTERVALS, ("bedpe",))
PAF: Final = Format("paf", "", Family.INTERVALS, ("paf",))
PAIRS: Final = Format("pairs", "", Family.INTERVALS, ("pairs",))
TWOBIT: Final = Format("2bit", "format_3009", Family.SEQUENCES, ("2bit",))
HIC: Final = Format("hic", "", Family.MATRIX, ("hic",))
COOL: Final = Format("cool", "", Family.MATRIX, ("cool",))
MCOOL: Final = Format("mcool", "", Family.MATRIX, ("mcool",))
GENBANK: Final = Format("genbank", "format_1936", Family.SEQUENCES, ("gb", "gbk", "genbank", "gbff", "gbf"))
EMBL: Final = Format("embl", "format_1927", Family.SEQUENCES, ("embl",))
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
    FASTA, BEDGRAPH, WIG, GAPPEDPEAK, TAGALIGN, INTERACT, TWOBIT, HIC, COOL, MCOOL,
    BEDPE, PAF, PAIRS, SEG, INTERVAL_LIST, MACS, UCSC_TABLE,
    GENBANK, EMBL,
)  # fmt: skip

DECLARES_LENGTHS: Final = frozenset(
    {BAM, SAM, CRAM, VCF, BCF, BIGBED, BIGWIG, INTERVAL_LIST, PAF, PAIRS, FASTA, TWOBIT, HIC, GENBANK, EMBL}
)
"""Files of these say how long their sequences are; of others only the end of the last record is known."""

NAMES: Final = tuple(f.name for f in ALL)
"""What a user may call them, among other names."""

_COMPRESSION = ("gz", "bgz", "bgzf", "bz2", "xz", "zst", "zstd")
_PACKED_NAME = re.compile(rf"_({'|'.join(_COMPRESSION)})$")
"""As 4DN has it: vcf_gz."""
_EDAM = re.compile(r"(?:https?://edamontology\.org/)?(format)[_:](\d{4})$")

_BY_NAME: Final[dict[str, Format]] = {
    word: f for f in ALL for word in (f.name, f.edam, *f.suffixes, *f.aliases) if word
}

_NARROWED: Final = frozenset(
    {(BED, kind) for kind in (NARROWPEAK, BROADPEAK, GAPPEDPEAK, TAGALIGN, BEDGRAPH, INTERACT, BEDPE)}
    | {(GFF, GFF3), (GFF, GTF)}
)
"""Containers, and what more exact names they may have."""


def resolve(text: str) -> Format | None:
    """The format meant by an EDAM id, an EDAM URL, a name or a suffix; None when nothing known.

    >>> resolve("http://edamontology.org/format_2572").name
    'bam'
    >>> resolve("VCF.GZ").name
    'vcf'
    >>> resolve("bed narrowPeak").name
    'narrowpeak'
    """
    word = text.strip().lower().lstrip(".")
    if len(words := word.split()) > 1:
        return _of_two_words(*words[:2])
    word = _PACKED_NAME.sub(r".\1", word)
    edam = _EDAM.match(word)
    if edam:
        word = f"{edam[1]}_{edam[2]}"
    if word in _BY_NAME:
        return _BY_NAME[word]
    return from_filename(f"x.{word}")


def _of_two_words(first: str, second: str) -> Format | None:
    """ENCODE's "bed narrowPeak", "bigBed bed6+", "gff gff3": the container, then what the records are."""
    container, content = resolve(first), resolve(second)
    return content if (container, content) in _NARROWED else container


def from_filename(filename: str) -> Format | None:
    """The format a file name's suffix says, seen through one compression suffix."""
    parts = filename.lower().rsplit("/", 1)[-1].split(".")
    if len(parts) > 2 and parts[-1] in _COMPRESSION:
        parts.pop()
    return next((f for f in ALL if parts[-1] in f.suffixes), None) if len(parts) > 1 else None
