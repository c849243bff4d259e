"""No pair of data and index is published that answers otherwise than it should."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

Process = Callable[..., Awaitable[Any]]
Tool = Callable[..., bytes]

HEAD = b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def bed(count: int = 30_000, seed: int = 1) -> bytes:
    chance = random.Random(seed)
    return b"".join(
        b"chr%d\t%d\t%d\titem%d\n" % (chance.randint(1, 5), at, at + chance.randint(0, 300), i)
        for i in range(count)
        for at in [chance.randrange(10_000_000)]
    )


def verify(kind: str, data: str | Path, index: str | Path, home: Path, *options: str, seed: str = "x") -> Any:
    """What verify.py says: its answer, or the sentence with which it refuses."""
    report = home / "report.json"
    report.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "gooseherd.processing.programs.verify", kind, str(data), str(index)]
    argv += ["--report", str(report), "--seed", seed, *options]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode in (0, 65), done.stderr.decode()
    return json.loads(done.stdout) if done.returncode == 0 else json.loads(report.read_bytes())["detail"]


async def test_what_is_right_passes_whatever_is_asked(process: Process, tmp_path: Path) -> None:
    source = tmp_path / "source.bed"
    source.write_bytes(bed())
    made = await process(source, "bed")
    options = ("--source", str(source), "--format", "bed")
    for seed in range(4):
        result = verify("tabix", made.data, made.index, tmp_path, *options, seed=str(seed))
        assert result["contigs"] == 5
        assert result["regions"] >= 10


async def test_an_index_of_other_data_is_noticed(process: Process, tmp_path: Path) -> None:
    one, other = await process(bed(seed=1), "bed"), await process(bed(seed=2), "bed")
    assert "did not pass its check" in verify("tabix", one.data, other.index, tmp_path)


async def test_an_index_that_stops_early_is_noticed(process: Process, tool: Tool, tmp_path: Path) -> None:
    made = await process(bed(), "bed")
    part = tmp_path / "part.bed.gz"
    text = tool("bgzip", "-dc", made.data)
    part.write_bytes(tool("bgzip", "-c", "-l", "1", stdin=text[: len(text) // 2].rsplit(b"\n", 1)[0] + b"\n"))
    tool("tabix", "-p", "bed", str(part))
    assert "did not pass its check" in verify("tabix", made.data, f"{part}.tbi", tmp_path)


@pytest.mark.parametrize(
    ("change", "small"),
    [
        (lambda lines: lines[: len(lines) // 2], False),
        (lambda lines: [line for n, line in enumerate(lines) if n % 2], False),
        (lambda lines: lines[:7] + lines[8:], True),
        (lambda lines: [*lines, lines[-1]], True),
        (lambda lines: [*lines[:-1], lines[-1].replace(b"item", b"itme")], True),
    ],
    ids=["half", "every-second", "one-lost", "one-twice", "one-changed"],
)
def test_data_that_is_not_the_sources_is_noticed(
    tool: Tool, tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], small: bool
) -> None:
    source = tmp_path / "source.bed"
    source.write_bytes(bed(20 if small else 30_000))
    lines = sorted(
        source.read_bytes().splitlines(), key=lambda x: (x.split(b"\t")[0], int(x.split(b"\t")[1]))
    )
    data = tmp_path / "data.bed.gz"
    data.write_bytes(tool("bgzip", "-c", stdin=b"\n".join(change(lines)) + b"\n"))
    tool("tabix", "-p", "bed", str(data))
    options = ("--source", str(source), "--format", "bed")
    # One lost record among many is found by the counts; by asking, only in a small file, not by every seed.
    seeds = range(12 if small else 2)
    result = [verify("tabix", data, f"{data}.tbi", tmp_path, *options, seed=str(seed)) for seed in seeds]
    assert any("did not pass its check" in str(one) for one in result)


def test_a_broken_index_is_noticed(tool: Tool, tmp_path: Path) -> None:
    data = tmp_path / "data.bed.gz"
    data.write_bytes(tool("bgzip", "-c", stdin=b"chr1\t1\t2\n"))
    index = tmp_path / "broken.tbi"
    for content in (b"", b"nothing", tool("bgzip", "-c", stdin=b"TBI\1" + b"\xff" * 40)):
        index.write_bytes(content)
        assert "the index does not open" in verify("tabix", data, index, tmp_path)


async def test_a_bam_and_the_index_of_another_are_noticed(
    process: Process, tool: Tool, sam_text: bytes, tmp_path: Path
) -> None:
    made = await process(sam_text, "sam")
    result = verify("bam", made.data, made.index, tmp_path, "--ours")
    assert result["reads"] == 4000
    # The same reads, all a little to the right.
    moved = tmp_path / "moved.sam"
    header, reads = sam_text.split(b"r0\t", 1)
    shifted = []
    for line in (b"r0\t" + reads).splitlines():
        fields = line.split(b"\t")
        fields[3] = b"%d" % (int(fields[3]) + 40_000) if fields[2] != b"*" else fields[3]
        shifted.append(b"\t".join(fields))
    moved.write_bytes(header + b"\n".join(shifted) + b"\n")
    other = await process(moved, "sam")
    assert "did not pass its check" in verify("bam", made.data, other.index, tmp_path, "--ours")
    options = ("--ours", "--source", str(moved), "--format", "sam")
    assert "did not pass its check" in verify("bam", made.data, made.index, tmp_path, *options)


@pytest.mark.parametrize("name", ["{c}", "{", "{a:5}", "b{c}:7-9"])
async def test_a_name_that_htslib_takes_for_quoted_is_published(process: Process, name: str) -> None:
    lines = "".join(f"{name}\t{at}\t{at + 9}\n" for at in range(0, 3000, 10))
    made = await process(f"{lines}other\t5\t9\n".encode(), "bed")
    assert made.failure is None
    assert made.counts["records"] == 301


@pytest.mark.parametrize("file_format", ["sam", "bed"])
async def test_records_on_the_last_bases_there_can_be_are_asked_for(
    process: Process, file_format: str
) -> None:
    last = (1 << 31) - 1
    text = f"c\t{last - 5}\t{last}\nc\t{last - 1}\t{last}\n"
    if file_format == "sam":
        reads = (f"r{at}\t0\tc\t{at}\t60\t1M\t*\t0\t0\tA\tI\n" for at in (last - 5, last - 1))
        text = f"@SQ\tSN:c\tLN:{last}\n{''.join(reads)}"
    made = await process(text.encode(), file_format)
    assert made.failure is None
    assert made.counts["records"] == 2


async def test_the_same_content_is_asked_the_same(process: Process, tmp_path: Path) -> None:
    made = await process(bed(), "bed")
    first = verify("tabix", made.data, made.index, tmp_path, seed="md5:1")
    copy = tmp_path / "copy.bed.gz"
    shutil.copy(made.data, copy)
    assert verify("tabix", copy, made.index, tmp_path, seed="md5:1") == first


async def test_a_wrong_index_fails_the_step_and_is_nobodys_fault_but_ours(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gooseherd.processing.step_context import StepContext

    other = await process(bed(seed=2), "bed")
    verify_pair = StepContext.verify

    async def swapped(self: StepContext, kind: str, data: Path, index: Path, *options: str) -> Any:
        shutil.copy(other.index, index)
        return await verify_pair(self, kind, data, index, *options)

    monkeypatch.setattr(StepContext, "verify", swapped)
    made = await process(bed(seed=1), "bed")
    assert made.failure.reason == "tool_failed"
    assert "did not pass its check" in made.failure.detail


async def test_records_below_more_than_twenty_thousand_others_are_looked_for_behind_them(
    process: Callable[..., Any],
) -> None:
    """Long records reach into every region that is asked: they are no reason to give up before its own."""
    lines = [b"chr1\t%d\t1000000\tlong%d\n" % (n, n) for n in range(25_000)]
    lines += [b"chr1\t%d\t%d\tshort%d\n" % (n, n + 1, n) for n in range(25_000, 26_000)]
    made = await process(b"".join(lines), "bed")
    assert made.failure is None
