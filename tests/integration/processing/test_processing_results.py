"""Every format end to end with the real tools, asked region by region against a naive reading."""

from __future__ import annotations

import bz2
import gzip
import random
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyBigWig
import pysam
import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason
from gooseherd.processing.registry import default_registry

Process = Callable[..., Awaitable[Any]]
Tool = Callable[..., bytes]

CHANCE = random.Random(11)
NAMES = ["chr1", "chr10", "chr2", "HLA-A*01:01:01:01", "chrUn,1"]


def intervals(count: int = 3000) -> list[tuple[str, int, int]]:
    """0-based half-open, in no order."""
    found = []
    for _ in range(count):
        start = CHANCE.randint(0, 900_000)
        found.append((CHANCE.choice(NAMES), start, start + CHANCE.randint(1, 5000)))
    return found


def text_of(file_format: str) -> tuple[bytes, list[tuple[str, int, int, str]]]:
    """(a file, its records as (name, start, end, line))."""
    records, head = [], ""
    # VCF allows no comma in a contig's name, and bcftools insists on that.
    names = {"chrUn,1": "chr2"} if file_format == "vcf" else {}
    for number, (drawn, start, end) in enumerate(intervals()):
        name = names.get(drawn, drawn)
        match file_format:
            case "bed":
                line = f"{name}\t{start}\t{end}\titem{number}\t5\t+"
            case "narrowpeak":
                line = f"{name}\t{start}\t{end}\tpeak{number}\t9\t.\t1.5\t2\t-1\t3"
            case "broadpeak":
                line = f"{name}\t{start}\t{end}\tpeak{number}\t9\t.\t1.5\t2\t-1"
            case "gff" | "gff3":
                head = "##gff-version 3\n##sequence-region chr1 1 1000000\n"
                line = f"{name}\ta b\tgene\t{start + 1}\t{end}\t.\t+\t.\tID=g{number}"
            case "vcf":
                head = "##fileformat=VCFv4.2\n"
                head += "".join(f"##contig=<ID={n},length=1000000>\n" for n in NAMES if "," not in n)
                head += (
                    '##INFO=<ID=END,Number=1,Type=Integer,Description="x">\n##ALT=<ID=DEL,Description="x">\n'
                )
                head += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
                line = f"{name}\t{start + 1}\tv{number}\tA\t<DEL>\t.\tPASS\tEND={end}"
            case _:
                raise AssertionError(file_format)
        records.append((name, start, end, line))
    return (head + "".join(line + "\n" for *_, line in records)).encode(), records


def unpacked(made: Any) -> list[str]:
    return gzip.decompress(Path(made.data).read_bytes()).decode().splitlines()


def bytes_of(made: Any) -> bytes:
    return Path(made.data).read_bytes()


def answers_agree(made: Any, records: list[tuple[str, int, int, str]]) -> None:
    with pysam.TabixFile(made.data, index=made.index) as opened:
        names = sorted({name for name, *_ in records})
        assert opened.contigs == names
        for _ in range(60):
            name, start = CHANCE.choice(names), CHANCE.randint(0, 900_000)
            end = start + CHANCE.choice([1, 1000, 50_000])
            want = sorted(line for n, s, e, line in records if n == name and s < end and e > start)
            assert sorted(opened.fetch(name, start, end)) == want
        for name in names:
            starts = {line: s for n, s, _, line in records if n == name}
            assert [starts[line] for line in opened.fetch(name)] == sorted(starts[x] for x in starts)


@pytest.mark.parametrize(
    ("file_format", "packed"),
    [
        *((name, bytes) for name in ("bed", "narrowpeak", "broadpeak", "gff", "gff3", "vcf")),
        ("bed", gzip.compress),
        ("gff3", bz2.compress),
        ("vcf", "bgzip"),
    ],
)
async def test_intervals_answer_every_region_as_a_naive_reading_does(
    process: Process, tool: Tool, file_format: str, packed: Any
) -> None:
    text, records = text_of(file_format)
    source = tool("bgzip", "-c", stdin=text) if packed == "bgzip" else packed(text)
    made = await process(source, file_format, filename=f"my.{file_format}.gz")
    answers_agree(made, records)
    assert made.counts["records"] == len(records)
    assert {c.name for c in made.outputs[0].contigs} >= {name for name, *_ in records}
    data, index = made.produced(Kind.DATA), made.produced(Kind.INDEX)
    assert data.filename.lower() == f"my.{file_format}.gz"
    assert index.filename == data.filename + ".tbi"
    assert made.reports[-1][0] == 1.0


