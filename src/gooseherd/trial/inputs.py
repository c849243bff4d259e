"""Tiny but real inputs, one of every format, out of order wherever order matters.

Deterministic but for `salt`, which goes into names inside the files: other salt, other
content, so that a service which keeps artifacts makes them anew.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gooseherd.client.region import Region
from gooseherd.domain import formats
from gooseherd.domain.errors import GooseherdError
from gooseherd.domain.formats import Format
from gooseherd.trial.bigbed import write_bigbed

_CONTIGS = {"chr1": 100_000, "chr2": 50_000}
_REGION = Region("chr1", 20_000, 40_000)
_RECORDS = 400


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


def _spans(seed: str) -> Iterator[tuple[int, str, int, int]]:
    """(number, contig, start, end), shuffled, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - made-up positions
    for number in range(_RECORDS):
        contig = chance.choice(sorted(_CONTIGS))
        start = chance.randrange(100, _CONTIGS[contig] - 2_000)
        yield number, contig, start, start + chance.randrange(1, 1_500)


def _lines(path: Path, lines: Iterator[str] | list[str], head: str = "") -> None:
    path.write_text(head + "".join(f"{line}\n" for line in lines), encoding="utf-8")


def _alignments(path: Path, salt: str, mode: str) -> None:
    import pysam

    chance = random.Random("bases")  # noqa: S311 - made-up reads
    header = {
        "HD": {"VN": "1.6", "SO": "unsorted"},
        "SQ": [{"SN": name, "LN": length} for name, length in _CONTIGS.items()],
    }
    with pysam.AlignmentFile(str(path), mode, header=header) as out:
        for number, contig, start, _ in _spans("reads"):
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
    head += "".join(f"##contig=<ID={name},length={length}>\n" for name, length in _CONTIGS.items())
    head += '##FILTER=<ID=PASS,Description="All filters passed">\n'
    head += '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n'
    head += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    records = (
        f"{contig}\t{start}\tv{salt}.{number}\t{'ACGT'[: number % 4 + 1]}\tG\t"
        f"{number % 60}\tPASS\tDP={number}"
        for number, contig, start, _ in _spans("variants")
    )
    _lines(path, records, head)


def _bcf(path: Path, salt: str) -> None:
    vcf = path.with_suffix(".made-of.vcf")
    _vcf(vcf, salt)
    _tool(path.parent, "bcftools", "view", "--no-version", "-O", "b", "-o", path.name, vcf.name)
    vcf.unlink()


def _gff(path: Path, salt: str) -> None:
    _lines(path, (f"{line}\tgroup {salt}.{number}" for number, line in _features("peak")))


def _gff3(path: Path, salt: str) -> None:
    lines = (f"{line}\tID={salt}.{number};Name=f%3B{number}" for number, line in _features("region"))
    _lines(path, lines, "##gff-version 3\n##sequence-region chr1 1 100000\n")


def _features(kind: str) -> Iterator[tuple[int, str]]:
    for number, contig, start, end in _spans("features"):
        yield number, f"{contig}\tsmoke\t{kind}\t{start + 1}\t{end}\t.\t{'+-'[number % 2]}\t."


