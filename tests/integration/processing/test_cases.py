"""Small files that once were published but wrong, each with its right value."""

from __future__ import annotations

import asyncio
import gzip
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyBigWig
import pysam
import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason
from gooseherd.processing.registry import ProcessorRegistry, default_registry

Process = Callable[..., Awaitable[Any]]
Tool = Callable[..., bytes]

VCF = b"##fileformat=VCFv4.1\n##contig=<ID=chr1,length=249250621>\n##contig=<ID=chr10,length=135534747>\n"
TITLES = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


@pytest.mark.parametrize("record", [b"chr1\t5\ta\tC\tG\t.\t.\tX=1\n", b""])
async def test_a_titles_line_with_a_format_but_no_sample_is_one_that_htslib_reads(
    process: Process, tool: Tool, record: bytes
) -> None:
    made = await process(VCF + TITLES + b"\tFORMAT\n" + record, "vcf")
    assert made.failure is None
    assert made.counts["respelt_titles"] == 1
    assert tool("bcftools", "view", "-H", made.data) == record


async def test_records_with_a_format_but_no_sample_stay_as_they_are(process: Process, tool: Tool) -> None:
    record = b"chr1\t5\ta\tC\tG\t.\t.\tX=1\tGT\n"
    made = await process(VCF + TITLES + b"\tFORMAT\n" + record, "vcf")
    assert made.counts["wide_records"] == 1
    assert tool("bcftools", "view", "-H", made.data) == record.replace(b"\tGT", b"")


@pytest.fixture
def with_density() -> ProcessorRegistry:
    return default_registry(sort_memory=32 << 20, samtools_memory=64 << 20, threads=2, level=1, density=True)


async def test_a_titles_line_that_ends_with_a_space_loses_it(process: Process, tool: Tool) -> None:
    made = await process(VCF + TITLES + b" \nchr1\t5\ta\tC\tG\t.\t.\tX=1\n", "vcf")
    assert made.counts["respelt_titles"] == 1
    assert "#CHROM" in made.notes
    assert tool("bcftools", "view", "-H", made.data) == b"chr1\t5\ta\tC\tG\t.\t.\tX=1\n"


@pytest.mark.parametrize(
    ("about", "allele"),
    [("SVTYPE=TRA;CHR2=chr1;END=19357517", "<TRA>"), ("SVTYPE=BND;END=19357517", "N[chr1:19357517[")],
)
async def test_an_end_on_another_sequence_is_one_base_of_the_density(
    process: Process, with_density: ProcessorRegistry, about: str, allele: str
) -> None:
    records = f"chr10\t2991435\tt\tN\t{allele}\t.\tPASS\t{about}\nchr10\t10000000\ts\tA\tC\t.\tPASS\tDP=1\n"
    made = await process(VCF + TITLES + b"\n" + records.encode(), "vcf", using=with_density)
    with pyBigWig.open(str(made.produced(Kind.DENSITY).path)) as density:
        assert density.values("chr10", 2991434, 2991435) == [1]
        assert density.values("chr10", 9999999, 10000000) == [1]
        assert density.stats("chr10", 2993000, 9999000, type="max") == [0]
        assert density.stats("chr10", 10001000, 135534747, type="max") == [0]


async def test_at_the_far_end_of_a_variant_the_density_has_what_a_query_finds(
    process: Process, with_density: ProcessorRegistry
) -> None:
    records = (
        "chr1\t100\ts\tA\tC\t.\tPASS\tDP=1\n"
        "chr1\t8000000\tb\tA\tA]chr10:2991435]\t.\tPASS\tSVTYPE=BND;MATEID=a\n"
        "chr10\t2991435\ta\tN\tN]chr1:8000000]\t.\tPASS\tSVTYPE=BND;MATEID=b\n"
        "chr10\t4000000\tt\tN\t<TRA>\t.\tPASS\tSVTYPE=TRA;CHR2=chr1;END=9000000\n"
    )
    made = await process(VCF + TITLES + b"\n" + records.encode(), "vcf", using=with_density)
    assert made.failure is None, made.failure
    with (
        pyBigWig.open(str(made.produced(Kind.DENSITY).path)) as density,
        pysam.TabixFile(made.data, index=made.index) as opened,
    ):
        for name, place, many in (("chr1", 8000000, 1), ("chr10", 2991435, 1), ("chr1", 9000000, 0)):
            assert len(list(opened.fetch(name, place - 1, place))) == many
            assert density.values(name, place - 1, place) == [many]


async def test_a_blocks_end_is_the_longest_len_of_its_samples(process: Process) -> None:
    head = VCF + TITLES + b"\tFORMAT\tA\tB\n"
    made = await process(head + b"chr1\t1000\t.\tA\t<*>\t.\t.\t.\tGT:LEN\t0/0:50000\t0/0:70000\n", "vcf")
    assert made.counts["max_end"] == 70999
    with pysam.TabixFile(made.data, index=made.index) as opened:
        assert len(list(opened.fetch("chr1", 70990, 70995))) == 1
        assert not list(opened.fetch("chr1", 71000, 71100))


