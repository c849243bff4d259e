"""Tiny but real inputs, one of every format, out of order wherever order matters.

Deterministic but for `salt`, which goes into names inside the files: other salt, other
content, so that a service which keeps artifacts makes them anew.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gooseherd.domain import formats
from gooseherd.domain.errors import GooseherdError
from gooseherd.domain.formats import Format
from gooseherd.domain.region import Region
from gooseherd.trial import more_inputs as more
from gooseherd.trial.bigbed import write_bigbed
from gooseherd.trial.spans import CONTIGS, spans, write_lines

_REGION = Region("chr1", 20_000, 40_000)


@dataclass(frozen=True, slots=True)
class Input:
    """One input file; `region` is None for what is served as it is."""

    file_format: Format
    path: Path
    region: Region | None


@dataclass(eq=False)
class CannotMake(GooseherdError):
    """An input needs a program that is not here, or that failed."""

    problem: str

    def __str__(self) -> str:
        return self.problem


def make(file_format: Format, folder: Path, salt: str) -> Input:
    """Make the input of one format in `folder`.

    Raises:
        CannotMake: samtools (CRAM) or bcftools (BCF) is not there or failed.
    """
    maker, region = _MAKERS[file_format]
    path = folder / f"smoke-{salt}.{file_format.suffixes[0]}"
    maker(path, salt)
    return Input(file_format, path, region)


def _alignments(path: Path, salt: str, mode: str) -> None:
    import pysam

    chance = random.Random("bases")  # noqa: S311 - made-up reads
    header = {
        "HD": {"VN": "1.6", "SO": "unsorted"},
        "SQ": [{"SN": name, "LN": length} for name, length in CONTIGS.items()],
    }
    with pysam.AlignmentFile(str(path), mode, header=header) as out:
        for number, contig, start, _ in spans("reads"):
            read = pysam.AlignedSegment(out.header)
            read.query_name = f"{salt}.{number}"
            read.flag = 16 * (number % 2)
            read.reference_name, read.reference_start = contig, start
            read.mapping_quality = 60
            read.cigartuples = [(0, 50), (2, number % 7 + 1), (0, 25)]
            read.query_sequence = "".join(chance.choices("ACGT", k=75))
            read.query_qualities = pysam.qualitystring_to_array("I" * 75)
            out.write(read)


def _sam(path: Path, salt: str) -> None:
    _alignments(path, salt, "w")


def _bam(path: Path, salt: str) -> None:
    _alignments(path, salt, "wb")


def _cram(path: Path, salt: str) -> None:
    bam = path.with_suffix(".made-of.bam")
    _alignments(bam, salt, "wb")
    # no_ref: the bases are in the file, so that no reference is needed to read it.
    # Nor is the folder's name: it would be other bytes each time.
    _tool(path.parent, "samtools", "view", "--no-PG", "-O", "cram,no_ref=1", "-o", path.name, bam.name)
    bam.unlink()


def _vcf(path: Path, salt: str) -> None:
    head = "##fileformat=VCFv4.3\n##source=smoke-" + salt + "\n"
    head += "".join(f"##contig=<ID={name},length={length}>\n" for name, length in CONTIGS.items())
    head += '##FILTER=<ID=PASS,Description="All filters passed">\n'
    head += '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n'
    head += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    records = (
        f"{contig}\t{start}\tv{salt}.{number}\t{'ACGT'[: number % 4 + 1]}\tG\t"
        f"{number % 60}\tPASS\tDP={number}"
        for number, contig, start, _ in spans("variants")
    )
    write_lines(path, records, head)


def _bcf(path: Path, salt: str) -> None:
    vcf = path.with_suffix(".made-of.vcf")
    _vcf(vcf, salt)
    _tool(path.parent, "bcftools", "view", "--no-version", "-O", "b", "-o", path.name, vcf.name)
    vcf.unlink()


def _gff(path: Path, salt: str) -> None:
    write_lines(path, (f"{line}\tgroup {salt}.{number}" for number, line in _features("peak")))


def _gff3(path: Path, salt: str) -> None:
    lines = (f"{line}\tID={salt}.{number};Name=f%3B{number}" for number, line in _features("region"))
    write_lines(path, lines, "##gff-version 3\n##sequence-region chr1 1 100000\n")


def _features(kind: str) -> Iterator[tuple[int, str]]:
    for number, contig, start, end in spans("features"):
        yield number, f"{contig}\tsmoke\t{kind}\t{start + 1}\t{end}\t.\t{'+-'[number % 2]}\t."


def _gtf(path: Path, salt: str) -> None:
    def lines() -> Iterator[str]:
        for number, contig, start, end in spans("genes"):
            strand = "+-"[number % 2]
            names = f'gene_id "g{salt}.{number}"; transcript_id "t{salt}.{number}";'
            middle = start + max((end - start) // 3, 1)
            second = middle + max((end - start) // 3, 1)
            for kind, first, last in (
                ("transcript", start, second + 50), ("exon", start, middle), ("exon", second, second + 50),
            ):  # fmt: skip
                yield f"{contig}\tsmoke\t{kind}\t{first + 1}\t{last}\t.\t{strand}\t.\t{names}"

    write_lines(path, lines())


def _bed(path: Path, salt: str) -> None:
    lines = (f"{c}\t{s}\t{e}\t{salt}.{n}\t{n}\t{'+-'[n % 2]}" for n, c, s, e in spans("bed"))
    write_lines(path, lines, 'track name="smoke"\n')


def _narrowpeak(path: Path, salt: str) -> None:
    write_lines(path, (f"{line}\t{n % 9}" for n, line in _peaks(salt)))


def _broadpeak(path: Path, salt: str) -> None:
    write_lines(path, (line for _, line in _peaks(salt)))


def _peaks(salt: str) -> Iterator[tuple[int, str]]:
    for n, c, s, e in spans("peaks"):
        yield n, f"{c}\t{s}\t{e}\t{salt}.{n}\t{n}\t.\t{n / 10:.1f}\t{n / 100:.2f}\t-1"


def _bigbed(path: Path, salt: str) -> None:
    items = sorted((c, s, e, f"{salt}.{n}\t{n}\t{'+-'[n % 2]}") for n, c, s, e in spans("bigbed"))
    write_bigbed(path, CONTIGS, items, columns=6)


def _bigwig(path: Path, salt: str) -> None:
    import pyBigWig

    out = pyBigWig.open(str(path), "w")
    out.addHeader(list(CONTIGS.items()))
    for contig, length in CONTIGS.items():
        starts = list(range(0, length, 100))
        values = [float(int(salt, 36) % 97 + start % 13) for start in starts]
        ends = [min(start + 100, length) for start in starts]
        out.addEntries([contig] * len(starts), starts, ends=ends, values=values)
    out.close()


def _csv(path: Path, salt: str) -> None:
    write_lines(path, (f"{salt}.{n},{c},{s},{e}" for n, c, s, e in spans("table")), "name,contig,start,end\n")


def _tsv(path: Path, salt: str) -> None:
    head = "name\tcontig\tstart\tend\n"
    write_lines(path, (f"{salt}.{n}\t{c}\t{s}\t{e}" for n, c, s, e in spans("table")), head)


def _tool(folder: Path, program: str, *arguments: str) -> None:
    where = shutil.which(program)
    if where is None:
        raise CannotMake(f"{program} is not installed; gooseherd doctor says how to get it")
    done = subprocess.run(
        [where, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=60,
    )
    if done.returncode != 0:
        raise CannotMake(f"{program} ended with {done.returncode}: {done.stderr.strip()[-200:]}")


_MAKERS: dict[Format, tuple[Callable[[Path, str], None], Region | None]] = {
    formats.SAM: (_sam, _REGION),
    formats.BAM: (_bam, _REGION),
    formats.CRAM: (_cram, _REGION),
    formats.VCF: (_vcf, _REGION),
    formats.BCF: (_bcf, _REGION),
    formats.GFF: (_gff, _REGION),
    formats.GFF3: (_gff3, _REGION),
    formats.GTF: (_gtf, _REGION),
    formats.BED: (_bed, _REGION),
    formats.NARROWPEAK: (_narrowpeak, _REGION),
    formats.BROADPEAK: (_broadpeak, _REGION),
    formats.BIGBED: (_bigbed, _REGION),
    formats.BIGWIG: (_bigwig, None),
    formats.CSV: (_csv, None),
    formats.TSV: (_tsv, None),
    formats.FASTA: (more.fasta, _REGION),
    formats.BEDGRAPH: (more.bedgraph, _REGION),
    formats.WIG: (more.wig, _REGION),
    formats.GAPPEDPEAK: (more.gappedpeak, _REGION),
    formats.TAGALIGN: (more.tagalign, _REGION),
    formats.INTERACT: (more.interact, _REGION),
    formats.SEG: (more.seg, _REGION),
    formats.INTERVAL_LIST: (more.interval_list, _REGION),
    formats.MACS: (more.macs, _REGION),
    formats.UCSC_TABLE: (more.ucsc_table, _REGION),
    formats.BEDPE: (more.bedpe, _REGION),
    formats.PAF: (more.paf, _REGION),
    formats.PAIRS: (more.pairs, _REGION),
    formats.GENBANK: (more.genbank, _REGION),
    formats.EMBL: (more.embl, Region("chr1.1", _REGION.start, _REGION.end)),
    formats.TWOBIT: (more.twobit, None),
    formats.HIC: (more.hic, None),
    formats.COOL: (more.cool, None),
    formats.MCOOL: (more.cool, None),
}

FORMATS = tuple(_MAKERS)
"""Every format, in the order of the report."""
SECOND_ENDS = {
    formats.BEDPE: _REGION,
    formats.PAF: Region("qchr1", _REGION.start, _REGION.end),
    formats.PAIRS: _REGION,
}
"""Where to look for the second end of the records of these formats."""
GENES = {formats.GENBANK: Region("chr1", 100, 900), formats.EMBL: Region("chr1.1", 100, 900)}
"""The place of a gene in the files of these formats."""
