"""The text format that each format of intervals becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gooseherd.domain.formats import (
    BCF,
    BED,
    BIGBED,
    BROADPEAK,
    GAPPEDPEAK,
    GFF,
    GFF3,
    GTF,
    INTERACT,
    INTERVAL_LIST,
    MACS,
    NARROWPEAK,
    SEG,
    TAGALIGN,
    UCSC_TABLE,
    VCF,
    Format,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """What a source format becomes: the text format, tabix's preset, and the sort key's column."""

    suffix: str
    preset: str
    column: int


TARGETS: Final[dict[Format, Target]] = {
    VCF: Target("vcf", "vcf", 2),
    BCF: Target("vcf", "vcf", 2),
    GFF: Target("gff", "gff", 4),
    GFF3: Target("gff3", "gff", 4),
    GTF: Target("gff3", "gff", 4),
    BED: Target("bed", "bed", 2),
    NARROWPEAK: Target("narrowPeak", "bed", 2),
    BROADPEAK: Target("broadPeak", "bed", 2),
    GAPPEDPEAK: Target("gappedPeak", "bed", 2),
    TAGALIGN: Target("tagAlign", "bed", 2),
    INTERACT: Target("interact", "bed", 2),
    SEG: Target("bed", "bed", 2),
    INTERVAL_LIST: Target("bed", "bed", 2),
    MACS: Target("bed", "bed", 2),
    UCSC_TABLE: Target("bed", "bed", 2),
    BIGBED: Target("bed", "bed", 2),
}
