"""The kernel and the sort pipeline are one processor: both give the same bytes, notes, counts, refusals."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from gooseherd.domain.artifact import Kind
from gooseherd.domain.bgzf import END_MARKER
from gooseherd.domain.failures import Reason
from gooseherd.processing.registry import ProcessorRegistry, default_registry
from gooseherd.processing.tools.kernel import PROGRAM

Process = Callable[..., Awaitable[Any]]

FILES, ODD_FILES = 9, 6
HEAD = (
    "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=9000000>\n##contig=<ID=chr10>\n##contig=<ID=chr2>\n"
    '##INFO=<ID=END,Number=1,Type=Integer,Description="x">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n'
)


def registry_with(search_path: str, level: int = 1) -> ProcessorRegistry:
    return default_registry(
        sort_memory=32 << 20, samtools_memory=64 << 20, threads=2, level=level, search_path=search_path
    )


@pytest.fixture(scope="module")
def plain_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All tools but the kernel."""
    tools = tmp_path_factory.mktemp("tools")
    for folder in reversed(os.get_exec_path()):
        for program in Path(folder).glob("*"):
            if program.name != PROGRAM:
                (tools / program.name).unlink(missing_ok=True)
                (tools / program.name).symlink_to(program)
    return str(tools)


@pytest.fixture(scope="module")
def plain_tools(plain_path: str) -> ProcessorRegistry:
    return registry_with(plain_path)


@pytest.fixture(scope="module")
def kernel_path(tmp_path_factory: pytest.TempPathFactory, needs: Any) -> str:
    [kernel] = needs(PROGRAM)
    folder = tmp_path_factory.mktemp("kernel")
    (folder / PROGRAM).symlink_to(kernel)
    return os.pathsep.join((str(folder), *os.get_exec_path()))


@pytest.fixture(scope="module")
def with_kernel(kernel_path: str) -> ProcessorRegistry:
    return registry_with(kernel_path)


def drawn(file_format: str, seed: int, count: int = 3000) -> bytes:
    """A file with ties, odd lines and, one time in three, in order already."""
    chance = random.Random(f"{file_format} {seed}")
    places = [(chance.choice(["chr1", "chr10", "chr2"]), chance.randint(1, 200) * 997) for _ in range(count)]
    match seed % 3:
        case 0:
            places.sort(key=lambda place: (place[0].encode(), place[1]))
        case 1:
            places.sort(key=lambda place: (int(place[0][3:]), place[1]))
    lines = []
    for n, (name, start) in enumerate(places):
        end = start + chance.randint(0, 20_000)
        about = f'gene_id "G{n // 4}"; transcript_id "T{n // 2}";' if file_format == "gtf" else f"ID=g{n}"
        lines.append(
            {
                "bed": f"{name}\t{start}\t{end}\titem{n}",
                "narrowpeak": f"{name}\t{start}\t{end}\tp{n}\t9\t.\t1.5\t2\t-1\t3",
                "broadpeak": f"{name}\t{start}\t{end}\tp{n}\t9\t.\t1.5\t2\t-1",
                "vcf": f"{name}\t{start}\tv{n}\tA\t<DEL>\t.\tPASS\tEND={end}",
                "bcf": f"{name}\t{start}\tv{n}\tA\t<DEL>\t.\tPASS\tEND={end}",
            }.get(file_format, f"{name}\ta b\texon\t{start}\t{end}\t.\t+\t.\t{about}")
        )
    if file_format == "gtf" and seed % 3 == 2:
        lines += [line.replace("\texon\t", "\tgene\t") for line in lines[::3]]
    if file_format != "bcf" and seed < ODD_FILES:
        odd = ["", "track name=x", "# remark", "#x\r"] + (["###"] if file_format.startswith("gff") else [])
        for line in odd:
            lines.insert(chance.randint(0, count), line)
        lines = [line + "\r" * (chance.random() < 0.01) for line in lines]
    head = HEAD if file_format in ("vcf", "bcf") else "##gff-version 3\n" if "gff" in file_format else ""
    return (head + "\n".join(lines) + "\n").encode()


