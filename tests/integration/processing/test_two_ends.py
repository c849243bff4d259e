"""Records with two places are found by either one, through htslib's own reading of the index of each."""

from __future__ import annotations

import gzip
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pysam
import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason

Process = Callable[..., Awaitable[Any]]
Tool = Callable[..., bytes]
Place = tuple[str, int, int]

CHANCE = random.Random(12)
NAMES = ("chr1", "chr10", "chr2", "HLA-A*01:01")
LENGTH = 1_000_000


def place(points: bool) -> Place:
    start = CHANCE.randrange(LENGTH - 6000)
    return CHANCE.choice(NAMES), start, start + (1 if points else CHANCE.randrange(1, 5000))


def drawn(file_format: str, count: int = 2000) -> tuple[str, list[tuple[Place, Place, str]]]:
    """(header, records): both places half-open from 0, and the line."""
    records = []
    for n in range(count):
        a, b = place(file_format == "pairs"), place(file_format == "pairs")
        match file_format:
            case "bedpe":
                line = f"{a[0]}\t{a[1]}\t{a[2]}\t{b[0]}\t{b[1]}\t{b[2]}\tx{n}\t{n}\t+\t-"
            case "paf":
                query, target = f"{b[0]}\t{LENGTH}\t{b[1]}\t{b[2]}", f"{a[0]}\t{LENGTH}\t{a[1]}\t{a[2]}"
                line = f"{query}\t+\t{target}\t1\t2\t60\tn:i:{n}"
            case _:
                line = f"r{n}\t{a[0]}\t{a[2]}\t{b[0]}\t{b[2]}\t+\t-"
        records.append((a, b, line))
    head = ""
    if file_format == "pairs":
        head = "## pairs format v1.0\n#sorted: chr1-chr2-pos1-pos2\n#shape: upper triangle\n"
        head += "".join(f"#chromsize: {name} {LENGTH}\n" for name in NAMES)
    return head, records


def found(data: Any, index: Any, where: Place) -> list[str]:
    with pysam.TabixFile(str(data.path), index=str(index.path)) as opened:
        return sorted(opened.fetch(*where)) if where[0] in opened.contigs else []


@pytest.mark.parametrize("file_format", ["bedpe", "paf", "pairs"])
@pytest.mark.parametrize("packed", [bytes, gzip.compress, "bgzip"], ids=lambda p: str(p)[:20])
async def test_a_record_is_found_by_either_of_its_ends(
    process: Process, tool: Tool, file_format: str, packed: Any
) -> None:
    head, records = drawn(file_format)
    text = (head + "".join(line + "\n" for *_, line in records)).encode()
    source = tool("bgzip", "-c", stdin=text) if packed == "bgzip" else packed(text)
    made = await process(source, file_format, filename=f"my.{file_format}.gz")
    assert made.failure is None, made.failure
    names = [part.filename for part in made.outputs[0].files]
    second = f"my.second-end.{file_format}.gz"
    assert names == [f"my.{file_format}.gz", f"my.{file_format}.gz.tbi", second, f"{second}.tbi"]
    assert made.counts["records"] == len(records)
    for at, (data, index) in enumerate(((Kind.DATA, Kind.INDEX), (Kind.SECOND_END, Kind.SECOND_END_INDEX))):
        placed = [((a, b)[at], line) for a, b, line in records]
        for _ in range(60):
            name, start = CHANCE.choice(NAMES), CHANCE.randrange(LENGTH)
            end = start + CHANCE.choice((1, 1000, 50_000))
            wanted = sorted(line for p, line in placed if p[0] == name and p[1] < end and p[2] > start)
            assert found(made.produced(data), made.produced(index), (name, start, end)) == wanted
        lines = gzip.decompress(made.produced(data).path.read_bytes()).decode().splitlines()
        assert sorted(line for line in lines if line[0] != "#") == sorted(line for *_, line in records)
    if file_format != "bedpe":
        assert {contig.length for contig in made.outputs[0].contigs} == {LENGTH}


async def test_pairs_say_how_they_are_sorted_now(process: Process) -> None:
    head, records = drawn("pairs", 50)
    made = await process((head + "".join(r[2] + "\n" for r in records)).encode(), "pairs")
    for kind, words in ((Kind.DATA, "#sorted: chr1-pos1"), (Kind.SECOND_END, "#sorted: none")):
        text = gzip.decompress(made.produced(kind).path.read_bytes()).decode()
        assert text.splitlines()[:3] == ["## pairs format v1.0", words, "#shape: upper triangle"]


