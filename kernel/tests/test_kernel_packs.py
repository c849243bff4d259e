"""Sorted reads from a pipe: the BAM, index and counts that the tools make, for any number of threads."""

from __future__ import annotations

import gzip
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from gooseherd.processing.programs import count_records

MIB = 1 << 20
VARIANTS = 40
NAMED = {0, 10, 11, 20}
READS, DRAWS = 6000, 20
HEADS = {
    "bai": ("@HD\tVN:1.6", "@SQ\tSN:b\tLN:1000000", "@SQ\tSN:a\tLN:9000000", "@SQ\tSN:c\tLN:9"),
    "csi": ("@HD\tVN:1.6", "@SQ\tSN:b\tLN:700000000", "@SQ\tSN:a\tLN:9000000", "@SQ\tSN:c\tLN:9"),
}


def reads(head: str, count: int = READS) -> bytes:
    """Of all lengths, beyond a block too; one with more operations than its field can count."""
    chance = random.Random(head)
    lines = [*HEADS[head]]
    for n in range(count):
        bases = 90_000 if n % 2000 == 1999 else chance.choice([4, 50, 151])
        cigar = chance.choice([f"{bases}M", f"2M300000N{bases - 2}M", f"1S{bases - 1}M", "*"])
        place = f"{chance.choice('aab')}\t{chance.randint(0, 600_000)}"
        sequence = "*" if cigar == "*" else chance.choice("ACGT") * bases
        flag = chance.choice([0, 4, 16, 256])
        lines.append(f"r{n}\t{flag}\t{place}\t9\t{cigar}\t*\t0\t0\t{sequence}\t*")
    lines.append(f"long\t0\ta\t777\t9\t{'1M1I' * 70_000}\t*\t0\t0\t{'A' * 140_000}\t*")
    lines += [f"u{n}\t4\t*\t0\t0\t*\t*\t0\t0\tACGT\t*" for n in range(9)]
    return ("\n".join(lines) + "\n").encode()


def tool(*argv: str, stdin: bytes | None = None) -> bytes:
    return subprocess.run(argv, input=stdin, capture_output=True, check=True).stdout