def packed_in_turn(data: bytes, seed: int, tool: Callable[..., bytes]) -> bytes:
    match seed % 5:
        case 0:
            return data
        case 4:
            return zstd.compress(data[: len(data) // 2]) + zstd.compress(data[len(data) // 2 :])
        case 1:
            return gzip.compress(data)
        case 2:
            return tool("bgzip", "-c", stdin=data)
        case _:
            return gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])


def text_of(made: Any) -> bytes:
    return gzip.decompress(Path(made.data).read_bytes())


def same(one: Any, other: Any) -> None:
    assert one.failure == other.failure is None, (one.failure, other.failure)
    assert Path(one.data).read_bytes() == Path(other.data).read_bytes()
    assert Path(one.index).read_bytes() == Path(other.index).read_bytes()
    assert one.produced(Kind.INDEX).filename == other.produced(Kind.INDEX).filename
    assert (one.notes, one.counts) == (other.notes, other.counts)
    assert one.outputs[0].contigs == other.outputs[0].contigs
    assert PROGRAM in one.outputs[0].tools
    assert PROGRAM not in other.outputs[0].tools


@pytest.mark.parametrize(
    "file_format", ["bed", "narrowpeak", "broadpeak", "gff", "gff3", "vcf", "gtf", "bcf", "bigbed"]
)
async def test_both_ways_make_the_same_artifact(
    process: Process,
    tool: Any,
    bigbed: Any,
    file_format: str,
    with_kernel: ProcessorRegistry,
    plain_tools: ProcessorRegistry,
) -> None:
    for seed in range(1 if file_format == "bigbed" else FILES):
        if file_format == "bigbed":
            source = bigbed([(f"chr{n % 3}", n * 7 % 9000, n * 7 % 9000 + 50, f"n{n}") for n in range(3000)])
        elif file_format == "bcf":
            source = tool("bcftools", "view", "--no-version", "-Ob", stdin=drawn("bcf", seed))
            source = zstd.compress(source) if seed % 3 else source
        else:
            source = packed_in_turn(drawn(file_format, seed), seed, tool)
        one = await process(source, file_format, using=with_kernel)
        other = await process(source, file_format, using=plain_tools)
        same(one, other)


WIDE = "chr1\t9\t.\tA\tC\t.\t.\t.\t\n"
ODD = [
    ("vcf", HEAD.encode()),
    ("vcf", b"##fileformat=VCFv4.2\n"),
    ("bed", b"# none\n"),
    ("bed", b"track x\n"),
    ("gff3", b"##gff-version 3\n"),
    ("gtf", b"# none\n"),
    ("vcf", (HEAD + WIDE + WIDE).encode()),
    ("vcf", (HEAD + WIDE + WIDE.replace("9", "5")).encode()),
    ("bed", b'"chr"\t"Start"\t"End"\nchr1\t5\t9\nchr1 7 9 x\nchr1\t3\t4 y\n'),
    ("narrowpeak", b"chr start end\nchr1\t5\t9\tn\t0\t.\t1\t2\t3\n"),
]


@pytest.mark.parametrize(("file_format", "source"), ODD, ids=[f"{n} {row[0]}" for n, row in enumerate(ODD)])
async def test_both_ways_make_the_same_of_odd_files(
    process: Process,
    tool: Any,
    file_format: str,
    source: bytes,
    with_kernel: ProcessorRegistry,
    plain_tools: ProcessorRegistry,
) -> None:
    for packed in (source, tool("bgzip", "-c", stdin=source)):
        one = await process(packed, file_format, using=with_kernel)
        same(one, await process(packed, file_format, using=plain_tools))


BAD = b"chr1\t9\t12\ta\nchr1\tx\t3\nchr1 5 6 7\nchr1\t7\nchr1\t8\t2\n\t1\t2\nchr1\t3\t4\tb\n"


