"""What a real file holds and where, by other readers than the product's: pysam, pyBigWig and bcftools."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pysam
from _gffread import columns_of, misplaced_parents, misplaced_transcripts
from backports import zstd

from gooseherd.domain.formats import BCF, BIGBED, CRAM, GTF, VCF, Format

WHOLE, PLACES = 12, 60
"""Regions asked of each file: whole sequences, and places around random records."""
FAR = 1 << 29
"""TBI and BAI hold positions below this (SAMv1 §5.2)."""
LAST = (1 << 31) - 1

Region = tuple[str, int, int]


class Differs(Exception):
    """The artifact answers otherwise than the reference."""


def unpacked(source: Path) -> bytes:
    """The bytes of a file, out of what they are packed in."""
    data = source.read_bytes()
    unpackers: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
        (b"\x1f\x8b", gzip.decompress),
        (b"BZh", bz2.decompress),
        (b"\xfd7z", lzma.decompress),
        (b"\x28\xb5\x2f\xfd", zstd.decompress),
    )
    for magic, unpack in unpackers:
        if data.startswith(magic):
            return unpack(data)
    return data


def tool(*argv: str | Path) -> bytes:
    done = subprocess.run(list(map(str, argv)), capture_output=True, check=False)
    if done.returncode:
        raise Differs(f"{argv[0]} {argv[1]}: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return done.stdout


# -- text ------------------------------------------------------------------------------------


def whole_number(text: bytes) -> int | None:
    """In any spelling: 1e3, 010, +5."""
    try:
        number = Decimal(text.decode())
        return int(number) if number == number.to_integral_value() else None
    except (InvalidOperation, UnicodeDecodeError, OverflowError):
        return None


def records_of(source: Path, columns: Sequence[int], *, spaced: bool) -> Iterator[bytes]:
    """The lines with whole numbers in these columns, spelt plainly; `spaced`: white space splits columns."""
    for raw in unpacked(source).removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        line = raw.rstrip(b"\r")
        if not line.strip() or line.startswith((b"#", b">")):
            continue
        fields = line.split(b"\t")
        if spaced and numbers(fields, columns) is None:
            fields = line.split()
        found = numbers(fields, columns)
        if found is not None:
            for column, number in zip(columns, found, strict=True):
                fields[column] = b"%d" % number
            yield b"\t".join(fields)


def numbers(fields: Sequence[bytes], columns: Sequence[int]) -> list[int] | None:
    found = [whole_number(fields[column]) for column in columns if column < len(fields)]
    return [n for n in found if n is not None] if len(found) == len(columns) and None not in found else None


class Text:
    """A copy sorted by name and start, indexed and read by htslib."""

    def __init__(self, source: Path, file_format: Format, home: Path) -> None:
        self.format = file_format
        self.preset, self.column = {"vcf": ("vcf", 1), "bcf": ("vcf", 1)}.get(file_format.name, ("bed", 1))
        if file_format.name in ("gff", "gff3", "gtf"):
            self.preset, self.column = "gff", 3
        self.lines = sorted(self.lines_of(source), key=self.place)
        self.copy, self.plain = home / "copy.gz", home / "plain"
        self.parents: list[bytes] = []
        """Of a GTF: lines of the artifact that were added, once it is known that they are right."""
        with pysam.BGZFile(str(self.copy), "wb", None) as file:
            file.write(b"".join(line + b"\n" for line in self.lines))

    def lines_of(self, source: Path) -> list[bytes]:
        """The records that have to come out."""
        if self.format is BIGBED:
            return list(items(source))
        if self.format is BCF:
            return tool("bcftools", "view", "--no-version", "-H", source).split(b"\n")[:-1]
        columns = (1,) if self.format is VCF else (self.column, self.column + 1)
        return list(records_of(source, columns, spaced=self.preset == "bed"))

    @property
    def records(self) -> int:
        return len(self.lines)

    def place(self, line: bytes) -> tuple[bytes, int]:
        fields = line.split(b"\t", self.column + 1)
        return fields[0], int(fields[self.column])

    def compare(self, data: Path, index: Path) -> int:
        """All records of the artifact, then regions by the index of each; how many."""
        made = [line for line in unpacked(data).split(b"\n")[:-1] if not line.startswith(b"#")]
        if self.format is GTF:
            self.parents = self.added_parents(made)
        if problem := self.difference([*self.lines, *self.parents], made):
            raise Differs(f"whole: {problem}")
        preset: Any = self.preset
        pysam.tabix_index(str(self.copy), preset=preset, force=True, csi=index.suffix == ".csi")
        asked = 0
        with (
            pysam.TabixFile(str(data), index=str(index), encoding="latin-1") as ours,
            pysam.TabixFile(
                str(self.copy), index=f"{self.copy}{index.suffix}", encoding="latin-1"
            ) as reference,
        ):
            for region in self.regions(random.Random(str(data.stat().st_size))):
                found, wanted = (
                    [line.encode("latin-1") for line in opened.fetch(*region)] for opened in (ours, reference)
                )
                asked += 1
                wanted += [line for line in self.parents if self.lies_in(line, region)]
                if problem := self.difference(wanted, found):
                    raise Differs(f"{region[0]}:{region[1]}-{region[2]}: {problem}")
        return asked

    def added_parents(self, made: Sequence[bytes]) -> list[bytes]:
        """The lines of the artifact that the source does not have.

        Raises:
            Differs: they are not the parents, as long as their children, that gffread has there.
        """
        if problem := misplaced_parents(self.lines, made):
            raise Differs(f"parents: {problem}")
        # gffread 0.12.7 does not survive columns behind the ninth.
        if all(line.count(b"\t") == 8 for line in self.lines):
            self.plain.write_bytes(b"".join(line + b"\n" for line in self.lines))
            if problem := misplaced_transcripts(self.lines, made, self.plain):
                raise Differs(f"parents: {problem}")
        own = Counter(map(columns_of, self.lines))
        return [line for line in made if columns_of(line) not in own]

    def lies_in(self, line: bytes, region: Region) -> bool:
        name, begin, end = region
        fields = line.split(b"\t", self.column + 2)
        first, last = int(fields[self.column]), int(fields[self.column + 1])
        return fields[0] == name.encode("latin-1") and first <= end and last > begin

    def regions(self, draw: random.Random) -> Iterator[Region]:
        names = sorted({self.place(line)[0] for line in self.lines})
        for name in draw.sample(names, min(WHOLE, len(names))):
            yield name.decode("latin-1"), 0, LAST
        for _ in range(PLACES if self.lines else 0):
            found, at = self.place(draw.choice(self.lines))
            width = draw.choice((1, 100, 10_000, 1_000_000))
            begin = max(at - draw.randrange(width), 0)
            yield found.decode("latin-1"), begin, begin + width

    def difference(self, wanted: Sequence[bytes], found: Sequence[bytes]) -> str:
        """Why these are not the same records; empty when they are."""
        if self.format is BIGBED:
            # pyBigWig leaves out items without a length at 0.
            found = [line for line in found if line.split(b"\t")[1:3] != [b"0", b"0"]]
        one, other = (Counter(map(self.essence, lines)) for lines in (wanted, found))
        if one == other:
            return ""
        example = next(iter((one - other) or (other - one)))
        return f"{len(found)} records, the reference has {len(wanted)}; one: {example[:120]!r}"

    def essence(self, line: bytes) -> bytes:
        if self.format is GTF:
            # Attributes are spelt otherwise; those that make a parent were judged.
            return b"\t".join(columns_of(line))
        return b"\t".join(line.split(b"\t")[:5]) if self.format is BCF else line


def items(source: Path) -> Iterator[bytes]:
    """Of a bigBed, by pyBigWig."""
    import pyBigWig

    with pyBigWig.open(str(source)) as opened:
        for name, length in opened.chroms().items():
            for begin, end, rest in opened.entries(name, 0, length) or ():
                yield f"{name}\t{begin}\t{end}{chr(9) + rest if rest else ''}".encode()


# -- alignments ------------------------------------------------------------------------------


class Reads:
    """A copy sorted, indexed and read by htslib; `reference`: what a CRAM leaves out."""

    def __init__(self, source: Path, file_format: Format, home: Path, reference: Path | None = None) -> None:
        self.format, self.reference = file_format, reference
        plain, self.copy = home / "plain", home / "copy.bam"
        data = unpacked(source)
        plain.write_bytes(source.read_bytes() if data.startswith(b"BAM\1") else data)
        options = ("--reference", reference) if reference else ()
        tool("samtools", "sort", "--no-PG", *options, "-o", self.copy, plain)
        with pysam.AlignmentFile(str(self.copy), check_sq=False) as opened:
            self.far = max(opened.lengths, default=0) > FAR
            self.places = [
                (str(read.reference_name), read.reference_start)
                for read in opened.fetch(until_eof=True)
                if read.reference_id >= 0
            ]
            self.lengths = dict(zip(opened.references, opened.lengths, strict=True))
        pysam.index(*(("-c",) if self.far else ()), str(self.copy))

    records = 0

    def compare(self, data: Path, index: Path) -> int:
        """All reads of the artifact, then regions by the index of each; how many."""
        asked = 0
        suffix = ".csi" if self.far else ".bai"
        with (
            pysam.AlignmentFile(
                str(data),
                index_filename=str(index),
                check_sq=False,
                reference_filename=str(self.reference) if self.reference else None,
            ) as ours,
            pysam.AlignmentFile(str(self.copy), index_filename=f"{self.copy}{suffix}") as reference,
        ):
            found, wanted = (self.texts(opened.fetch(until_eof=True)) for opened in (ours, reference))
            self.records = wanted.total()
            if found != wanted:
                raise Differs(f"whole: {found.total()} reads, the reference has {wanted.total()}")
            # A CRAI counts no reads.
            if not ours.is_cram and counts_of(ours) != counts_of(reference):
                raise Differs("the index counts other reads than the reference's")
            for region in (None, *self.regions(random.Random(str(data.stat().st_size)))):
                arguments = ("*",) if region is None else region
                found, wanted = (self.texts(opened.fetch(*arguments)) for opened in (ours, reference))
                asked += 1
                if found != wanted:
                    raise Differs(f"{arguments}: {found.total()} reads, the reference has {wanted.total()}")
        return asked

    def regions(self, draw: random.Random) -> Iterator[Region]:
        names = sorted({name for name, _ in self.places})
        for name in draw.sample(names, min(WHOLE, len(names))):
            yield name, 0, self.lengths[name]
        for _ in range(PLACES if self.places else 0):
            name, at = draw.choice(self.places)
            width = draw.choice((1, 100, 10_000, 1_000_000))
            begin = max(at - draw.randrange(width), 0)
            yield name, begin, min(begin + width, LAST)

    def texts(self, reads: Iterator[Any]) -> Counter[str]:
        # A CRAM's decoder makes some tags anew.
        last = 11 if self.format is CRAM else None
        return Counter("\t".join(read.to_string().split("\t")[:last]) for read in reads)


def counts_of(opened: Any) -> list[tuple[str, int, int]]:
    counted = [(one.contig, one.mapped, one.unmapped) for one in opened.get_index_statistics()]
    return [*counted, ("*", opened.nocoordinate, 0)]
