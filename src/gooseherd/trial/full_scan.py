"""The region's records by reading the whole source front to back: slow, simple, without any index.

What an index-guided read of the artifact must agree with. Records are compared in a
form that both the source and its artifact have: see `comparable`.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gooseherd.domain import formats
from gooseherd.domain.formats import Family, Format
from gooseherd.domain.region import Region

_PEAKS = frozenset(
    {
        formats.BED,
        formats.NARROWPEAK,
        formats.BROADPEAK,
        formats.GAPPEDPEAK,
        formats.TAGALIGN,
        formats.INTERACT,
    }
)
_FIRST_ENDS = {formats.BEDPE: (0, 1, 2, 0), formats.PAF: (5, 7, 8, 0), formats.PAIRS: (1, 2, 2, 1)}
"""Columns of name, begin and end, and what places count from."""
_SECOND_ENDS = {formats.BEDPE: (3, 4, 5, 0), formats.PAF: (0, 2, 3, 0), formats.PAIRS: (3, 4, 4, 1)}
_PLACES = {
    formats.SEG: (1, 2, 3, 1),
    formats.INTERVAL_LIST: (0, 1, 2, 1),
    formats.MACS: (0, 1, 2, 1),
    formats.UCSC_TABLE: (5, 6, 7, 0),
}
"""The same of tables that become BED."""
_GENES = frozenset({formats.GFF, formats.GFF3, formats.GTF})


def scan(path: Path, file_format: Format, region: Region) -> list[str]:
    """The source's records that overlap `region`, in the source's order, one line each."""
    if file_format.family is Family.ALIGNMENTS:
        return list(_reads(path, region))
    if file_format.family is Family.SEQUENCES:
        return _sequence(path, region) if file_format is formats.FASTA else _of_flatfile(path, region)
    if file_format.family is Family.SIGNAL:
        return [_value_line(*found) for found in _values(path) if region.overlaps(*found[:3])]
    if file_format is formats.BCF:
        return list(_variants(path, region))
    if file_format is formats.BIGBED:
        return list(_big_bed(path, region))
    if file_format is formats.VCF:
        return [line for line in _text(path) if not line.startswith("#") and _vcf_overlaps(line, region)]
    if file_format in _PEAKS:
        return [line for line in _text(path) if _bed_overlaps(line, region)]
    if file_format in _PLACES:
        return list(_rows(path, *_PLACES[file_format], region))
    if file_format in _FIRST_ENDS:
        return [line for line in _text(path) if _end_overlaps(line, *_FIRST_ENDS[file_format], region)]
    if file_format in _GENES:
        return [line for line in _features(path) if _gff_overlaps(line, region)]
    raise ValueError(f"no full scan of {file_format.name}")


def scan_second_end(path: Path, file_format: Format, region: Region) -> list[str]:
    """The same for the second of the two places that a record has."""
    return [line for line in _text(path) if _end_overlaps(line, *_SECOND_ENDS[file_format], region)]


def comparable(lines: list[str], file_format: Format) -> list[str]:
    """`lines` in an order and form in which source and artifact must be equal.

    Alignments from CRAM leave out the tags, which its decoder makes anew. BCF and its text
    differ in how numbers are spelled, so the fixed columns count. GTF becomes GFF3, whose
    attributes and parents are spelled otherwise: the exons' places count.
    """
    if file_format.family is Family.SEQUENCES:
        return lines
    if file_format is formats.CRAM:
        return sorted("\t".join(line.split("\t")[:11]) for line in lines)
    if file_format is formats.BCF:
        return sorted("\t".join(line.split("\t")[:5]) for line in lines)
    if file_format is formats.GTF:
        return sorted({_place(line) for line in lines if line.split("\t")[2].lower() == "exon"})
    if file_format in _PLACES:
        return sorted("\t".join(line.split("\t")[:3]) for line in lines)
    return sorted("\t".join(line.split()) if file_format in _PEAKS else line for line in lines)


def cram_lines(path: Path, index: Path, region: Region) -> list[str]:
    """The reads of a CRAM that overlap `region`, by its index."""
    pysam = _quiet_htslib()
    with pysam.AlignmentFile(str(path), index_filename=str(index)) as file:
        return [read.to_string() for read in file.fetch(region.contig, region.start, region.end)]


def bigwig_lines(path: Path, region: Region) -> list[str]:
    """The values of a bigWig that overlap `region`, by its own index."""
    import pyBigWig

    file = pyBigWig.open(str(path))
    try:
        length = file.chroms().get(region.contig, 0)
        end = length if region.end is None else min(region.end, length)
        found = file.intervals(region.contig, region.start, end) if region.start < end else None
        return [_value_line(region.contig, *row) for row in found or ()]
    finally:
        file.close()


def _value_line(contig: str, start: int, end: int, value: float) -> str:
    """As a line of bedGraph."""
    return f"{contig}\t{start}\t{end}\t{value:g}"


def _values(path: Path) -> Iterator[tuple[str, int, int, float]]:
    """Of bedGraph and of wiggle."""
    settings: dict[str, str] = {}
    at = 0
    for line in _text(path):
        words = line.split()
        if line.startswith(("track", "#")):
            continue
        if words[0] in ("fixedStep", "variableStep"):
            settings = dict(word.split("=") for word in words[1:])
            at = int(settings.get("start", 1)) - 1
        elif not settings:
            yield words[0], int(words[1]), int(words[2]), float(words[3])
        else:
            start = int(words[0]) - 1 if len(words) > 1 else at
            yield settings["chrom"], start, start + int(settings.get("span", 1)), float(words[-1])
            at += int(settings.get("step", 0))


def _sequence(path: Path, region: Region) -> list[str]:
    """As lines of FASTA, 60 letters each."""
    letters, wanted = "", False
    for line in _text(path):
        if line.startswith(">"):
            wanted = line[1:].split()[0] == region.contig
        elif wanted:
            letters += line
    return _wrapped(letters, region)


def _of_flatfile(path: Path, region: Region) -> list[str]:
    """The same of GenBank and EMBL."""
    letters, wanted, within = "", False, False
    for line in _text(path):
        if line.startswith(("LOCUS", "ID   ", "VERSION")):
            wanted = line.split()[1].rstrip(";").split(".")[0] == region.contig.split(".")[0]
        if line.startswith(("ORIGIN", "SQ   ")):
            within = True
        elif line.startswith("//"):
            within = False
        elif within and wanted:
            letters += "".join(word for word in line.split() if word.isalpha())
    return _wrapped(letters.upper(), region)


def _wrapped(letters: str, region: Region) -> list[str]:
    letters = letters[region.start : region.end]
    return [f">{region}", *(letters[at : at + 60] for at in range(0, len(letters), 60))]


def _quiet_htslib() -> Any:
    """pysam, with htslib's own messages off: what matters comes as an exception."""
    import pysam

    pysam.set_verbosity(0)
    return pysam


