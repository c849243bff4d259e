"""Finds the reader of a text format by its name."""

from __future__ import annotations

from typing import Final

from gooseherd.processing.formats.gtf import Gtf
from gooseherd.processing.formats.records import Records
from gooseherd.processing.formats.text import Bed, Gff, Gff2, Sam, Vcf

MAX_LINE: Final = 16 << 20
"""sort holds a line in memory whatever its cap; so does every reader after it."""


def reader_of(format_name: str) -> Records:
    """The reader of a format by its canonical name."""
    match format_name:
        case "bed" | "bedgraph":
            return Bed("BED", 3)
        case "narrowpeak":
            return Bed("narrowPeak", 9)
        case "broadpeak":
            return Bed("broadPeak", 9)
        case "gappedpeak":
            return Bed("gappedPeak", 15)
        case "tagalign":
            return Bed("tagAlign", 6)
        case "interact":
            return Bed("interact", 18)
        case "vcf" | "bcf":
            return Vcf("VCF")
        case "gff":
            return Gff2("GFF")
        case "gff3":
            return Gff("GFF3")
        case "gtf":
            return Gtf("GTF", MAX_LINE)
        case "sam":
            return Sam("SAM")
        case other:
            raise ValueError(f"no text reader for {other!r}")