@pytest.fixture
def skipping(kernel_path: str, plain_path: str) -> list[ProcessorRegistry]:
    """With the kernel and without."""
    return [
        default_registry(
            sort_memory=32 << 20,
            samtools_memory=64 << 20,
            threads=2,
            level=1,
            skip_bad_lines=True,
            search_path=path,
        )
        for path in (kernel_path, plain_path)
    ]


@pytest.mark.parametrize("pack", [False, True], ids=["plain", "blocks"])
async def test_bad_lines_can_be_left_out_and_are_named(
    process: Process, tool: Any, skipping: list[ProcessorRegistry], pack: bool
) -> None:
    source = tool("bgzip", "-c", stdin=BAD) if pack else BAD
    one, other = [await process(source, "bed", using=using) for using in skipping]
    same(one, other)
    assert text_of(one) == b"chr1\t3\t4\tb\nchr1\t5\t6\t7\nchr1\t9\t12\ta\n"
    assert one.counts == {"records": 3, "max_end": 12, "bad_lines": 4, "spaced_lines": 1}
    left_out = "4 lines that make no records were left out: 2, 4, 5, 6 (line 2: column 2 is 'x', which is"
    assert left_out in one.notes


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([b"chr1\t1\t2"] + [b"chr1\tx\t2"] * 100, None),
        (
            [b"chr1\t1\t2"] + [b"chr1\tx\t2"] * 101,
            "more than 100 lines are no records, the first of them line 2: ",
        ),
        ([b"chr1\tx\t2", b"chr1\ty\t2"], "line 1: column 2 is 'x'"),
        ([b"chr1\t1\t2", b"\0"], "line 2: a NUL byte"),
    ],
    ids=["as many as may be", "too many", "nothing else", "no text"],
)
async def test_left_out_are_few_lines_and_of_text_only(
    process: Process, skipping: list[ProcessorRegistry], lines: list[bytes], words: str | None
) -> None:
    for using in skipping:
        made = await process(b"\n".join(lines), "bed", using=using)
        if words is None:
            assert made.counts["bad_lines"] == 100
        else:
            assert words in made.failure.detail


async def test_without_bad_lines_the_bytes_are_the_same(
    process: Process, with_kernel: ProcessorRegistry, skipping: list[ProcessorRegistry]
) -> None:
    source = drawn("vcf", 1)
    made = [await process(source, "vcf", using=using) for using in (with_kernel, *skipping)]
    assert made[0].digests() == made[1].digests() == made[2].digests()


REFUSALS: list[tuple[str, Callable[[Callable[..., bytes]], bytes]]] = [
    ("cut between blocks", lambda pack: pack(drawn("bed", 1)[:-2]).removesuffix(END_MARKER)),
    ("cut in a block", lambda pack: pack(drawn("bed", 1))[:-60]),
    ("other bytes behind", lambda pack: pack(b"c\t1\t2\n") + b"more"),
    ("many bytes behind", lambda pack: pack(b"c\t1\t2\n") + b"more" * 50),
    ("nothing", lambda pack: pack(b"")),
    ("no positions", lambda _: b"c 1 2\nc x y\n"),
]


