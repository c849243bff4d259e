"""The density says of every window how many records overlap it, whichever way it was counted."""

from __future__ import annotations

import gzip
import os
import random
import re
import shutil
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pyBigWig
import pysam
import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.processing import StepInput
from gooseherd.domain.source import SourceFile
from gooseherd.processing import density as making
from gooseherd.processing.registry import ProcessorRegistry, default_registry
from gooseherd.processing.step_context import index_of_same_pass
from gooseherd.processing.tools.kernel import PROGRAM
from gooseherd.processing.tools.stages import Stage

Process = Callable[..., Awaitable[Any]]
Interval = tuple[str, int, int]

VCF_HEAD = (
    "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=9000000>\n##contig=<ID=chr2>\n"
    '##INFO=<ID=END,Number=1,Type=Integer,Description="x">\n'
    '##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="x">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n'
)


def registry_with(search_path: str, *, density: bool = True) -> ProcessorRegistry:
    return default_registry(
        sort_memory=32 << 20,
        samtools_memory=64 << 20,
        threads=2,
        level=1,
        density=density,
        search_path=search_path,
    )


@pytest.fixture(scope="module")
def plain_tools(tmp_path_factory: pytest.TempPathFactory) -> ProcessorRegistry:
    """All tools but the kernel."""
    tools = tmp_path_factory.mktemp("tools")
    for folder in reversed(os.get_exec_path()):
        for program in Path(folder).glob("*"):
            if program.name != PROGRAM:
                (tools / program.name).unlink(missing_ok=True)
                (tools / program.name).symlink_to(program)
    return registry_with(str(tools))


@pytest.fixture(scope="module")
def kernel_path(tmp_path_factory: pytest.TempPathFactory, needs: Any) -> str:
    [kernel] = needs(PROGRAM)
    folder = tmp_path_factory.mktemp("kernel")
    (folder / PROGRAM).symlink_to(kernel)
    return os.pathsep.join((str(folder), *os.get_exec_path()))


@pytest.fixture(scope="module")
def with_kernel(kernel_path: str) -> ProcessorRegistry:
    return registry_with(kernel_path)


def drawn(file_format: str, seed: int) -> bytes:
    """Records in clusters, a few of them long, in order one time in three."""
    chance = random.Random(f"{file_format} {seed}")
    places = []
    for n in range(2000):
        start = max(1, round(chance.gauss(chance.choice([20_000, 400_000, 2_000_000]), 9_000)))
        length = chance.choice([0, 1, 50, 50, 50, 2_000, 700_000 if n % 50 == 0 else 10])
        places.append((chance.choice(["chr1", "chr2"]), start, start + length))
    if seed % 3 == 0:
        places.sort()
    lines = []
    for n, (name, start, end) in enumerate(places):
        match file_format:
            case "bed":
                lines.append(f"{name}\t{start}\t{end}\titem{n}")
            case "narrowpeak":
                lines.append(f"{name}\t{start}\t{end}\tp{n}\t9\t.\t1.5\t2\t-1\t3")
            case "vcf" | "bcf":
                about = chance.choice([f"END={end}", f"SVLEN=-{end - start}", "."])
                allele = chance.choice(["<DEL>", "C", "<DUP:TANDEM>"])
                lines.append(f"{name}\t{start}\tv{n}\tACG\t{allele}\t.\tPASS\t{about}")
            case "gtf":
                about = f'gene_id "G{n}"; transcript_id "T{n}";'
                lines.append(f"{name}\ts\texon\t{start}\t{end}\t.\t+\t.\t{about}")
            case _:
                lines.append(f"{name}\ts\tgene\t{start}\t{end}\t.\t+\t.\tID=g{n}")
    head = {"gff3": "##gff-version 3\n##sequence-region chr1 1 9000000\n", "vcf": VCF_HEAD, "bcf": VCF_HEAD}
    return (head.get(file_format, "") + "\n".join(lines) + "\n").encode()


