"""An index that upstream publishes is served only if it fits its data; else another one is made, and told."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pysam
import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.bgzf import END_MARKER

Process = Callable[..., Awaitable[Any]]
Tool = Callable[..., bytes]


@dataclass(frozen=True)
class Pair:
    """A file and the index beside it."""

    data: bytes
    index: bytes


@functools.cache
def bed(name: str = "chr1", count: int = 30_000) -> bytes:
    draw = random.Random(name)
    return b"".join(
        b"%b\t%d\t%d\tx%d\n" % (name.encode(), at, at + 9, draw.randrange(10**9)) for at in range(count)
    )


@functools.cache
def vcf(count: int = 9000) -> bytes:
    head = b"##fileformat=VCFv4.2\n##contig=<ID=c1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    return head + b"".join(
        b"c1\t%d\t.\tA\tC\t.\t.\tX=%d\n" % (at, at * 7919 % 99991) for at in range(1, count)
    )


@functools.cache
def sam(count: int = 9000, names: str = "c1 c2") -> bytes:
    head = "@HD\tVN:1.6\tSO:coordinate\n" + "".join(f"@SQ\tSN:{name}\tLN:100000\n" for name in names.split())
    reads = "".join(
        f"r{n * 7919 % 99991}\t0\tc1\t{n * 9 + 1}\t60\t4M\t*\t0\t0\tACGT\tFFFF\n" for n in range(count)
    )
    return (head + reads + "u\t4\t*\t0\t0\t*\t*\t0\t0\tACGT\tFFFF\n").encode()


@pytest.fixture
def pair(tmp_path: Path, tool: Tool) -> Callable[[bytes, str], Pair]:
    """A file, block-compressed, with an index of a kind, by htslib."""
    made = 0

    def make(text: bytes, kind: str) -> Pair:
        nonlocal made
        made += 1
        path = tmp_path / f"upstream{made}"
        if text.startswith(b"@"):
            path.write_bytes(tool("samtools", "view", "--no-PG", "-b", "-", stdin=text))
            tool("samtools", "index", *(("-c",) if kind == "csi" else ()), str(path))
        else:
            path.write_bytes(tool("bgzip", "-c", stdin=text))
            preset = "vcf" if text.startswith(b"##fileformat=VCF") else "bed"
            tool("tabix", "-p", preset, *(("-C",) if kind == "csi" else ()), str(path))
        return Pair(path.read_bytes(), path.with_name(f"{path.name}.{kind}").read_bytes())

    return make


async def bytes_of(made: Any, kind: Kind) -> bytes:
    return await asyncio.to_thread(made.produced(kind).path.read_bytes)


@pytest.mark.parametrize(
    ("text", "file_format", "kind", "contigs"),
    [
        (sam(), "bam", "bai", ["c1", "c2"]),
        (sam(), "bam", "csi", ["c1", "c2"]),
        (sam(count=0), "bam", "bai", ["c1", "c2"]),
        (bed(), "bed", "tbi", ["chr1"]),
        (bed(), "bed", "csi", ["chr1"]),
        (bed("chr1") + bed("chr2", 9) + bed("chrM", 1), "bed", "tbi", ["chr1", "chr2", "chrM"]),
        (vcf(), "vcf", "tbi", ["c1"]),
        (vcf(), "vcf", "csi", ["c1"]),
    ],
)
async def test_a_pair_that_fits_is_upstreams_own_bytes(
    process: Process, pair: Any, text: bytes, file_format: str, kind: str, contigs: list[str]
) -> None:
    upstream = pair(text, kind)
    made = await process(upstream.data, file_format, sidecar=kind, upstream_index=upstream.index)
    assert made.failure is None
    assert await bytes_of(made, Kind.DATA) == upstream.data
    assert await bytes_of(made, Kind.INDEX) == upstream.index
    assert made.produced(Kind.INDEX).filename.endswith(f".{kind}")
    assert [contig.name for contig in made.outputs[0].contigs] == contigs
    assert "was checked" in made.notes


async def other_made(process: Process, data: bytes, file_format: str, kind: str, index: bytes | None) -> Any:
    made = await process(data, file_format, sidecar=kind, upstream_index=index)
    assert made.failure is None, made.failure
    assert await bytes_of(made, Kind.INDEX) != index
    assert f"upstream's {kind} index" in made.notes
    assert "another one was made" in made.notes
    return made


@pytest.mark.parametrize(("text", "file_format", "kind"), [(bed(), "bed", "tbi"), (sam(), "bam", "bai")])
@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda index: None, "source_missing"),
        (lambda index: b"<html>Not found</html>", "index is"),
        (lambda index: b"", "index is"),
        (lambda index: index[: len(index) // 2], "index"),
        (lambda index: b"BAI\1" + b"\xff" * 40, "index is"),
    ],
    ids=["missing", "a page", "empty", "cut", "wild"],
)
async def test_an_index_that_cannot_be_read_is_replaced(
    process: Process, pair: Any, text: bytes, file_format: str, kind: str, spoil: Any, word: str
) -> None:
    upstream = pair(text, kind)
    made = await other_made(process, upstream.data, file_format, kind, spoil(upstream.index))
    assert word in made.notes


@pytest.mark.parametrize(
    ("text", "of", "file_format", "kind", "word"),
    [
        (bed(), bed(count=29_000), "bed", "tbi", "another one"),
        (bed(), bed(count=29_000), "bed", "csi", "another one"),
        (sam(), sam(8000), "bam", "bai", "another one"),
        (bed(count=9), bed(), "bed", "tbi", "beyond the end"),
        (sam(9), sam(), "bam", "bai", "beyond the end"),
        (sam(), sam(names="c1 c2 c3"), "bam", "bai", "contigs"),
        (bed("chr1"), bed("chr2"), "bed", "tbi", "another file"),
        (vcf(), vcf(8000), "vcf", "tbi", "another one"),
    ],
)
async def test_an_index_of_another_file_is_replaced(
    process: Process, pair: Any, text: bytes, of: bytes, file_format: str, kind: str, word: str
) -> None:
    data, index = pair(text, kind).data, pair(of, kind).index
    made = await other_made(process, data, file_format, kind, index)
    assert word in made.notes
    if file_format != "bam":
        with pysam.TabixFile(made.data, index=made.index) as opened:
            assert len(list(opened.fetch())) == sum(not line.startswith(b"#") for line in text.splitlines())


@pytest.mark.parametrize("kind", ["tbi", "csi"])
@pytest.mark.parametrize(("text", "file_format"), [(bed(), "bed"), (vcf(), "vcf")])
async def test_an_index_of_a_file_that_has_grown_since_is_replaced(
    process: Process, pair: Any, tool: Tool, text: bytes, file_format: str, kind: str
) -> None:
    upstream = pair(text, kind)
    more = text.splitlines()[-1] + b"\n"
    grown = upstream.data.removesuffix(END_MARKER) + tool("bgzip", "-c", stdin=more)
    made = await other_made(process, grown, file_format, kind, upstream.index)
    assert "ends before the last records" in made.notes
    with pysam.TabixFile(made.data, index=made.index) as opened:
        assert list(opened.fetch())[-2:] == [more.decode().rstrip()] * 2


async def test_data_that_no_index_fits_are_made_ready(process: Process, pair: Any) -> None:
    text = b"chr1\t50\t60\nchr1\t5\t9\n"
    index = pair(b"chr1\t5\t9\nchr1\t50\t60\n", "tbi").index
    made = await other_made(process, text, "bed", "tbi", index)
    assert "not block-compressed" in made.notes
    with pysam.TabixFile(made.data, index=made.index) as opened:
        assert list(opened.fetch()) == ["chr1\t5\t9", "chr1\t50\t60"]