@pytest.mark.parametrize("source", [row[1] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
async def test_both_ways_refuse_odd_blocks_in_the_same_words(
    process: Process,
    tool: Any,
    source: Callable[[Callable[..., bytes]], bytes],
    with_kernel: ProcessorRegistry,
    plain_tools: ProcessorRegistry,
) -> None:
    given = source(lambda text: tool("bgzip", "-c", stdin=text))
    one, other = [await process(given, "bed", using=using) for using in (with_kernel, plain_tools)]
    assert one.failure is not None
    assert one.failure == other.failure


def reads_of(tool: Callable[..., bytes], packing: str, seed: int) -> bytes:
    """Reads in no order, many at the same place."""
    chance = random.Random(seed)
    lines = ["@HD\tVN:1.6", "@SQ\tSN:b\tLN:90000", f"@SQ\tSN:a\tLN:{700_000_000 if seed else 9000}"]
    for n in range(6000):
        place = f"{chance.choice('aab')}\t{chance.randint(0, 800) * 10}"
        flag, bases = chance.choice([0, 4, 16, 256]), chance.choice([4, 9, 151])
        sequence = "".join(chance.choices("ACGT", k=bases))
        lines.append(f"r{n}\t{flag}\t{place}\t9\t1S{bases - 1}M\t*\t0\t0\t{sequence}\t{'I' * bases}")
    lines += [f"u{n}\t4\t*\t0\t0\t*\t*\t0\t0\tACGT\tIIII" for n in range(9)]
    text = ("\n".join(lines) + "\n").encode()
    match packing:
        case "sam":
            return text
        case "bam":
            return tool("samtools", "view", "--no-PG", "-b", "-", stdin=text)
        case "bam in gzip":
            return gzip.compress(gzip.decompress(tool("samtools", "view", "--no-PG", "-b", "-", stdin=text)))
        case _:
            options = ("-C", "--output-fmt-option", "no_ref=1")
            return tool("samtools", "view", "--no-PG", *options, "-", stdin=text)


@pytest.mark.parametrize("packing", ["sam", "bam", "bam in gzip", "cram"])
@pytest.mark.parametrize("seed", [0, 1])
async def test_reads_that_had_to_be_sorted_are_the_same_too(
    process: Process,
    tool: Any,
    packing: str,
    seed: int,
    with_kernel: ProcessorRegistry,
    plain_tools: ProcessorRegistry,
) -> None:
    source, file_format = reads_of(tool, packing, seed), packing[:4].strip()
    one = await process(source, file_format, using=with_kernel)
    same(one, await process(source, file_format, using=plain_tools))
    assert one.index.endswith(".csi" if seed else ".bai")


@pytest.mark.parametrize("file_format", ["sam", "bam", "cram"])
async def test_a_header_without_reads_is_the_same_too(
    process: Process,
    tool: Any,
    file_format: str,
    with_kernel: ProcessorRegistry,
    plain_tools: ProcessorRegistry,
) -> None:
    source = b"@HD\tVN:1.6\n@SQ\tSN:b\tLN:90000\n"
    if file_format != "sam":
        source = tool("samtools", "view", "--no-PG", "-O", file_format, "-", stdin=source)
    one, other = [await process(source, file_format, using=using) for using in (with_kernel, plain_tools)]
    assert (one.failure, other.failure) == (None, None)
    assert one.digests() == other.digests()


async def test_reads_are_the_same_whatever_number_of_threads_there_is(
    process: Process, tool: Any, kernel_path: str
) -> None:
    source = reads_of(tool, "bam", 0)
    made = []
    for threads in (1, 2, 5):
        using = default_registry(
            sort_memory=32 << 20,
            samtools_memory=64 << 20,
            threads=threads,
            density=True,
            search_path=kernel_path,
        )
        made.append((await process(source, "bam", using=using)).digests())
    assert made[0] == made[1] == made[2]
    assert len(made[0]) == 3


@pytest.mark.parametrize("file_format", ["bed", "bam"])
async def test_a_worker_without_the_kernel_refuses_the_level_that_only_the_kernel_has(
    file_format: str, process: Process, tool: Any, plain_path: str
) -> None:
    source = drawn("bed", 0) if file_format == "bed" else reads_of(tool, "bam", 0)
    made = await process(source, file_format, using=registry_with(plain_path, level=0))
    assert made.failure.reason is Reason.MISCONFIGURED
    assert "WORKFLOW_COMPRESSION_LEVEL=1" in made.failure.detail


async def test_a_bam_that_stays_as_it_is_needs_no_level(process: Process, tool: Any, plain_path: str) -> None:
    source = tool("samtools", "sort", "-O", "bam", stdin=reads_of(tool, "bam", 0))
    made = await process(source, "bam", using=registry_with(plain_path, level=0))
    assert made.digests()[0] == hashlib.sha256(source).hexdigest()


async def test_contigs_that_a_vcf_does_not_declare_are_declared_alike(
    process: Process, tool: Any, with_kernel: ProcessorRegistry, plain_tools: ProcessorRegistry
) -> None:
    for seed, dropped in enumerate(("##contig=<ID=chr10>\n", "##contig=<ID=chr2>\n", "##contig")):
        text = drawn("vcf", ODD_FILES + seed).decode()
        lines = [line for line in text.splitlines(keepends=True) if not line.startswith(dropped)]
        source = packed_in_turn("".join(lines).encode(), seed, tool)
        one = await process(source, "vcf", using=with_kernel)
        same(one, await process(source, "vcf", using=plain_tools))
        made = text_of(one).decode()
        assert one.counts["added_header_lines"] == made.count("##contig") - "".join(lines).count("##contig")
        assert {f"##contig=<ID={name}" in made for name in ("chr1", "chr10", "chr2")} == {True}
        for reader in (("bcftools", "view", "-Ob"), ("bcftools", "sort", "-Ob")):
            tool(*reader, stdin=text_of(one))


async def test_a_header_of_many_blocks_is_cut_alike(
    process: Process, with_kernel: ProcessorRegistry, plain_tools: ProcessorRegistry
) -> None:
    source = b"".join(b"# %d %s\n" % (n, b"x" * n) for n in range(700)) + drawn("bed", 2)
    same(await process(source, "bed", using=with_kernel), await process(source, "bed", using=plain_tools))


async def test_positions_beyond_tbi_get_the_same_csi(
    process: Process, with_kernel: ProcessorRegistry, plain_tools: ProcessorRegistry
) -> None:
    source = drawn("bed", 2) + b"chr1\t600000000\t600000100\ta\n"
    one = await process(source, "bed", using=with_kernel)
    other = await process(source, "bed", using=plain_tools)
    assert one.produced(Kind.INDEX).filename.endswith(".csi")
    assert one.digests()[0] == other.digests()[0]
    assert "Gosling" in one.notes
    assert one.notes == other.notes


@pytest.mark.parametrize("file_format", ["bed", "narrowpeak", "gff3", "vcf"])
async def test_what_is_ready_keeps_its_bytes(
    process: Process,
    tool: Any,
    file_format: str,
    with_kernel: ProcessorRegistry,
    plain_tools: ProcessorRegistry,
) -> None:
    for seed in (6, 7):
        text = drawn(file_format, seed)
        cut = len(text) // 3
        source = tool("bgzip", "-c", stdin=text[:cut])[:-28] + tool("bgzip", "-c", "-l9", stdin=text[cut:])
        one = await process(source, file_format, using=with_kernel)
        other = await process(source, file_format, using=plain_tools)
        same(one, other)
        assert one.digests()[0] == hashlib.sha256(source).hexdigest()
        assert "own bytes" in one.notes
        # The same lines in other blocks, or with anything to put right, are packed anew and keep their order.
        for again in (text, gzip.compress(text), source[:-28], tool("bgzip", "-c", stdin=text + b"\n")):
            one = await process(again, file_format, using=with_kernel)
            other = await process(again, file_format, using=plain_tools)
            same(one, other)
            assert text_of(one) == text
            assert "own bytes" not in one.notes


async def test_parents_that_are_missing_stand_before_their_parts(
    process: Process, with_kernel: ProcessorRegistry, plain_tools: ProcessorRegistry
) -> None:
    source = b"".join(
        b'chr%d\tx\texon\t%d\t%d\t.\t-\t.\tgene_id "g%d"; transcript_id "t%d"; gene_name "n";\n'
        % (name, start, start + 150, start // 400, start // 200)
        for name in (2, 10, 1)
        for start in range(100, 4000, 100)
    )
    for text in (source, b"\n".join(reversed(source.splitlines())) + b"\n"):
        one = await process(text, "gtf", using=with_kernel)
        same(one, await process(text, "gtf", using=plain_tools))
        lines = text_of(one).decode().splitlines()[1:]
        seen: set[str] = set()
        for line in lines:
            about = dict(item.split("=") for item in line.split("\t")[8].split(";"))
            assert (
                (line.split("\t")[0] + about["Parent"] in seen) if "Parent" in about else "\tgene\t" in line
            )
            seen.add(line.split("\t")[0] + about.get("ID", ""))
        assert one.counts["added_genes"] == 30
        assert one.counts["added_transcripts"] == 60


@pytest.mark.parametrize(
    ("source", "file_format"),
    [
        (b"chr1\t1\t2\n\nchr1\t7\n", "bed"),
        (b"chr1\t1\t2\nchr1\t9\t2\n", "bed"),
        (b"chr1\t-5\t2\n", "bed"),
        (b"chr1\t1.5\t2\n", "bed"),
        (b"", "bed"),
        (b"\n", "vcf"),
        (b"#x\n", "vcf"),
        (b"chr1\t5\t.\tA\tC\t.\t.\t.\n", "vcf"),
        (HEAD.encode() + b"chr1\t5\t.\tA\tC\t.\t.\n", "vcf"),
        (b"chr1\ts\tgene\t0\t60\t.\t+\t.\tID=a\n", "gff3"),
        (b"chr1\ts\tgene\t1\t60\t.\t+\t.\n", "gff3"),
        (b"chr1\t1\t2\tx\t0\t.\t1\t1\n", "narrowpeak"),
        (b"chr1\ts\tgene\t1\t60\t.\t+\t.\tname x\n", "gtf"),
        (gzip.compress(b"chr1\t1\t2\n" * 5000)[:-9], "bed"),
        (gzip.compress(b"chr1\t1\t2\n" * 5000) + b"rest", "bed"),
        (zstd.compress(b"chr1\t1\t2\n" * 5000)[:-9], "bed"),
        (zstd.compress(b"chr1\t1\t2\n" * 5000) + b"rest", "bed"),
        (zstd.compress(b"chr1\t1\t2\n") + b"\x28\xb5\x2f\xfd\x00\xf8", "bed"),
        (b"chr1\t1\t2\t" + b"x" * (17 << 20) + b"\n", "bed"),
        (b"chr1\t1\t2\nchr1\t5\0\t9\n", "bed"),
    ],
)
async def test_both_ways_refuse_in_the_same_words(
    process: Process,
    source: bytes,
    file_format: str,
    with_kernel: ProcessorRegistry,
    plain_tools: ProcessorRegistry,
) -> None:
    one = await process(source, file_format, using=with_kernel)
    other = await process(source, file_format, using=plain_tools)
    assert one.failure == other.failure
    assert one.failure.reason is Reason.SOURCE_INVALID
    assert not {"data.bed.gz", "index"} & set(one.work)


async def test_a_packing_that_the_kernel_does_not_read_is_unpacked_for_it(
    process: Process, with_kernel: ProcessorRegistry, plain_tools: ProcessorRegistry
) -> None:
    source = drawn("bed", 2)
    made = await process(bz2.compress(source), "bed", using=with_kernel)
    assert PROGRAM in made.outputs[0].tools
    for other in (bz2.compress(source), source):
        assert made.digests() == (await process(other, "bed", using=plain_tools)).digests()


async def test_an_index_is_made_anew_when_the_data_comes_back_alone(
    process: Process, with_kernel: ProcessorRegistry
) -> None:
    made = await process(drawn("vcf", 2), "vcf", using=with_kernel)
    assert not made.outputs[1].tools
    again = await process(Path(made.data), "vcf", using=with_kernel)
    assert again.digests() == made.digests()


async def test_a_bomb_of_tiny_lines_is_refused_at_its_ratio(
    process: Process, with_kernel: ProcessorRegistry, plain_tools: ProcessorRegistry
) -> None:
    member = gzip.compress(b"chr1\t1\t2\n" * 1_000_000, 9)
    for using in (with_kernel, plain_tools):
        made = await process(member * 30, "bed", using=using)
        assert made.failure.reason is Reason.SOURCE_INVALID
        assert "expands to more than 250 times its" in made.failure.detail