def reads(seed: int) -> str:
    chance = random.Random(seed)
    lines = ["@HD\tVN:1.6", "@SQ\tSN:chr2\tLN:3000000", "@SQ\tSN:chr1\tLN:1000000", "@SQ\tSN:none\tLN:5"]
    for n in range(3000):
        name, longest = chance.choice([("chr1", 900_000), ("chr2", 2_900_000)])
        cigar = chance.choice(["20M", "10M50000N10M", "5S15M", "10M3D10M"])
        flag = chance.choice([0, 16, 256, 1024, 2048])
        bases, start = "A" * 20, min(longest, round(chance.expovariate(1 / 200_000)) + 1)
        if n % 30 == 0:  # Unmapped, once with its mate's place and once without.
            lines.append(
                f"r{n}\t4\t{name}\t{start}\t0\t*\t*\t0\t0\t{bases}\t*"
                if n % 60
                else f"r{n}\t4\t*\t0\t0\t*\t*\t0\t0\t{bases}\t*"
            )
        else:
            lines.append(f"r{n}\t{flag}\t{name}\t{start}\t60\t{cigar}\t*\t0\t0\t{bases}\t*")
    return "\n".join(lines) + "\n"


def entry_of(file_format: str) -> SourceFile:
    result = {"dcc": "d", "local_id": "x", "filename": f"x.{file_format}", "md5": "0" * 32}
    return SourceFile.from_json({**result, "access_url": "https://example.org/x", "file_format": file_format})


def table_line(file_format: str, n: int, name: str, start: int, end: int) -> str:
    """One record on [start, end) from 0, as each of these formats writes it."""
    first = start + 1
    match file_format:
        case "gappedpeak":
            blocks = f"{end - start},\t0," if end - start > 0 else "0,\t0,"
            return f"{name}\t{start}\t{end}\tp{n}\t9\t.\t{start}\t{end}\t0\t1\t{blocks}\t1.5\t2\t-1"
        case "tagalign":
            return f"{name}\t{start}\t{end}\tN\t1000\t{'+-'[n % 2]}"
        case "interact":
            ends = f"{name}\t{start}\t{start + 1}\t.\t.\t{name}\t{end - 1}\t{end}\t.\t."
            return f"{name}\t{start}\t{end}\ti{n}\t9\t{n / 10}\tx\t0\t{ends}"
        case "seg":
            return f"s{n % 3}\t{name}\t{first}\t{end}\t{n}\t{n / 100:.2f}"
        case "interval_list":
            return f"{name}\t{first}\t{end}\t{'+-'[n % 2]}\tt{n}"
        case "macs":
            return f"{name}\t{first}\t{end}\t{end - start}\t{first}\t{n}\t1.5\t2.5\t0.5\tp{n}"
        case _:
            return f"585\t{n}\t1\t2\t3\t{name}\t{start}\t{end}\t-9\t{'+-'[n % 2]}\tr{n}\tLINE\tL1\t1\t9\t0\t1"


TABLE_HEADS = {
    "seg": "ID\tchrom\tloc.start\tloc.end\tnum.mark\tseg.mean\n",
    "interval_list": "@HD\tVN:1.6\n@SQ\tSN:chr1\tLN:9000000\n@SQ\tSN:chr2\tLN:9000000\n",
    "macs": (
        "# This file is generated by MACS\n\nchr\tstart\tend\tlength\tabs_summit\tpileup\t-log10(pvalue)\t"
        "fold_enrichment\t-log10(qvalue)\tname\n"
    ),
}


# --- brute force ---


def intervals(data: str, file_format: str) -> Iterator[Interval]:
    """Where the records of finished data lie, by a reader that shares nothing with what made them."""
    if file_format == "bam":
        with pysam.AlignmentFile(data) as opened:
            for read in opened.fetch(until_eof=True):
                if not read.is_unmapped:
                    assert read.reference_name is not None
                    assert read.reference_end is not None
                    yield read.reference_name, read.reference_start, read.reference_end
        return
    with gzip.open(data, "rt") as text:
        for line in text:
            fields = line.rstrip("\n").split("\t")
            if line.startswith("#"):
                continue
            if file_format == "vcf":
                begin = int(fields[1]) - 1
                end = begin + len(fields[3])
                if found := re.search(r"(?:^|;)END=(\d+)", fields[7]):
                    end = max(end, int(found[1]))
                if fields[4].startswith("<") and (found := re.search(r"SVLEN=-?(\d+)", fields[7])):
                    end = max(end, begin + 1 + int(found[1]))
            elif file_format == "gff3":
                begin, end = int(fields[3]) - 1, int(fields[4])
            else:
                begin, end = int(fields[1]), int(fields[2])
            yield fields[0], begin, max(end, begin + 1)