async def test_an_end_that_is_nowhere_is_told_and_the_other_is_found(process: Process) -> None:
    both, first, second = "c\t1\t9\td\t5\t7\tb", "c\t3\t4\t.\t-1\t-1\tf", ".\t-1\t-1\td\t1\t2\ts"
    made = await process("\n".join((both, first, second, ".\t-1\t-1\t.\t-1\t-1\tn", "")).encode(), "bedpe")
    assert made.failure is None, made.failure
    counts = {k: v for k, v in made.counts.items() if k not in ("records", "max_end")}
    assert counts == {"without_first_end": 1, "without_second_end": 1, "without_place": 1}
    assert made.counts["records"] == 3
    for words in ("by the second one only", "by the first one only", "neither end"):
        assert words in made.notes
    assert found(made.produced(Kind.DATA), made.produced(Kind.INDEX), ("c", 0, 50)) == [both, first]
    of_second = made.produced(Kind.SECOND_END), made.produced(Kind.SECOND_END_INDEX)
    assert found(of_second[0], of_second[1], ("d", 0, 50)) == sorted((both, second))


async def test_a_paf_of_unmapped_reads_and_pairs_that_are_not_mapped(process: Process) -> None:
    made = await process(
        b"q\t9\t0\t9\t+\tt\t99\t1\t10\t9\t9\t60\nu\t9\t0\t0\t*\t*\t0\t0\t0\t0\t0\t0\n", "paf"
    )
    assert (made.failure, made.counts["without_first_end"]) == (None, 1)
    made = await process(b"## pairs format v1.0\nr\t!\t0\tc\t5\nq\tc\t7\tc\t9\n", "pairs")
    assert (made.failure, made.counts["without_first_end"]) == (None, 1)


async def test_places_beyond_the_reach_of_a_tbi_get_a_csi(process: Process) -> None:
    made = await process(b"c\t1\t9\td\t600000000\t600000009\n", "bedpe", filename="x.bedpe")
    names = [part.filename for part in made.outputs[0].files]
    assert names[1::2] == ["x.bedpe.gz.tbi", "x.second-end.bedpe.gz.csi"]
    assert "CSI" in made.notes


ODD: dict[str, tuple[str, bytes, bytes, dict[str, int]]] = {
    "a heading": (
        "bedpe",
        b"chr1\tx1\tx2\tchr2\ty1\ty2\nc\t1\t2\td\t3\t4\n",
        b"c\t1\t2\td\t3\t4\n",
        {"heading_lines": 1},
    ),
    "spaces": ("bedpe", b"c 1 2 d 3 4\n", b"c\t1\t2\td\t3\t4\n", {"spaced_lines": 1}),
    "odd numbers": (
        "bedpe",
        b"c\t1e3\t2e3\td\t3\t4\n",
        b"c\t1000\t2000\td\t3\t4\n",
        {"respelt_coordinates": 2},
    ),
    "carriage returns": ("bedpe", b"c\t1\t2\td\t3\t4\r\n", b"c\t1\t2\td\t3\t4\n", {"carriage_returns": 1}),
    "blank lines": ("bedpe", b"\nc\t1\t2\td\t3\t4\n\n", b"c\t1\t2\td\t3\t4\n", {"blank_lines": 2}),
}


@pytest.mark.parametrize("what", ODD)
async def test_what_can_be_put_right_is_and_is_told(process: Process, what: str) -> None:
    file_format, source, text, counts = ODD[what]
    made = await process(source, file_format)
    assert made.failure is None, made.failure
    assert gzip.decompress(made.produced(Kind.DATA).path.read_bytes()) == text
    assert {k: v for k, v in made.counts.items() if k not in ("records", "max_end")} == counts
    assert made.notes


REFUSED = [
    ("bedpe", b"c\t1\t2\td\t3\n", "line 1: 5 columns, but BEDPE has 6"),
    ("bedpe", b"c\t1\t2\td\t3\t4\nc\t2\t1\td\t3\t4\n", "line 2: start 2 is after end 1"),
    ("bedpe", b"c\t1\t2\td\tx\t4\n", "line 1: column 5 is 'x'"),
    (
        "paf",
        b"q\t9\t0\t9\t+\tt\t99\t1\t100\t9\t9\t60\n",
        "line 1: the place ends at 100, beyond the 99 bases",
    ),
    ("paf", b"q\t9\t0\t9\t+\tt\t99\t1\t10\n", "line 1: 9 columns, but PAF has 12"),
    ("pairs", b"## pairs format v1.0\n#chromsize: c\n", "line 2: a #chromsize line has a name and a length"),
    ("pairs", b"## pairs format v1.0\nr\tc\t0\tc\t5\n", "line 2: position 0 in column 3 is below 1"),
    ("pairs", b"r\tc\t5\tc\n", "line 1: 4 columns, but pairs has 5"),
    ("bed", b"## pairs format v1.0\nr\tc\t1\tc\t5\n", "the file is pairs"),
    ("bedpe", b">a\nACGT\n", "the file is fasta"),
    ("bedpe", b"", "empty"),
]


@pytest.mark.parametrize(("file_format", "source", "words"), REFUSED)
async def test_what_cannot_be_put_right_is_refused_with_the_line(
    process: Process, file_format: str, source: bytes, words: str
) -> None:
    made = await process(source, file_format)
    assert made.failure is not None, "it was accepted"
    assert made.failure.reason is Reason.SOURCE_INVALID, made.failure
    assert words in made.failure.detail
