"""Malformed sources: each has its named outcome, and none leaves anything running or lying about."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pysam
import pytest

from gooseherd.domain.failures import Reason
from gooseherd.processing.registry import default_registry

Process = Callable[..., Awaitable[Any]]
Tool = Callable[..., bytes]

HEAD = b"##fileformat=VCFv4.2\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
BED = b"".join(
    b"chr%d\t%d\t%d\titem%d\n" % (i % 5, i * 7919 % 100_003, i * 7919 % 100_003 + 50, i)
    for i in range(20_000)
)
GFF = b"##gff-version 3\nchr1\ts\tgene\t50\t60\t.\t+\t.\tID=a\n"
OWN_FILES = {
    "output", "bigbed.json", "bigwig.json", "data.bam", "data.bam.bai", "data.bam.csi", "header",
    "header.sam", "index", "records.json", "source", "source.json", "to-verify", "verified",
    *(f"data.{suffix}.gz" for suffix in ("bed", "gff", "gff3", "vcf", "narrowPeak", "broadPeak")),
}  # fmt: skip


def variant(pos: str, info: str = ".", name: str = "chr1") -> bytes:
    return f"{name}\t{pos}\t.\tA\tC\t.\t.\t{info}\n".encode()


async def refused(process: Process, content: bytes | Path, file_format: str, **more: Any) -> str:
    made = await process(content, file_format, **more)
    assert made.failure is not None, "it was accepted"
    assert made.failure.reason is Reason.SOURCE_INVALID, made.failure
    assert set(made.work) <= OWN_FILES
    assert "/" not in made.failure.detail.replace("and/or", "")
    return str(made.failure.detail)


UNUSABLE: list[tuple[bytes, str, str | None]] = [
    (b"", "bed", "the file is empty"),
    (b"", "bam", "the file is empty"),
    (b"", "csv", "the file is empty"),
    (gzip.compress(b""), "bed", "no records: the file has no content"),
    (b"\n", "gtf", "no records: the file has no content"),
    (gzip.compress(b"\n"), "vcf", "no records: the file has no content"),
    (gzip.compress(BED)[:-30_000], "bed", "truncated"),
    (gzip.compress(BED)[:-1], "bed", "truncated"),
    (BED.replace(b"item77\n", b"item\x0077\n"), "bed", "line 78: a NUL byte"),
    (BED.decode().encode("utf-16"), "bed", "UTF-16"),
    (BED + b"chr1\t9\t3\n", "bed", "line 20001: start 9 is after end 3"),
    (BED + b"chr1\tx\t3\n", "bed", "line 20001: column 2 is 'x'"),
    (BED + b"chr1\t-1\t3\n", "bed", "line 20001: position -1 in column 2 is below 0"),
    (BED + b"chr1\t99999999999999\t99999999999999999999\n", "bed", "above 2147483647"),
    (BED + b"chr1\t7\n", "bed", "line 20001: 2 columns"),
    (b"chr1\t10.5\t20\n", "bed", "column 2 is '10.5'"),
    (b"chr1\t1\t2\n", "narrowpeak", "narrowPeak has 9"),
    (GFF + b"chr1\ts\tgene\t500\t60\t.\t+\t.\tID=b\n", "gff3", "line 3: start 500 is after end 60"),
    (GFF, "vcf", "the catalog says vcf, but the file is gff3"),
    (HEAD + variant("5"), "bed", "the catalog says bed, but the file is vcf"),
    (HEAD + variant("5"), "bam", "the catalog says bam, but the file is vcf"),
    (b"plain words\n", "bam", "the catalog says bam, but the file is text"),
    (random.Random(5).randbytes(5000), "bigbed", "the catalog says bigbed, but the file is something else"),
    (b"<!DOCTYPE html><html>Not found</html>", "vcf", "web page"),
    (b'{"error": "expired"}', "bed", "JSON"),
    (b">chr1\nACGTACGT\n", "bed", "fasta"),
    (b"PK\x03\x04" + b"x" * 100, "bed", "zip"),
    (b"\x28\xb5\x2f\xfd" + b"x" * 100, "bed", "does not decode"),
    (b"\x28\xb5\x2f\xfd" + b"x" * 100, "bam", "does not decode"),
    (b"a,b\n1,\x00\n", "csv", "not text"),
    (b" \n", "csv", "no content"),
    (b"\x26\xfc\x8f\x88" + b"\0" * 200, "bigwig", "not a readable bigWig"),
    (b"\xeb\xf2\x89\x87" + b"\0" * 200, "bigbed", "not a readable bigBed"),
    (b"CRAM\x03\x00" + b"x" * 500, "cram", None),
    (b"r\t0\tchr1\t1\t9\t1M\t*\t0\t0\tA\tI\n", "sam", "no reference sequences (@SQ)"),
    (b"@HD\tVN:1.6\n", "sam", "no reference sequences (@SQ)"),
    (b"\n", "sam", "no reads: the file has no content"),
    (b"@SQ\tSN:a\tLN:9\n@SQ\tSN:a\tLN:9\nr\t0\ta\t1\t9\t1M\t*\t0\t0\tA\tI\n", "sam", "'a' twice"),
    (b"@SQ\tSN:a\tLN:9\nr\t0\ta\tx\t9\t1M\t*\t0\t0\tA\tI\n", "sam", "Parse error at line 2"),
    (b"@SQ\tSN:a\tLN:9\nr\t0\ta\t1\t9\t5M\t*\t0\t0\tA\tI\n", "sam", "line 2: CIGAR and query"),
    (b'chr1\tx\texon\t5\t9\t.\t+\t.\tnothing "here"\n', "gtf", "no record has a gene_id or transcript_id"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "file_format", "expected"),
    # Names that do not hold the content: some of it is random, some knows the time.
    [pytest.param(*row, id=f"{row[1]}-{number}") for number, row in enumerate(UNUSABLE)],
)
async def test_text_that_cannot_be_used_is_refused_and_says_why(
    process: Process, content: bytes, file_format: str, expected: str | None
) -> None:
    detail = await refused(process, content, file_format)
    assert expected is None or expected in detail


@pytest.mark.parametrize("cut", [28, 5000, 60_000])
async def test_truncated_bgzf_is_refused(process: Process, tool: Tool, cut: int) -> None:
    packed = tool("bgzip", "-c", stdin=BED + b"chr9\t1\t2")
    assert "truncated" in await refused(process, packed[:-cut], "bed")


async def test_bgzf_without_its_end_marker_but_with_whole_lines_is_taken_with_a_note(
    process: Process, tool: Tool
) -> None:
    made = await process(tool("bgzip", "-c", stdin=BED)[:-28], "bed")
    assert made.counts["records"] == 20_000
    assert "end marker is missing" in made.notes


@pytest.mark.parametrize("cut", [28, 3000, 40_000])
@pytest.mark.parametrize("file_format", ["bam", "bcf", "cram"])
async def test_truncated_binaries_are_refused(
    process: Process, tool: Tool, tmp_path: Path, sam_text: bytes, file_format: str, cut: int
) -> None:
    match file_format:
        case "bam":
            whole = tool("samtools", "view", "--no-PG", "-b", "-", stdin=sam_text)
        case "bcf":
            lines = [variant(str(i * 7919 % 99_991 + 1), f"DP={i * 31}") for i in range(30_000)]
            head = HEAD.replace(b"#CHROM", b'##INFO=<ID=DP,Number=1,Type=Integer,Description="x">\n#CHROM')
            whole = tool("bcftools", "view", "--no-version", "-Ob", stdin=head + b"".join(lines))
        case _:
            path = tmp_path / "x.cram"
            tool(
                "samtools",
                "view",
                "--no-PG",
                "-C",
                "--output-fmt-option",
                "no_ref=1",
                "-o",
                str(path),
                "-",
                stdin=sam_text,
            )
            whole = path.read_bytes()
    assert "truncated" in await refused(process, whole[:-cut], file_format)


async def test_a_damaged_bam_is_refused(process: Process, tool: Tool, sam_text: bytes) -> None:
    whole = bytearray(tool("samtools", "view", "--no-PG", "-b", "-", stdin=sam_text))
    whole[len(whole) // 2] ^= 0xFF
    await refused(process, bytes(whole), "bam")


def bam(header: bytes, names: list[tuple[bytes, int]]) -> bytes:
    """A BAM without reads, block by block (SAMv1 §4.2), for headers that samtools would not write."""
    body = b"BAM\1" + struct.pack("<i", len(header)) + header + struct.pack("<i", len(names))
    for name, length in names:
        body += struct.pack("<i", len(name) + 1) + name + b"\0" + struct.pack("<i", length)
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(body) + packer.flush()
    head = bytes.fromhex("1f8b08040000000000ff060042430200") + struct.pack("<H", len(packed) + 25)
    end = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
    return head + packed + struct.pack("<II", zlib.crc32(body), len(body)) + end


@pytest.mark.parametrize(
    ("header", "names", "expected"),
    [
        (b"@HD\tVN:1.6\n", [], "@SQ"),
        (b"@SQ\tSN:a\tLN:9\n@SQ\tSN:a\tLN:9\n", [(b"a", 9), (b"a", 9)], None),
    ],
)
async def test_bam_headers_that_cannot_be_indexed_are_refused(
    process: Process, header: bytes, names: list[tuple[bytes, int]], expected: str | None
) -> None:
    detail = await refused(process, bam(header, names), "bam")
    assert expected is None or expected in detail


@pytest.mark.parametrize("declared", [(1 << 31) - 1, -1])
async def test_hostile_bam_headers_are_refused(process: Process, declared: int) -> None:
    body = b"BAM\1" + struct.pack("<i", declared)
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(body) + packer.flush()
    head = bytes.fromhex("1f8b08040000000000ff060042430200") + struct.pack("<H", len(packed) + 25)
    end = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
    await refused(process, head + packed + struct.pack("<II", zlib.crc32(body), len(body)) + end, "bam")


@pytest.mark.parametrize(("megabytes", "taken"), [(10, True), (20, False)])
async def test_long_lines_are_fine_up_to_a_bound(process: Process, megabytes: int, taken: bool) -> None:
    content = b"chr1\t1\t2\tshort\nchr1\t5\t9\t" + b"x" * (megabytes << 20) + b"\n"
    made = await process(content, "bed")
    if taken:
        with pysam.TabixFile(made.data, index=made.index) as opened:
            assert max(map(len, opened.fetch("chr1"))) > megabytes << 20
    else:
        assert "line 2: the line is longer than" in made.failure.detail


# -- starved ---------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["bed", "sam"])
async def test_too_little_scratch_space_is_out_of_disk(
    process: Process, sam_text: bytes, file_format: str
) -> None:
    content = BED if file_format == "bed" else sam_text
    made = await process(content, file_format, scratch_bytes=30_000)
    assert made.failure.reason is Reason.OUT_OF_DISK, made.failure


async def test_missing_tools_are_an_operators_matter(process: Process, tmp_path: Path) -> None:
    bare = default_registry(
        sort_memory=1 << 24, samtools_memory=1 << 24, threads=1, search_path=str(tmp_path)
    )
    made = await process(BED, "bed", using=bare)
    assert made.failure.reason is Reason.MISCONFIGURED