@pytest.fixture(scope="module", params=list(HEADS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def stream(kind: str) -> bytes:
    """As samtools gives it."""
    return tool("samtools", "sort", "--no-PG", "-u", "-", stdin=reads(kind))


@dataclass(frozen=True)
class Run:
    status: int
    stderr: bytes
    folder: Path

    @property
    def left(self) -> dict[str, bytes]:
        """All that it made, by name."""
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


def pack(program: Path, folder: Path, stream: bytes, *options: str, **limits: int) -> Run:
    """`limits`: data, fsize."""
    folder.mkdir()
    argv = [str(program), "pack", f"--out={folder / 'x.bam'}", f"--density={folder / 'table'}", *options]
    if limits:
        argv = ["prlimit", *(f"--{name}={most}:{most}" for name, most in limits.items()), "--", *argv]
    done = subprocess.run(argv, input=stream, capture_output=True, timeout=60, check=False)
    return Run(done.returncode, done.stderr, folder)


def test_it_is_what_the_tools_make_for_any_number_of_threads(
    kind: str, stream: bytes, sanitised_program: Path, tmp_path: Path
) -> None:
    first = pack(sanitised_program, tmp_path / "first", stream, "--threads=1")
    assert (first.status, first.stderr) == (0, b"")
    made = first.left
    assert set(made) == {"x.bam", f"x.bam.{kind}", "table"}
    data = first.folder / "x.bam"
    assert gzip.decompress(made["x.bam"]) == gzip.decompress(stream)
    tool("samtools", "quickcheck", str(data))
    tool("samtools", "index", "-b" if kind == "bai" else "-c", str(data), str(tmp_path / "index"))
    assert made[f"x.bam.{kind}"] == (tmp_path / "index").read_bytes()
    assert count_records.main(["bam", str(data), str(tmp_path / "table")]) == 0
    assert made["table"] == (tmp_path / "table").read_bytes()
    for threads in (2, 3, 8):
        again = pack(sanitised_program, tmp_path / f"by {threads}", stream, f"--threads={threads}")
        assert again.left == made, threads


def test_the_same_every_time(stream: bytes, program: Path, tmp_path: Path) -> None:
    """Threads that took turns in another way have left their trace in an index before."""
    made = [pack(program, tmp_path / str(n), stream, "--threads=4").left for n in range(DRAWS)]
    assert all(left == made[0] for left in made)


@pytest.mark.parametrize("level", [0, 6])
def test_the_level_changes_the_size_only(level: int, stream: bytes, program: Path, tmp_path: Path) -> None:
    quick, asked = (
        pack(program, tmp_path / f"level {n}", stream, f"-l{n}").left["x.bam"] for n in (1, level)
    )
    assert (len(asked) > len(quick)) == (level == 0)
    assert gzip.decompress(asked) == gzip.decompress(quick)


def test_a_header_alone_is_a_bam_too(program: Path, tmp_path: Path) -> None:
    head = "\n".join(HEADS["bai"]).encode() + b"\n"
    made = pack(program, tmp_path / "made", tool("samtools", "sort", "--no-PG", "-u", "-", stdin=head))
    assert made.status == 0, made.stderr
    assert tool("samtools", "idxstats", str(made.folder / "x.bam")).startswith(b"b\t1000000\t0\t0\n")


def test_what_ends_early_or_is_not_in_order_is_no_bam(
    stream: bytes, sanitised_program: Path, tmp_path: Path
) -> None:
    """However it was cut: between blocks too, where only the end marker tells."""
    unsorted = tool("samtools", "view", "-u", "-", stdin=reads("bai", 50))
    tries = [(b"", 10), (b"@HD\n", 10), (gzip.compress(b"BAM\1"), 10), (unsorted, 10), (stream[:-28], 11)]
    tries += [(stream[:-n], 20) for n in (29, 5000, 70_000)]
    for number, (broken, status) in enumerate(tries):
        run = pack(sanitised_program, tmp_path / str(number), broken)
        assert (run.status, run.left) == (status, {}), (number, run.stderr)
        assert b"gooseherd-intervals: " in run.stderr, number


def test_damaged_reads_end_by_name(sanitised_program: Path, tmp_path: Path) -> None:
    """Damaged below the checksums, where nothing but the program itself stands in between."""
    whole = gzip.decompress(tool("samtools", "sort", "--no-PG", "-u", "-", stdin=reads("bai", 80)))
    whole = whole[: whole.index(b"long\0") - 36]
    ends = set()
    for seed in range(VARIANTS):
        chance, broken = random.Random(seed), bytearray(whole)
        for _ in range(chance.choice([1, 1, 9])):
            broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        if seed % 4 == 0:
            del broken[chance.randrange(len(broken)) :]
        run = pack(sanitised_program, tmp_path / str(seed), tool("bgzip", "-c", stdin=bytes(broken)))
        ends.add(run.status)
        assert run.status in NAMED, (seed, run.status, run.stderr)
        assert ("x.bam" in run.left) == (run.status == 0), seed
    assert {0, 10, 11} <= ends


def test_too_little_memory_is_named_wherever_it_runs_out(
    stream: bytes, program: Path, tmp_path: Path
) -> None:
    ends = set()
    for most in (1, 3, 6, 9, 12, 15, 18, 21, 24, 100):
        run = pack(program, tmp_path / str(most), stream, data=most * MIB)
        ends.add(run.status)
        if run.status:
            assert run.status == 21, (most, run.status, run.stderr)
            assert b"out of memory" in run.stderr, most
            assert run.left == {}, most
    assert ends == {0, 21}


def test_a_full_disk_is_named(stream: bytes, program: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for it: the same code path, with EFBIG for ENOSPC."""
    size = len(pack(program, tmp_path / "whole", stream).left["x.bam"])
    for number, most in enumerate((0, 100, size // 2, size - 1)):
        run = pack(program, tmp_path / str(number), stream, fsize=most)
        assert run.status == 20, (most, run.stderr)
        assert b"ran out of disk space" in run.stderr, most
        assert run.left == {}, most


@pytest.mark.parametrize("options", [("--level=x", "more"), ("--threads=65",), ("-l10",), ("--out=here",)])
def test_what_cannot_be_meant_is_refused(options: tuple[str, ...], program: Path, tmp_path: Path) -> None:
    assert pack(program, tmp_path / "made", b"", *options).status == 2
