"""The same source gives the same bytes, whatever the machine lends and whichever way was taken."""

from __future__ import annotations

import random
from typing import Any

import pytest

MIB = 1 << 20
QUICKEST = ("--level", "0")
"""What the service asks for."""


def bed(count: int, seed: int, span: int = 40_000_000) -> list[tuple[bytes, int, bytes]]:
    rng = random.Random(seed)
    made = []
    for number in range(count):
        name = b"chr%d" % rng.randint(1, 12)
        start = rng.randrange(span)
        made.append(
            (
                name,
                start,
                b"%s\t%d\t%d\tread_%d\t%d\t+\n" % (name, start, start + rng.choice((9, 99)), number, seed),
            )
        )
    return made


def text(records: list[tuple[bytes, int, bytes]]) -> bytes:
    return b"# header\n" + b"".join(r[2] for r in records)


@pytest.fixture(scope="module")
def shapes() -> dict[str, bytes]:
    """40 MB each: far more than the smallest budget holds."""
    records = bed(1_000_000, 1, span=20_000_000)
    ordered = sorted(records, key=lambda r: (int(r[0][3:]), r[1]))
    return {
        "shuffled": text(records),
        "sorted": text(ordered),
        "sorted but for the last line": text([*ordered, ordered[0]]),
        "sorted but for the middle": text([*ordered[:500_000], ordered[3], *ordered[500_000:]]),
        "beyond TBI at the end": text([*ordered, (b"z", 1, b"z\t1\t600000000\n")]),
        "beyond TBI, then disorder": text([*ordered, (b"z", 1, b"z\t1\t600000000\n"), ordered[0]]),
    }


NAMES = [
    "shuffled",
    "sorted",
    "sorted but for the last line",
    "sorted but for the middle",
    "beyond TBI at the end",
    "beyond TBI, then disorder",
]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("shape", NAMES)
def test_threads_memory_and_spilling_leave_no_trace(
    shape: str, shapes: dict[str, bytes], kernel: Any
) -> None:
    source = kernel.folder / "shape.bed"
    source.write_bytes(shapes[shape])
    first = kernel("bed", source, "--threads", "1", "--memory", str(900 * MIB), *QUICKEST)
    assert first.status == 0
    assert first.found.spills == 0
    small = kernel("bed", source, "--threads", "2", "--memory", str(24 * MIB), *QUICKEST)
    assert small.status == 0
    assert small.sizes() == first.sizes()
    assert (small.found.spills > 1) == (
        shape not in ("sorted", "beyond TBI at the end")
    ) or small.found.restarted
    assert small.found.index == ("csi" if "beyond" in shape else "tbi")
    assert small.found.sorted == (shape in ("sorted", "beyond TBI at the end"))
    many = kernel("bed", source, "--threads", "4", "--memory", str(60 * MIB), *QUICKEST)
    assert many.sizes() == first.sizes()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("shape", NAMES)
def test_a_pipe_gets_the_same_bytes_as_a_file(shape: str, shapes: dict[str, bytes], kernel: Any) -> None:
    """What went into a pipe cannot be taken back: the kernel must not bet there."""
    source = kernel.folder / "shape.bed"
    source.write_bytes(shapes[shape])
    wanted = kernel("bed", source, *QUICKEST)
    data, run = kernel.to_pipe("bed", source, "--memory", str(24 * MIB), *QUICKEST)
    assert run.status == 0, run.stderr
    assert data == wanted.out.read_bytes()
    assert run.index.read_bytes() == wanted.index.read_bytes()


def test_more_runs_than_can_be_merged_at_once(kernel: Any, merging_by_two: Any) -> None:
    rng = random.Random(3)
    lines = [
        b"chr1\t%d\t%d\t%s\n" % (rng.randrange(9), 100 + i % 3, b"%07d" % i * 900) for i in range(12_000)
    ]
    source = kernel.folder / "long.bed"
    source.write_bytes(b"".join(lines))
    run = merging_by_two("bed", source, "--memory", str(16 * MIB), "--threads", "1")
    assert run.status == 0, run.stderr
    assert run.found.spills > 7
    assert run.sizes() == kernel("bed", source, "--memory", str(900 * MIB)).sizes()


def test_lines_longer_than_a_merge_buffer_survive_spilling(sanitised: Any) -> None:
    rng = random.Random(4)
    lines = [b"chr1\t%d\t%d\t%s\n" % (rng.randrange(99), 100 + i, b"%d" % i * 1_000_000) for i in range(20)]
    run = sanitised("bed", b"".join(lines), "--memory", str(20 * MIB))
    assert run.status == 0, run.stderr
    assert run.found.spills > 2
    assert run.records() == [line[:-1] for line in sorted(lines, key=lambda line: int(line.split(b"\t")[1]))]


def test_a_late_directive_joins_the_header_of_a_long_sorted_file(sanitised: Any) -> None:
    head = b"##gff-version 3\n"
    lines = [
        b"chr1\tx\tgene\t%d\t%d\t.\t+\t.\tID=%s\n" % (i, i + 5, b"%d" % i * 40) for i in range(1, 90_000)
    ]
    late = b"##sequence-region chr1 1 999999\n"
    run = sanitised("gff3", head + b"".join(lines) + late)
    assert run.status == 0
    assert run.found.restarted
    assert run.text() == head + late + b"".join(lines)
    small = sanitised("gff3", head + b"".join(lines) + late, "--memory", str(20 * MIB))
    assert small.sizes() == run.sizes()
    assert small.found.spills > 0


def test_counts_are_those_of_the_source_after_a_second_reading(kernel: Any) -> None:
    records = sorted(bed(700_000, 5), key=lambda r: (r[0], r[1]))
    source = text([*records, records[0]]).replace(b"\n", b"\r\n")
    run = kernel("bed", source)
    assert run.found.restarted
    assert run.found.records == 700_001
    assert run.found.counts == {"carriage_returns": 700_002}
    assert sum(c.records for c in run.found.contigs) == 700_001


def test_names_in_any_order_are_in_order(kernel: Any) -> None:
    assert kernel("bed", b"chr2\t1\t2\nchr10\t1\t2\n").records() == [b"chr2\t1\t2", b"chr10\t1\t2"]


def test_records_that_start_together_keep_the_order_of_the_source(kernel: Any) -> None:
    source = b"c\t5\t9\nc\t1\t9\nc\t1\t2\n"
    assert kernel("bed", source).records() == [b"c\t1\t9", b"c\t1\t2", b"c\t5\t9"]
