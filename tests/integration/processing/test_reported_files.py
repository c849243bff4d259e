"""Files that people had trouble with, as a whole: what has to come of each, or the words of its refusal."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pyBigWig
import pysam
import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.bgzf import END_MARKER
from gooseherd.domain.failures import Reason
from gooseherd.processing.registry import default_registry

Process = Callable[..., Awaitable[Any]]
Tool = Callable[..., bytes]

VCF = b"##fileformat=VCFv4.2\n##contig=<ID=chr1,length=1000000>\n"
GENOTYPE = b'##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
TITLES = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
TWO_PLACES = b"".join(
    b'chr1\trefGene\t%b\t%d\t%d\t.\t%b\t.\tgene_id "FAM1"; transcript_id "NM_77";\n'
    % (kind, begin, end, strand)
    for begin, end, strand in ((11874, 13874, b"+"), (120000000, 120002000, b"-"))
    for kind in (b"transcript", b"exon")
)

READ_BACK = [
    (
        "a BED with columns like those of a variant",
        "bed",
        b"chr1\t1000\t1001\tA\tT\t30\tPASS\tGENE1;missense\nchr1\t500\t501\tC\tG\t60\tPASS\tGENE2;stop\n",
        [("chr1", 500, 501), ("chr1", 1000, 1001)],
    ),
    (
        "a BED with its strand in column 7",
        "bed",
        b"chr1\t100\t200\t3\t960\tnameA\t+\t0\nchr1\t50\t90\t5\t100\tnameB\t-\t1\n",
        [("chr1", 50, 90), ("chr1", 100, 200)],
    ),
    (
        "a heading with beg for start",
        "bed",
        b"chr\tbeg\tend\tsig\nchr1\t10\t20\t3.5\n",
        [("chr1", 10, 20)],
    ),
]


@pytest.mark.parametrize(
    ("what", "file_format", "source", "places"), READ_BACK, ids=[r[0] for r in READ_BACK]
)
async def test_its_records_are_found_by_region(
    process: Process, what: str, file_format: str, source: bytes, places: list[tuple[str, int, int]]
) -> None:
    made = await process(source, file_format)
    assert made.failure is None, made.failure
    with pysam.TabixFile(made.data, index=made.index) as opened:
        rows = [line.split("\t") for line in opened.fetch()]
        assert [(name, int(begin), int(end)) for name, begin, end, *_ in rows] == places
        for name, begin, end in places:
            assert len(list(opened.fetch(name, begin, end))) == 1


async def test_a_gene_at_two_places_is_two_genes(process: Process) -> None:
    made = await process(TWO_PLACES, "gtf")
    text = gzip.decompress(made.produced(Kind.DATA).path.read_bytes()).decode()
    lines = [line.split("\t") for line in text.splitlines()]
    genes = [(line[3], line[4], line[6]) for line in lines if line[2:3] == ["gene"]]
    assert genes == [("11874", "13874", "+"), ("120000000", "120002000", "-")]


async def test_bcftools_opens_a_vcf_whose_titles_ended_with_a_space(process: Process, tool: Tool) -> None:
    record = b"chr1\t5\ta\tC\tG\t.\t.\tX=1\n"
    made = await process(VCF + GENOTYPE + TITLES + b" \n" + record, "vcf")
    assert tool("bcftools", "view", "-H", made.data) == record


async def test_a_vcf_with_a_header_alone_is_an_empty_track(process: Process, tool: Tool) -> None:
    made = await process(VCF + GENOTYPE + TITLES + b"\n", "vcf")
    assert made.failure is None, made.failure
    assert tool("bcftools", "view", "-H", made.data) == b""
    with pysam.TabixFile(made.data, index=made.index) as opened:
        assert opened.contigs == []


async def test_an_end_on_another_sequence_is_one_base(process: Process) -> None:
    records = (
        b"chr10\t2991435\tt\tN\t<TRA>\t.\tPASS\tSVTYPE=TRA;CHR2=chr1;END=19357517\n"
        b"chr10\t10000000\ts\tA\tC\t.\tPASS\tDP=1\n"
    )
    head = (
        b"##fileformat=VCFv4.1\n##contig=<ID=chr1,length=249250621>\n##contig=<ID=chr10,length=135534747>\n"
    )
    using = default_registry(sort_memory=32 << 20, samtools_memory=64 << 20, threads=2, level=1, density=True)
    made = await process(head + TITLES + b"\n" + records, "vcf", using=using)
    with pyBigWig.open(str(made.produced(Kind.DENSITY).path)) as density:
        assert density.values("chr10", 2991434, 2991435) == [1]
        assert density.values("chr10", 9999999, 10000000) == [1]
        assert density.stats("chr10", 3100000, 9900000, type="max") == [0]


def bam(text: bytes, *sequences: tuple[bytes, int], reads: tuple[tuple[bytes, int], ...]) -> bytes:
    """Reads of four bases on the first sequence."""
    head = b"BAM\1" + struct.pack("<i", len(text)) + text + struct.pack("<i", len(sequences))
    for name, length in sequences:
        head += struct.pack("<i", len(name) + 1) + name + b"\0" + struct.pack("<i", length)
    for name, at in reads:
        fields = (0, at, len(name) + 1, 60, 4681, 1, 0, 4, -1, -1, 0)
        read = struct.pack("<iiBBHHHiiii", *fields) + name + b"\0" + struct.pack("<I", 4 << 4)
        read += b"\x12\x48" + b"\x28" * 4
        head += struct.pack("<i", len(read)) + read
    return head


async def test_a_bam_without_a_sequence_in_its_text_has_those_of_its_dictionary(
    process: Process, tool: Tool
) -> None:
    source = bam(b"@HD\tVN:1.6\tSO:coordinate\n", (b"c1", 1000), (b"c2", 900), reads=((b"a", 4),))
    made = await process(tool("bgzip", "-c", stdin=source), "bam")
    assert [(c.name, c.length) for c in made.outputs[0].contigs] == [("c1", 1000), ("c2", 900)]


async def test_a_big_endian_bigwig_keeps_its_bytes(process: Process) -> None:
    """Its three values are read by viewers; of a reader of one order the sequences are what is known."""
    chromosomes = struct.pack(">IIIIQQ", 0x78CA8C91, 2, 4, 8, 2, 0) + struct.pack(">BBH", 1, 0, 2)
    chromosomes += b"chr1" + struct.pack(">II", 0, 10_000) + b"chr2" + struct.pack(">II", 1, 5_000)
    at = 64 + 40 + len(chromosomes)
    sections = [
        struct.pack(">IIIIIBBH", 0, 100, 400, 0, 0, 1, 0, 2)
        + struct.pack(">IIf", 100, 200, 1.5)
        + struct.pack(">IIf", 300, 400, 2.5),
        struct.pack(">IIIIIBBH", 1, 5, 50, 0, 0, 1, 0, 1) + struct.pack(">IIf", 5, 50, 4),
    ]
    data = struct.pack(">I", 2) + b"".join(sections)
    places = [(0, 100, 400), (1, 5, 50)]
    index_at = at + len(data)
    index = struct.pack(">IIQIIIIQII", 0x2468ACE0, 2, 2, 0, 100, 1, 50, index_at, 1, 0)
    index += struct.pack(">BBH", 1, 0, 2)
    offset = at + 4
    for (chrom, begin, end), section in zip(places, sections, strict=True):
        index += struct.pack(">IIIIQQ", chrom, begin, chrom, end, offset, len(section))
        offset += len(section)
    summary = struct.pack(">Qdddd", 245, 1.5, 4, 580, 1570)
    head = struct.pack(">IHHQQQHHQQIQ", 0x888FFC26, 4, 0, 104, at, index_at, 0, 0, 0, 64, 0, 0)
    source = head + summary + chromosomes + data + index + struct.pack(">I", 0x888FFC26)
    made = await process(source, "bigwig")
    assert made.failure is None, made.failure
    assert made.produced(Kind.DATA).path.read_bytes() == source
    assert [(c.name, c.length) for c in made.outputs[0].contigs] == [("chr1", 10_000), ("chr2", 5_000)]


REFUSED = [
    (
        "a PG line with a TAB in a value",
        "sam",
        (
            b"@HD\tVN:1.6\n@SQ\tSN:c\tLN:1000\n@PG\tID:x\tCL:bwa mem -R a\tb\n"
            b"a\t0\tc\t5\t60\t4M\t*\t0\t0\tACGT\tIIII\n"
        ),
        ("line 3", "@PG"),
    ),
    (
        "a login page",
        "csv",
        b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n",
        ("HTML",),
    ),
    (
        "Unicode text as spreadsheets save it",
        "tsv",
        "\ufeffchr\tstart\nchr1\t5\n".encode("utf-16-le"),
        ("UTF-16", "save it as UTF-8"),
    ),
]


@pytest.mark.parametrize(("what", "file_format", "source", "words"), REFUSED, ids=[r[0] for r in REFUSED])
async def test_it_is_refused_in_words_that_help(
    process: Process, what: str, file_format: str, source: bytes, words: tuple[str, ...]
) -> None:
    made = await process(source, file_format)
    assert made.failure is not None
    assert made.failure.reason is Reason.SOURCE_INVALID
    for word in words:
        assert word in made.failure.detail


async def test_a_read_far_beyond_its_sequence_is_named_with_both_lengths(
    process: Process, tool: Tool
) -> None:
    text = b"@HD\tVN:1.6\tSO:coordinate\n@SQ\tSN:c\tLN:35803611\n"
    source = bam(text, (b"c", 35803611), reads=((b"a", 4), (b"b", 589897412)))
    made = await process(tool("bgzip", "-c", stdin=source), "bam")
    assert made.failure is not None
    assert made.failure.reason is Reason.SOURCE_INVALID
    for word in ("b", "589897413", "35803611"):
        assert word in made.failure.detail
    assert "csi" not in made.failure.detail


async def test_a_bed_in_blocks_that_ends_between_two_of_them_is_truncated(
    process: Process, tool: Tool
) -> None:
    text = b"".join(b"chr1\t%d\t%d\tf%d\n" % (n * 100, n * 100 + 50, n) for n in range(6000))
    # Blocks of bgzip before 1.20 end where they are full; those of newer ones at the end of a line.
    whole_blocks = tool("bgzip", "-c", stdin=text[:-3]).removesuffix(END_MARKER)
    made = await process(whole_blocks, "bed")
    assert made.failure is not None
    assert made.failure.reason is Reason.SOURCE_INVALID
    assert "truncated: the end marker is missing" in made.failure.detail