def _reads(path: Path, region: Region) -> Iterator[str]:
    pysam = _quiet_htslib()
    with pysam.AlignmentFile(str(path), check_sq=False) as file:
        for read in file.fetch(until_eof=True):
            end = read.reference_end or read.reference_start + 1
            if read.reference_name is not None and region.overlaps(
                read.reference_name, read.reference_start, end
            ):
                yield read.to_string()


def _variants(path: Path, region: Region) -> Iterator[str]:
    pysam = _quiet_htslib()
    with pysam.VariantFile(str(path)) as file:
        for record in file:
            if region.overlaps(record.chrom, record.start, max(record.stop, record.start + 1)):
                yield str(record).rstrip("\n")


def _big_bed(path: Path, region: Region) -> Iterator[str]:
    import pyBigWig

    file = pyBigWig.open(str(path))
    try:
        length = file.chroms().get(region.contig)
        if length is None:
            return
        end = length if region.end is None else min(region.end, length)
        for start, stop, rest in file.entries(region.contig, region.start, end) or ():
            yield "\t".join([region.contig, str(start), str(stop), *([rest] if rest else [])])
    finally:
        file.close()


def _text(path: Path) -> Iterator[str]:
    with path.open("rb") as probe:
        zipped = probe.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if zipped else path.open("rb") as stream:
        for line in stream:
            yield line.decode("utf-8", "replace").rstrip("\r\n")


def _features(path: Path) -> Iterator[str]:
    for line in _text(path):
        if line.startswith((">", "##FASTA")):
            return  # a sequence section: no features after it (GFF3 specification)
        if line and not line.startswith("#"):
            yield line


def _vcf_overlaps(line: str, region: Region) -> bool:
    columns = line.split("\t")
    start = int(columns[1]) - 1
    end = start + len(columns[3])
    for item in columns[7].split(";"):
        if item.startswith("END=") and item[4:].isdigit():
            end = max(start + 1, int(item[4:]))
    return region.overlaps(columns[0], start, end)


def _bed_overlaps(line: str, region: Region) -> bool:
    columns = line.split()
    if len(columns) < 3 or line.startswith(("#", "track", "browser")):
        return False
    return region.overlaps(columns[0], int(columns[1]), int(columns[2]))


def _rows(path: Path, name: int, begin: int, end: int, lowest: int, region: Region) -> Iterator[str]:
    """The places of a table's rows, as BED has them."""
    for line in _text(path):
        columns = line.split("\t")
        if line.startswith(("#", "@")) or len(columns) <= end or not columns[begin].isdigit():
            continue
        start = int(columns[begin]) - lowest
        if region.overlaps(columns[name], start, int(columns[end])):
            yield f"{columns[name]}\t{start}\t{columns[end]}"


def _end_overlaps(line: str, name: int, begin: int, end: int, lowest: int, region: Region) -> bool:
    columns = line.split("\t")
    if line.startswith("#"):
        return False
    return region.overlaps(columns[name], int(columns[begin]) - lowest, int(columns[end]))


def _gff_overlaps(line: str, region: Region) -> bool:
    columns = line.split("\t")
    return len(columns) >= 8 and region.overlaps(columns[0], int(columns[3]) - 1, int(columns[4]))


def _place(line: str) -> str:
    columns = line.split("\t")
    return "\t".join((columns[0], columns[3], columns[4], columns[6]))