async def test_a_vcf_keeps_its_header_in_order_above_the_records(process: Process) -> None:
    text, _ = text_of("vcf")
    made = await process(text, "vcf")
    head = [line for line in text.decode().splitlines() if line.startswith("#")]
    with pysam.TabixFile(made.data, index=made.index) as opened:
        assert list(opened.header) == head
    assert unpacked(made)[: len(head)] == head
    with pysam.VariantFile(made.data, index_filename=made.index) as opened:
        assert next(opened.fetch("chr10")).contig == "chr10"


async def test_bcf_becomes_vcf(process: Process, tool: Tool) -> None:
    text, records = text_of("vcf")
    source = tool("bcftools", "view", "--no-version", "-Ob", stdin=text)
    made = await process(source, "bcf", filename="a.bcf")
    answers_agree(made, records)
    assert made.produced(Kind.DATA).filename == "a.vcf.gz"


async def test_gtf_becomes_gff3_with_all_its_lines(process: Process) -> None:
    lines, exons = ["#!genome-build x"], set()
    for number in range(300):
        name, start = CHANCE.choice(["chr1", "chr2"]), CHANCE.randint(1, 900_000)
        about = f'gene_id "G{number}"; gene_name "N {number}";'
        lines.append(f"{name}\thav\tgene\t{start}\t{start + 900}\t.\t+\t.\t{about}")
        spelt = f"gene_id=G{number};gene_name=N {number}"
        about += f' transcript_id "T{number}";'
        lines.append(f"{name}\thav\ttranscript\t{start}\t{start + 900}\t.\t+\t.\t{about}")
        for exon, offset in enumerate((0, 400, 800)):
            begin = start + offset
            lines.append(f'{name}\thav\texon\t{begin}\t{begin + 100}\t.\t+\t.\t{about} exon_number "{exon}";')
            exons.add(
                (
                    name,
                    begin,
                    begin + 100,
                    f"Parent=T{number};{spelt};transcript_id=T{number};exon_number={exon}",
                )
            )
    made = await process(gzip.compress("\n".join(lines).encode()), "gtf", filename="a.gtf.gz")
    with pysam.TabixFile(made.data, index=made.index) as opened:
        rows = [line.split("\t") for name in opened.contigs for line in opened.fetch(name)]
        assert {(r[0], int(r[3]), int(r[4]), r[8]) for r in rows if r[2] == "exon"} == exons
        assert {r[8] for r in rows if r[2] == "gene"} == {
            f"ID=G{n};Name=N {n};gene_id=G{n};gene_name=N {n}" for n in range(300)
        }
        assert list(opened.header) == ["##gff-version 3", "#!genome-build x"]
    assert made.produced(Kind.DATA).filename == "a.gff3.gz"
    assert made.counts["records"] == 1500
    assert "rewritten as GFF3" in made.notes


async def test_bigbed_becomes_bed_with_every_column(process: Process, bigbed: Any) -> None:
    items = sorted((n, s, e, f"name {i}\t7\t+") for i, (n, s, e) in enumerate(intervals()))
    # One that reaches over the borders of what is read at once.
    items.append(("chr2", 5, 999_999, "long\t1\t-"))
    made = await process(bigbed(items), "bigbed", filename="a.bb")
    answers_agree(made, [(n, s, e, f"{n}\t{s}\t{e}\t{rest}") for n, s, e, rest in items])
    assert made.produced(Kind.DATA).filename == "a.bed.gz"