def _gtf(path: Path, salt: str) -> None:
    def lines() -> Iterator[str]:
        for number, contig, start, end in _spans("genes"):
            strand = "+-"[number % 2]
            names = f'gene_id "g{salt}.{number}"; transcript_id "t{salt}.{number}";'
            middle = start + max((end - start) // 3, 1)
            second = middle + max((end - start) // 3, 1)
            for kind, first, last in (
                ("transcript", start, second + 50), ("exon", start, middle), ("exon", second, second + 50),
            ):  # fmt: skip
                yield f"{contig}\tsmoke\t{kind}\t{first + 1}\t{last}\t.\t{strand}\t.\t{names}"

    _lines(path, lines())


def _bed(path: Path, salt: str) -> None:
    lines = (f"{c}\t{s}\t{e}\t{salt}.{n}\t{n}\t{'+-'[n % 2]}" for n, c, s, e in _spans("bed"))
    _lines(path, lines, 'track name="smoke"\n')


def _narrowpeak(path: Path, salt: str) -> None:
    _lines(path, (f"{line}\t{n % 9}" for n, line in _peaks(salt)))


def _broadpeak(path: Path, salt: str) -> None:
    _lines(path, (line for _, line in _peaks(salt)))


def _peaks(salt: str) -> Iterator[tuple[int, str]]:
    for n, c, s, e in _spans("peaks"):
        yield n, f"{c}\t{s}\t{e}\t{salt}.{n}\t{n}\t.\t{n / 10:.1f}\t{n / 100:.2f}\t-1"


def _gappedpeak(path: Path, salt: str) -> None:
    _lines(
        path,
        (
            f"{c}\t{s}\t{e}\t{salt}.{n}\t{n}\t.\t{s}\t{e}\t0\t1\t{e - s}\t0\t{n / 10:.1f}\t-1\t-1"
            for n, c, s, e in _spans("gapped")
        ),
    )


def _tagalign(path: Path, salt: str) -> None:
    _lines(path, (f"{c}\t{s}\t{e}\t{salt}{n}\t1000\t{'+-'[n % 2]}" for n, c, s, e in _spans("tags")))


def _interact(path: Path, salt: str) -> None:
    def lines() -> Iterator[str]:
        for n, c, s, e in _spans("pairs"):
            middle = (s + e) // 2
            ends = f"{c}\t{s}\t{middle}\ta\t.\t{c}\t{middle}\t{e}\tb\t."
            yield f"{c}\t{s}\t{e}\t{salt}.{n}\t{n}\t{n / 10}\tx\t0\t{ends}"

    _lines(path, lines(), "track type=interact\n")


def _two_ended() -> Iterator[tuple[int, tuple[str, int, int], tuple[str, int, int]]]:
    seconds = ((c, s, e) for _, c, s, e in _spans("second ends"))
    for (number, contig, start, end), second in zip(_spans("first ends"), seconds, strict=True):
        yield number, (contig, start, end), second


def _bedpe(path: Path, salt: str) -> None:
    _lines(
        path,
        (
            f"{a[0]}\t{a[1]}\t{a[2]}\t{b[0]}\t{b[1]}\t{b[2]}\t{salt}.{n}\t{n}\t+\t-"
            for n, a, b in _two_ended()
        ),
    )


def _paf(path: Path, salt: str) -> None:
    _lines(
        path,
        (
            f"q{b[0]}\t{_CONTIGS[b[0]]}\t{b[1]}\t{b[2]}\t{'+-'[n % 2]}"
            f"\t{a[0]}\t{_CONTIGS[a[0]]}\t{a[1]}\t{a[2]}\t{n}\t{a[2] - a[1]}\t60\tsm:Z:{salt}"
            for n, a, b in _two_ended()
        ),
    )


def _pairs(path: Path, salt: str) -> None:
    head = "## pairs format v1.0\n#sorted: none\n#columns: readID chr1 pos1 chr2 pos2 strand1 strand2\n"
    head += "".join(f"#chromsize: {name} {length}\n" for name, length in _CONTIGS.items())
    lines = (f"{salt}.{n}\t{a[0]}\t{a[1]}\t{b[0]}\t{b[1]}\t+\t-" for n, a, b in _two_ended())
    _lines(path, lines, head)


def _twobit(path: Path, salt: str) -> None:
    """Sequences of T alone, which two zero bits stand for, and one byte of the salt."""
    names = "".join(chr(len(name)) + name + "%s" for name in _CONTIGS)
    at = 16 + len(names) + 2 * len(_CONTIGS)
    index, records = b"", b""
    for name, length in _CONTIGS.items():
        index += bytes((len(name),)) + name.encode() + struct.pack("<I", at + len(records))
        letters = bytes((int(salt, 16) % 256,)) + bytes(length // 4 - 1)
        records += struct.pack("<4I", length, 0, 0, 0) + letters
    path.write_bytes(struct.pack("<4I", 0x1A412743, 0, len(_CONTIGS), 0) + index + records)


def _hic(path: Path, salt: str) -> None:
    """The header of a matrix without contacts."""
    chromosomes = b"".join(b"%b\0" % n.encode() + struct.pack("<i", size) for n, size in _CONTIGS.items())
    head = b"smoke-%b\0" % salt.encode() + struct.pack("<ii", 0, len(_CONTIGS)) + chromosomes
    head += struct.pack("<ii", 0, 0)
    path.write_bytes(b"HIC\0" + struct.pack("<iq", 8, 16 + len(head)) + head + struct.pack("<ii", 4, 0))


def _cool(path: Path, salt: str) -> None:
    """A container without groups: the superblock of HDF5 (version 2)."""
    content = salt.encode() * 20
    head = b"\x89HDF\r\n\x1a\n" + bytes((2, 8, 8, 0))
    path.write_bytes(head + struct.pack("<4qI", 0, -1, 48 + len(content), 48, 0) + content)


def _bigbed(path: Path, salt: str) -> None:
    items = sorted((c, s, e, f"{salt}.{n}\t{n}\t{'+-'[n % 2]}") for n, c, s, e in _spans("bigbed"))
    write_bigbed(path, _CONTIGS, items, columns=6)


def _bigwig(path: Path, salt: str) -> None:
    import pyBigWig

    out = pyBigWig.open(str(path), "w")
    out.addHeader(list(_CONTIGS.items()))
    for contig, length in _CONTIGS.items():
        starts = list(range(0, length, 100))
        values = [float(int(salt, 36) % 97 + start % 13) for start in starts]
        ends = [min(start + 100, length) for start in starts]
        out.addEntries([contig] * len(starts), starts, ends=ends, values=values)
    out.close()


def _fasta(path: Path, salt: str) -> None:
    chance = random.Random(f"bases {salt}")  # noqa: S311 - made-up sequences

    def lines() -> Iterator[str]:
        for contig, length in _CONTIGS.items():
            yield f">{contig} smoke {salt}"
            letters = "".join(chance.choices("ACGTN", k=length))
            yield from (letters[at : at + 60] for at in range(0, length, 60))

    _lines(path, lines())


def _bedgraph(path: Path, salt: str) -> None:
    lines = []
    for contig, length in _CONTIGS.items():
        for number, start in enumerate(range(0, length - 500, 500)):
            lines.append(f"{contig}\t{start}\t{start + 300}\t{(int(salt, 16) + number) % 1000}")
    random.Random("bedgraph").shuffle(lines)  # noqa: S311 - made-up order
    _lines(path, lines, 'track type=bedGraph name="smoke"\n')


def _wig(path: Path, salt: str) -> None:
    def lines() -> Iterator[str]:
        for contig, length in reversed(_CONTIGS.items()):
            yield f"fixedStep chrom={contig} start=1 step=400 span=200"
            yield from (str((int(salt, 16) + number) % 1000) for number in range(length // 800))
            yield f"variableStep chrom={contig} span=20"
            for number, start in enumerate(range(length // 2 + 1, length - 500, 500)):
                yield f"{start} {(int(salt, 16) + number) % 997}"

    _lines(path, lines(), "track type=wiggle_0\n")


def _csv(path: Path, salt: str) -> None:
    _lines(path, (f"{salt}.{n},{c},{s},{e}" for n, c, s, e in _spans("table")), "name,contig,start,end\n")


def _tsv(path: Path, salt: str) -> None:
    head = "name\tcontig\tstart\tend\n"
    _lines(path, (f"{salt}.{n}\t{c}\t{s}\t{e}" for n, c, s, e in _spans("table")), head)


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
    formats.FASTA: (_fasta, _REGION),
    formats.BEDGRAPH: (_bedgraph, _REGION),
    formats.WIG: (_wig, _REGION),
    formats.GAPPEDPEAK: (_gappedpeak, _REGION),
    formats.TAGALIGN: (_tagalign, _REGION),
    formats.INTERACT: (_interact, _REGION),
    formats.BEDPE: (_bedpe, _REGION),
    formats.PAF: (_paf, _REGION),
    formats.PAIRS: (_pairs, _REGION),
    formats.TWOBIT: (_twobit, None),
    formats.HIC: (_hic, None),
    formats.COOL: (_cool, None),
    formats.MCOOL: (_cool, None),
}

FORMATS = tuple(_MAKERS)
"""Every format, in the order of the report."""