def counted(data: str, file_format: str, window: int) -> Counter[tuple[str, int]]:
    found: Counter[tuple[str, int]] = Counter()
    for name, begin, end in intervals(data, file_format):
        found.update((name, at) for at in range(begin // window, (end - 1) // window + 1))
    return found


def shown(path: Path, window: int) -> dict[tuple[str, int], int]:
    """What a reader of bigWigs sees in every window of every sequence; zeros left out."""
    found = {}
    with pyBigWig.open(str(path)) as opened:
        for name, length in opened.chroms().items():
            covered = 0
            for begin, end, value in opened.intervals(name):
                assert begin == covered
                covered = end
                if value:
                    found.update({(name, at): value for at in range(begin // window, -(-end // window))})
            assert covered == length
    return found


# --- tests ---


@pytest.mark.parametrize(
    ("file_format", "seed", "becomes"),
    [
        ("bed", 0, "bed"),
        ("bed", 1, "bed"),
        ("narrowpeak", 2, "bed"),
        ("gff3", 1, "gff3"),
        ("gtf", 1, "gff3"),
        ("vcf", 0, "vcf"),
        ("vcf", 1, "vcf"),
        ("bcf", 2, "vcf"),
    ],
)
async def test_every_window_of_text_has_its_number_both_ways(
    process: Process,
    with_kernel: ProcessorRegistry,
    plain_tools: ProcessorRegistry,
    tool: Callable[..., bytes],
    file_format: str,
    seed: int,
    becomes: str,
) -> None:
    source = drawn(file_format, seed)
    if file_format == "bcf":
        source = tool("bcftools", "view", "-Ob", "--no-version", stdin=source)
    elif seed == 0:
        source = tool("bgzip", "-c", stdin=source)
    made = [await process(source, file_format, using=using) for using in (with_kernel, plain_tools)]
    files = [each.produced(Kind.DENSITY) for each in made]
    assert files[0].path.read_bytes() == files[1].path.read_bytes()
    window = made[0].counts["density_window"]
    assert window == 1024
    assert shown(files[0].path, window) == counted(made[0].data, becomes, window)
    assert "densit" not in made[0].notes + made[1].notes


@pytest.mark.parametrize(
    "file_format", ["gappedpeak", "tagalign", "interact", "seg", "interval_list", "macs", "ucsc_table"]
)
async def test_every_window_of_a_table_has_the_number_of_the_places_it_was_written_of(
    process: Process, with_kernel: ProcessorRegistry, plain_tools: ProcessorRegistry, file_format: str
) -> None:
    """Counted from the places themselves, so a column taken for another or a base lost would show."""
    chance = random.Random(file_format)
    places = []
    for n in range(1500):
        # Ends on the edges of windows show a base too many or too few.
        start = 1024 * chance.randrange(40) + chance.choice([0, 1, 1022, 1023])
        length = chance.choice([1, 2, 1024, 1025, 60_000 if n % 40 == 0 else 3])
        places.append((chance.choice(["chr1", "chr2"]), start, start + length))
    lines = [table_line(file_format, n, *place) for n, place in enumerate(places)]
    source = (TABLE_HEADS.get(file_format, "") + "\n".join(lines) + "\n").encode()
    expected: Counter[tuple[str, int]] = Counter()
    for name, begin, end in places:
        expected.update((name, at) for at in range(begin // 1024, (end - 1) // 1024 + 1))
    files = []
    for using in (with_kernel, plain_tools):
        made = await process(source, file_format, using=using)
        assert made.failure is None, made.failure
        assert made.counts["density_window"] == 1024
        files.append(made.produced(Kind.DENSITY).path)
        assert shown(files[-1], 1024) == expected
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("order", ["unsorted", "sorted", "sam", "cram"])
async def test_every_window_of_reads_has_its_number_both_ways(
    process: Process,
    with_kernel: ProcessorRegistry,
    plain_tools: ProcessorRegistry,
    tool: Callable[..., bytes],
    order: str,
) -> None:
    source = reads(5).encode()
    if order != "sam":
        verb = ("sort",) if order == "sorted" else ("view",)
        packing = ("-O", "cram,no_ref=1") if order == "cram" else ("-O", "bam")
        source = tool("samtools", *verb, "--no-PG", *packing, "-", stdin=source)
    file_format = order if order in ("sam", "cram") else "bam"
    made = [await process(source, file_format, using=using) for using in (with_kernel, plain_tools)]
    assert made[0].failure is None, made[0].failure
    assert made[0].digests() == made[1].digests()
    window = made[0].counts["density_window"]
    assert shown(made[0].produced(Kind.DENSITY).path, window) == counted(made[0].data, "bam", window)


@pytest.mark.parametrize("file_format", ["bed", "vcf", "bam"])
async def test_without_it_data_and_index_are_the_same_bytes(
    process: Process,
    with_kernel: ProcessorRegistry,
    kernel_path: str,
    tool: Callable[..., bytes],
    file_format: str,
) -> None:
    source = (
        tool("samtools", "sort", "-O", "bam", "-", stdin=reads(1).encode())
        if file_format == "bam"
        else drawn(file_format, 1)
    )
    on = await process(source, file_format, using=with_kernel)
    off = await process(source, file_format, using=registry_with(kernel_path, density=False))
    assert on.digests()[:2] == off.digests()
    assert [p.kind for output in off.outputs for p in output.files] == [Kind.DATA, Kind.INDEX]
    assert len(on.digests()) == 3


@pytest.mark.parametrize("file_format", ["bed", "vcf", "gff3", "bam"])
async def test_an_attempt_that_finds_only_the_data_counts_them_again(
    process: Process,
    with_kernel: ProcessorRegistry,
    tool: Callable[..., bytes],
    tmp_path: Path,
    file_format: str,
) -> None:
    source = (
        tool("samtools", "sort", "-O", "bam", "-", stdin=reads(2).encode())
        if file_format == "bam"
        else drawn(file_format, 1)
    )
    made = await process(source, file_format, using=with_kernel)
    entry = entry_of(file_format)
    step = with_kernel.processor(with_kernel.recipe(entry)).steps(entry.file_format)[-1]
    (tmp_path / "again").mkdir()
    shutil.copy(made.data, tmp_path / "alone")
    given = StepInput(entry, tmp_path / "alone", tmp_path / "again", lambda *_: None, 1 << 30)
    output = await step.run(given)
    assert output.notes == ()
    assert output.files[0].path.read_bytes() == made.produced(Kind.DENSITY).path.read_bytes()


@pytest.mark.parametrize(
    ("file_format", "source"),
    [
        ("vcf", VCF_HEAD.encode()),
        ("bed", b"track x\n"),
        ("gff3", b"##gff-version 3\n"),
        ("sam", b"@SQ\tSN:a\tLN:9\n"),
        ("sam", b"@SQ\tSN:a\tLN:9\nr\t4\t*\t0\t0\t*\t*\t0\t0\tA\tI\n"),
    ],
    ids=["vcf", "bed", "gff3", "sam", "unmapped reads"],
)
async def test_where_nothing_lies_anywhere_it_is_empty(
    process: Process,
    with_kernel: ProcessorRegistry,
    plain_tools: ProcessorRegistry,
    file_format: str,
    source: bytes,
) -> None:
    made = [await process(source, file_format, using=using) for using in (with_kernel, plain_tools)]
    assert [each.failure for each in made] == [None, None]
    assert made[0].digests() == made[1].digests()
    assert len(made[0].digests()) == 3
    assert "densit" not in made[0].notes
    with pyBigWig.open(str(made[0].produced(Kind.DENSITY).path)) as opened:
        assert opened.isBigWig()
        assert opened.chroms() == {}


async def test_records_as_long_as_sequences_can_be(process: Process, with_kernel: ProcessorRegistry) -> None:
    end = 2**31 - 1
    lines = [
        f"chr1\t0\t{end}\ta",
        f"chr1\t5\t{end - 9}\tb",
        "chr2\t7\t7\tc",
        f"chr3\t{2**29 + 5}\t{2**29 + 6}\td",
    ]
    made = await process(("\n".join(lines) + "\n").encode(), "bed", using=with_kernel)
    with pyBigWig.open(str(made.produced(Kind.DENSITY).path)) as opened:
        assert opened.chroms() == {"chr1": end, "chr2": 8, "chr3": 2**29 + 6}
        assert opened.intervals("chr1") == ((0, end, 2.0),)
        assert opened.intervals("chr2") == ((0, 8, 1.0),)
        edge = 2**29
        assert opened.intervals("chr3") == ((0, edge, 0.0), (edge, edge + 6, 1.0))
        assert opened.stats("chr3", 0, edge + 6, type="max") == [1.0]


async def test_a_header_may_be_wrong_about_how_long_sequences_are(
    process: Process, with_kernel: ProcessorRegistry
) -> None:
    head = VCF_HEAD.replace("9000000", "10")
    made = await process((head + "chr1\t5000\t.\tA\tC\t.\t.\t.\n").encode(), "vcf", using=with_kernel)
    with pyBigWig.open(str(made.produced(Kind.DENSITY).path)) as opened:
        assert opened.chroms() == {"chr1": 5000}


@pytest.mark.parametrize("fault", ["no table", "cut", "full", "odd names"])
async def test_what_goes_wrong_with_it_is_a_note_and_nothing_else(
    process: Process,
    plain_tools: ProcessorRegistry,
    with_kernel: ProcessorRegistry,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    source, using = drawn("bed", 1), with_kernel
    match fault:
        case "no table":
            monkeypatch.setattr(making, "program_stage", lambda *_: Stage("count_records", ("false",)))
            using = plain_tools
        case "cut":
            found = index_of_same_pass

            def cut(*given: Any) -> Path | None:
                table = found(*given)
                assert table is not None
                table.write_bytes(table.read_bytes()[:-1])
                return table

            monkeypatch.setattr(making, "index_of_same_pass", cut)
        case "full":

            def full(*_: object) -> None:
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(making, "write_bigwig", full)
        case "odd names":
            source = b"chr\xe9\t1\t2\n"
    made = await process(source, "bed", using=using)
    assert made.failure is None
    assert [p.kind for output in made.outputs for p in output.files] == [Kind.DATA, Kind.INDEX]
    assert "there is no density" in made.notes
    assert str(Path.home()) not in made.notes


async def test_reads_that_all_lack_a_place_have_an_empty_one(
    process: Process, with_kernel: ProcessorRegistry, tool: Callable[..., bytes]
) -> None:
    text = b"@HD\tVN:1.6\n@SQ\tSN:chr1\tLN:100\nr\t4\t*\t0\t0\t*\t*\t0\t0\tACGT\t*\n"
    made = await process(tool("samtools", "view", "-b", "-", stdin=text), "bam", using=with_kernel)
    assert made.failure is None
    with pyBigWig.open(str(made.produced(Kind.DENSITY).path)) as opened:
        assert opened.chroms() == {}


async def test_the_index_of_a_long_bam_is_what_samtools_makes(
    process: Process, with_kernel: ProcessorRegistry, tool: Callable[..., bytes], tmp_path: Path
) -> None:
    text = b"@HD\tVN:1.6\n@SQ\tSN:chr1\tLN:%d\n" % (2**30) + b"".join(
        b"r%d\t0\tchr1\t%d\t9\t4M\t*\t0\t0\tACGT\t*\n" % (n, n * 2**20 + 1) for n in range(1000)
    )
    made = await process(tool("samtools", "sort", "-O", "bam", "-", stdin=text), "bam", using=with_kernel)
    tool("samtools", "index", "-c", "-@", "2", made.data, str(tmp_path / "theirs"))
    ours, theirs = (tool("bgzip", "-dc", name) for name in (made.index, str(tmp_path / "theirs")))
    assert struct.unpack_from("<4sii", ours) == (b"CSI\1", 14, 6)
    assert ours == theirs