@pytest.mark.parametrize("source_format", ["sam", "sam.gz", "bam", "cram"])
async def test_alignments_answer_every_region_as_a_naive_reading_does(
    process: Process, tool: Tool, tmp_path: Path, sam_text: bytes, source_format: str
) -> None:
    source: bytes | Path = sam_text
    if source_format == "sam.gz":
        source = gzip.compress(sam_text)
    if source_format == "bam":
        source = tool("samtools", "view", "--no-PG", "-b", "-", stdin=sam_text)
    if source_format == "cram":
        argv = ("--output-fmt-option", "no_ref=1", "-C", "-o", str(tmp_path / "x.cram"), "-")
        tool("samtools", "view", "--no-PG", *argv, stdin=sam_text)
        source = tmp_path / "x.cram"
    made = await process(source, source_format.removesuffix(".gz"), filename=f"a.{source_format}")
    reads = [line.split("\t") for line in sam_text.decode().splitlines() if not line.startswith("@")]
    with pysam.AlignmentFile(made.data, index_filename=made.index) as opened:
        for _ in range(60):
            name, start = CHANCE.choice(["chr1", "chr2"]), CHANCE.randint(0, 150_000)
            end = start + CHANCE.choice([1, 100, 5000])
            want = sorted(
                r[0] for r in reads if r[2] == name and int(r[3]) - 1 < end and int(r[3]) + 19 > start
            )
            assert sorted(str(read.query_name) for read in opened.fetch(name, start, end)) == want
        assert opened.mapped + opened.unmapped == 4000
    assert [(c.name, c.length) for c in made.outputs[0].contigs] == [
        ("chr2", 200_000),
        ("chr1", 300_000),
        ("none", 5),
    ]
    assert made.counts["records"] == 4000
    assert made.produced(Kind.DATA).filename == "a.bam"
    assert made.produced(Kind.INDEX).filename == "a.bam.bai"


async def test_a_sorted_bam_keeps_its_bytes_whatever_its_header_says(
    process: Process, tool: Tool, sam_text: bytes
) -> None:
    ordered = tool("samtools", "sort", "--no-PG", "-O", "sam", "-", stdin=sam_text)
    source = tool(
        "samtools", "view", "--no-PG", "-b", "-", stdin=ordered.replace(b"SO:coordinate", b"SO:unsorted")
    )
    made = await process(source, "bam")
    assert bytes_of(made) == source
    assert "own bytes" in made.notes


async def test_a_bam_that_claims_to_be_sorted_is_sorted(
    process: Process, tool: Tool, sam_text: bytes
) -> None:
    claimed = sam_text.replace(b"SO:unsorted", b"SO:coordinate")
    made = await process(tool("samtools", "view", "--no-PG", "-b", "-", stdin=claimed), "bam")
    with pysam.AlignmentFile(made.data, index_filename=made.index) as opened:
        starts = [read.reference_start for read in opened.fetch("chr1")]
        assert starts == sorted(starts)


