"""Where variants end, by every way that htslib knows: compared with its two readers on generated records."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pysam
import pytest

from gooseherd.processing.formats.variant_end import variant_end

HEADER = b"""\
##fileformat=VCFv4.5
##INFO=<ID=END,Number=1,Type=Integer,Description="end">
##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="length">
##INFO=<ID=CIEND,Number=2,Type=Integer,Description="not an end">
##INFO=<ID=END2,Number=1,Type=Integer,Description="not an end">
##INFO=<ID=CHR2,Number=1,Type=String,Description="other sequence">
##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">
##FORMAT=<ID=LEN,Number=1,Type=Integer,Description="length of a block">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="depth">
"""
RECORDS = 400
ALLELES = (
    "T", "TTT", "<DEL>", "<DEL:ME:ALU>", "<DUP>", "<DUP:TANDEM>", "<INV>", "<CNV>", "<CNV:TR>", "<INS>",
    "<DELX>", "<BND>", "<TRA>", "<*>", "<NON_REF>", "*", "N[c7:90[", "]c1:2]N",
)  # fmt: skip
LONGEST = 1 << 17
# Of the eighth allele on htslib 1.24 looks for the lengths in the wrong place, so there are at most seven.


def generated(seed: int) -> list[bytes]:
    """Records, each on a sequence of its own."""
    draw = random.Random(seed)
    return [record(draw, f"c{number}") for number in range(RECORDS)]


def record(draw: random.Random, name: str) -> bytes:
    start = draw.choice((0, 1, 2, draw.randint(1, LONGEST)))
    ref = "N" * draw.choice((1, 1, 1, 2, 30))
    alleles = [draw.choice(ALLELES) for _ in range(draw.choice((1, 1, 1, 2, 3, 7)))]
    info = []
    if draw.random() < 0.5:
        info.append(f"END={draw.choice(('.', start, max(start - 5, 1), start + draw.randint(0, LONGEST)))}")
    if draw.random() < 0.5:
        lengths = (str(draw.choice((".", 0, 1, -7, draw.randint(-LONGEST, LONGEST)))) for _ in alleles)
        info.append(f"SVLEN={','.join(lengths)}")
    info += draw.sample(("CIEND=-9,900000", "END2=999999", "CHR2=c1", f"CHR2={name}"), draw.randint(0, 2))
    draw.shuffle(info)
    keys = draw.sample(("GT", "LEN", "DP"), draw.randint(1, 3))
    values = {
        "GT": ("0/1", "."),
        "DP": ("90", "."),
        "LEN": (".", "1", "0", "77", str(draw.randint(1, LONGEST))),
    }
    samples = (":".join(draw.choice(values[key]) for key in keys) for _ in range(3))
    columns = (
        name,
        str(start),
        ".",
        ref,
        ",".join(alleles),
        ".",
        ".",
        ";".join(info) or ".",
        ":".join(keys),
        *samples,
    )
    return "\t".join(columns).encode()


def written(records: list[bytes]) -> bytes:
    titles = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2\ts3\n"
    contigs = b"".join(b"##contig=<ID=c%d>\n" % number for number in range(len(records)))
    return HEADER + contigs + titles + b"".join(line + b"\n" for line in records)


def ends_by_htslib(source: Path) -> list[int]:
    """The further one of what its readers of VCF and of lines by an index say of each record."""
    packed = source.with_suffix(".vcf.gz")
    pysam.tabix_compress(str(source), str(packed), force=True)
    pysam.tabix_index(str(packed), preset="vcf", force=True)
    with pysam.VariantFile(str(source)) as opened, pysam.TabixFile(str(packed)) as lines:
        return [max(one.stop, _end_by_lines(lines, one.chrom, one.pos)) for one in opened]


def _end_by_lines(lines: Any, name: str, start: int) -> int:
    """The last base at which the only record of a sequence is found."""
    found, lost = max(start, 1), 1 << 20
    while lost - found > 1:
        middle = (found + lost) // 2
        if any(True for _ in lines.fetch(name, middle - 1, middle)):
            found = middle
        else:
            lost = middle
    return found


@pytest.mark.parametrize("seed", range(4))
def test_variants_end_where_htslib_ends_them(seed: int, kernel: Any, tmp_path: Path) -> None:
    records = generated(seed)
    source = tmp_path / "generated.vcf"
    source.write_bytes(written(records))
    pysam.set_verbosity(0)
    expected = ends_by_htslib(source)
    fields = [line.split(b"\t") for line in records]
    assert [variant_end(int(columns[1]), columns)[0] for columns in fields] == expected
    made = kernel("vcf", source)
    ends = {contig.name: contig.max_end for contig in made.found.contigs}
    assert [ends[columns[0].decode()] for columns in fields] == expected


@pytest.mark.parametrize("seed", range(10, 12))
def test_a_region_has_the_records_that_reach_into_it(seed: int, kernel: Any, tmp_path: Path) -> None:
    draw = random.Random(seed)
    records = [record(draw, f"c{number % 3}") for number in range(RECORDS)]
    made = kernel("vcf", written(records))
    assert made.status == 0, made.found.detail
    places = []
    for line in made.records():
        columns = line.split(b"\t")
        start = max(int(columns[1]), 1)
        places.append((columns[0].decode(), start, variant_end(int(columns[1]), columns)[0], line))
    with pysam.TabixFile(str(made.out), index=str(made.index)) as opened:
        for _ in range(200):
            name, begin = f"c{draw.randrange(3)}", draw.randrange(2 * LONGEST)
            stop = begin + draw.choice((1, 500, 40_000))
            found = {line.encode() for line in opened.fetch(name, begin, stop)}
            here = [place for place in places if place[0] == name]
            reaching = {text for _, first, last, text in here if first <= stop and last > begin}
            # Of the two readers the one of lines may stop a base earlier.
            assert found <= reaching
            assert all(last - 1 == begin for _, _, last, text in here if text in reaching - found)