def bam(text: bytes, *sequences: tuple[bytes, int]) -> bytes:
    """One mapped read on the last sequence."""
    dictionary = b"".join(
        struct.pack("<i", len(name) + 1) + name + b"\0" + struct.pack("<i", length)
        for name, length in sequences
    )
    head = b"BAM\1" + struct.pack("<i", len(text)) + text + struct.pack("<i", len(sequences)) + dictionary
    read = struct.pack("<iiBBHHHiiii", len(sequences) - 1, 9, 2, 60, 4680, 1, 0, 4, -1, -1, 0)
    read += b"r\0" + struct.pack("<I", 4 << 4) + b"\x11\x11" + b"\x1e" * 4
    return head + struct.pack("<i", len(read)) + read


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"@HD\tVN:1.6\tSO:coordinate\n",
        b"@SQ\tSN:c2\tLN:900\n",
        b"@HD\tVN:1.6\n\0\0\0@SQ\tSN:c1\tLN:1000\n\0",
    ],
    ids=["no text", "no @SQ", "an @SQ line fewer", "NULs"],
)
async def test_a_bams_sequences_are_those_of_its_dictionary(
    process: Process, tool: Tool, text: bytes
) -> None:
    source = tool("bgzip", "-c", stdin=bam(text, (b"c1", 1000), (b"c2", 900)))
    made = await process(source, "bam")
    assert made.failure is None
    assert [(c.name, c.length) for c in made.outputs[0].contigs] == [("c1", 1000), ("c2", 900)]
    with pysam.AlignmentFile(made.data, index_filename=made.index) as opened:
        assert [read.reference_start for read in opened.fetch("c2")] == [9]


async def test_a_bigbeds_sequences_have_their_lengths(
    process: Process, bigbed: Any, with_density: ProcessorRegistry
) -> None:
    made = await process(bigbed([("c1", 5, 9, "a"), ("c2", 7, 90, "b")]), "bigbed", using=with_density)
    assert [(c.name, c.length) for c in made.outputs[0].contigs] == [("c1", 1_000_000), ("c2", 1_000_000)]
    with pyBigWig.open(str(made.produced(Kind.DENSITY).path)) as density:
        assert density.chroms() == {"c1": 1_000_000, "c2": 1_000_000}


def big_endian(magic: int) -> bytes:
    """A bigWig or bigBed of one sequence with one item, in the order of bytes that Sparc and PowerPC had."""
    block = struct.pack(">III", 0, 5, 9) + b"name\0"
    if magic == 0x888FFC26:
        block = struct.pack(">IIIIIBBHIIf", 0, 5, 9, 0, 0, 1, 0, 1, 5, 9, 2.5)
    names = struct.pack(">IIIIQQBBH2sII", 0x78CA8C91, 1, 2, 8, 1, 0, 1, 0, 1, b"c1", 0, 900)
    data_at = 64 + len(names)
    end = data_at + 8 + len(block)
    places = struct.pack(">IIQIIIIQIIBBH", 0x2468ACE0, 256, 1, 0, 5, 0, 9, end, 1, 0, 1, 0, 1)
    places += struct.pack(">IIIIQQ", 0, 5, 0, 9, data_at + 8, len(block))
    head = struct.pack(">IHHQQQHHQQIQ", magic, 4, 0, 64, data_at, end, 4, 3, 0, 0, 0, 0)
    return head + names + struct.pack(">Q", 1) + block + places


async def test_a_big_endian_bigbed_is_read(process: Process, with_density: ProcessorRegistry) -> None:
    made = await process(big_endian(0x8789F2EB), "bigbed", using=with_density)
    assert made.failure is None
    assert [(c.name, c.length) for c in made.outputs[0].contigs] == [("c1", 900)]
    with pysam.TabixFile(made.data, index=made.index) as opened:
        assert list(opened.fetch("c1", 8, 9)) == ["c1\t5\t9\tname"]


async def test_a_big_endian_bigwig_is_passed_on_and_named_as_one(process: Process) -> None:
    made = await process(big_endian(0x888FFC26), "bigwig")
    assert made.failure is None
    assert [(c.name, c.length) for c in made.outputs[0].contigs] == [("c1", 900)]
    assert "big-endian" in made.notes


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("file_format", ["csv", "tsv"])
@pytest.mark.parametrize(
    ("source", "word"),
    [
        (b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n", "HTML"),
        (b"\xef\xbb\xbf\r\n  <html lang='en'><head>", "HTML"),
        (POINTER, "Git LFS"),
        (b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>", "XML"),
        (b"<Error><Code>NoSuchKey</Code></Error>", "XML"),
        (b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">', "XML"),
        (b"a,b\n1,\0\0\0\x01\x02\n", "not text"),
        (b"%PDF-1.4\n", "PDF"),
        (b"PK\x03\x04xl/worksheets/sheet1.xml", "zip"),
        ("a\tb\n1\t2\n".encode("utf-16"), "UTF-16"),
    ],
    ids=["html", "html with a mark", "pointer", "xml", "error", "listing", "binary", "pdf", "xlsx", "utf-16"],
)
async def test_what_is_no_table_is_refused_in_words(
    process: Process, source: bytes, word: str, file_format: str
) -> None:
    for packed in (source, gzip.compress(source)):
        made = await process(packed, file_format)
        assert made.failure is not None
        assert made.failure.reason is Reason.SOURCE_INVALID
        assert word in made.failure.detail


async def test_a_table_is_passed_on_as_it_is(process: Process) -> None:
    text = b"name,note\n<b>,version\n"
    made = await process(text, "csv")
    assert await asyncio.to_thread(Path(made.data).read_bytes) == text


@pytest.mark.parametrize("begin", [b"0e0", b"134.0", b"+5", b"007"])
async def test_a_bed_whose_first_position_is_spelt_oddly_is_no_file_of_pairs(
    process: Process, begin: bytes
) -> None:
    made = await process(b"chr1\t" + begin + b"\t200\tn\t10\t-\n", "bed")
    assert made.failure is None, made.failure
    assert made.counts["respelt_coordinates"] == 1