@pytest.mark.parametrize("file_format", ["sam", "bam", "cram", "vcf", "gff3", "bed", "gtf"])
async def test_the_same_source_gives_the_same_bytes(
    process: Process,
    tool: Tool,
    tmp_path: Path,
    sam_text: bytes,
    file_format: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source: bytes | Path = sam_text
    match file_format:
        case "bam":
            source = tool("samtools", "view", "--no-PG", "-b", "-", stdin=sam_text)
        case "cram":
            argv = ("--output-fmt-option", "no_ref=1", "-C", "-o", str(tmp_path / "x.cram"), "-")
            tool("samtools", "view", "--no-PG", *argv, stdin=sam_text)
            source = tmp_path / "x.cram"
        case "gtf":
            exon = 'chr{0}\tx\texon\t{1}\t{2}\t.\t+\t.\tgene_id "g{1}"; transcript_id "t{1}";\n'
            source = "".join(
                exon.format(i % 3, i * 7919 % 10007, i * 7919 % 10007 + 9) for i in range(500)
            ).encode()
        case "vcf" | "gff3" | "bed":
            source = text_of(file_format)[0]
    first = await process(source, file_format)
    # Neither memory nor threads nor the caller's locale may show in the result.
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    other = default_registry(sort_memory=1 << 20, samtools_memory=4 << 20, threads=1)
    second = await process(source, file_format, using=other)
    assert first.digests() == second.digests()


async def test_records_come_in_byte_order_and_ties_in_the_sources_order(process: Process) -> None:
    text = b"chr_b\t5\t9\t1\nCHR_a\t5\t9\t2\nchr10\t5\t9\t3\nchr2\t50\t60\t4\nchr2\t6\t9\t5\nchr2\t6\t8\t6\n"
    made = await process(text, "bed")
    lines = unpacked(made)
    assert [line.split("\t")[3] for line in lines] == ["2", "3", "5", "6", "4", "1"]


@pytest.mark.parametrize("file_format", ["csv", "tsv"])
async def test_tables_pass_through_without_a_copy(process: Process, file_format: str) -> None:
    made = await process(b"a,b\n1,2\n", file_format, filename="t.txt")
    data = made.produced(Kind.DATA)
    assert data.path.name == "t.txt"
    assert data.media_type.startswith("text/")
    assert len(made.outputs) == 1


async def test_bigwig_passes_through_and_tells_its_contigs(process: Process, tmp_path: Path) -> None:
    path = tmp_path / "x.bw"
    writer = pyBigWig.open(str(path), "w")
    writer.addHeader([("chr1", 1000), ("chr2", 500)])
    writer.addEntries(["chr1"], [5], ends=[9], values=[1.5])
    writer.close()
    made = await process(path, "bigwig")
    assert {(c.name, c.length) for c in made.outputs[0].contigs} == {("chr1", 1000), ("chr2", 500)}


async def test_a_source_with_an_upstream_index_stays_as_it_is(
    process: Process, tool: Tool, sam_text: bytes
) -> None:
    source = tool("samtools", "view", "--no-PG", "-b", "-", stdin=sam_text)
    made = await process(source, "bam", sidecar="px2")
    assert bytes_of(made) == source
    assert (await process(b"not a BAM", "bam", sidecar="px2")).failure.reason is Reason.SOURCE_INVALID


async def test_positions_beyond_tbi_get_a_csi_and_a_word_about_it(process: Process, tool: Tool) -> None:
    made = await process(b"chr1\t600000000\t600000100\ta\nchr1\t5\t9\tb\n", "bed", filename="a.bed")
    with pysam.TabixFile(made.data, index=made.index) as opened:
        assert [line[-1] for line in opened.fetch("chr1", 600_000_050, 600_000_051)] == ["a"]
    assert made.produced(Kind.INDEX).filename == "a.bed.gz.csi"
    assert "Gosling" in made.notes
    header = b"@SQ\tSN:long\tLN:700000000\n"
    made = await process(header + b"r\t0\tlong\t600000000\t60\t1M\t*\t0\t0\tA\tI\n", "sam", filename="a.sam")
    with pysam.AlignmentFile(made.data, index_filename=made.index) as opened:
        assert [read.query_name for read in opened.fetch("long", 599_999_999, 600_000_000)] == ["r"]
    assert made.produced(Kind.INDEX).filename == "a.bam.csi"
    assert "Gosling" in made.notes


async def test_a_cram_never_makes_anyone_open_the_place_its_header_names(
    process: Process, tool: Tool, tmp_path: Path, sam_text: bytes
) -> None:
    reference = tmp_path / "secret.fa"
    bases = "".join(CHANCE.choice("ACGT") for _ in range(300_000))
    reference.write_text(
        "".join(
            f">{name}\n{bases[:size]}\n" for name, size in (("chr2", 200_000), ("chr1", 300_000), ("none", 5))
        )
    )
    cram = tmp_path / "x.cram"
    tool("samtools", "view", "--no-PG", "-T", str(reference), "-C", "-o", str(cram), "-", stdin=sam_text)
    (tmp_path / "secret.fa.fai").unlink()
    made = await process(cram, "cram")
    assert made.failure.reason is Reason.SOURCE_INVALID
    assert "external reference" in made.failure.detail
    # htslib writes an index beside a reference that it opens.
    assert not (tmp_path / "secret.fa.fai").exists()
    assert struct.unpack("<4s", cram.read_bytes()[:4]) == (b"CRAM",)


@pytest.mark.parametrize("ordered", [True, False])
async def test_an_index_made_with_the_bam_is_the_one_made_of_it(
    process: Process, tool: Tool, sam_text: bytes, ordered: bool
) -> None:
    order = ("sort", "-O", "bam") if ordered else ("view", "-b")
    made = await process(tool("samtools", *order, "--no-PG", "-", stdin=sam_text), "bam")
    assert not list(Path(made.data).parent.glob("data.bam.*"))
    # What comes back from the cache comes alone.
    alone = await process(bytes_of(made), "bam")
    assert alone.digests() == made.digests()
