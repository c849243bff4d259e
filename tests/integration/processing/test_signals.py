"""bedGraph and wiggle become a bigWig with the values of a naive reading, or are refused in words."""

from __future__ import annotations

import bz2
import gzip
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pyBigWig
import pytest

from gooseherd.domain.failures import Reason
from gooseherd.processing.registry import default_registry

Process = Callable[..., Awaitable[Any]]
Tool = Callable[..., bytes]
Values = dict[str, list[tuple[int, int, float]]]

CHANCE = random.Random(9)
LENGTHS_NOTE = "each ends where its last value does"


def values() -> Values:
    found: Values = {}
    for name in ("chr2", "chr10", "chr1", "HLA-A*01:01"):
        at, rows = CHANCE.randrange(50), []
        for _ in range(CHANCE.choice((1, 700, 5000))):
            end = at + CHANCE.choice((1, 10, 500))
            rows.append((at, end, CHANCE.randrange(-1000, 1000) / 8))
            at = end + CHANCE.choice((0, 0, 7))
        found[name] = rows
    return found


def bedgraph(found: Values) -> list[str]:
    return [f"{name}\t{s}\t{e}\t{v}" for name, rows in found.items() for s, e, v in rows]


def in_bigwig(made: Any) -> Values:
    opened = pyBigWig.open(made.data)
    try:
        return {name: [tuple(row) for row in opened.intervals(name) or ()] for name in opened.chroms()}
    finally:
        opened.close()


@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress, "bgzip"], ids=lambda p: str(p)[:20])
@pytest.mark.parametrize("shuffled", [False, True])
async def test_values_come_out_as_they_went_in(
    process: Process, tool: Tool, packed: Any, shuffled: bool
) -> None:
    wanted = values()
    lines = bedgraph(wanted)
    if shuffled:
        CHANCE.shuffle(lines)
    text = ("track type=bedGraph\n" + "\n".join(lines) + "\n").encode()
    source = tool("bgzip", "-c", stdin=text) if packed == "bgzip" else packed(text)
    made = await process(source, "bedgraph", filename="x.bdg.gz")
    assert made.failure is None, made.failure
    assert in_bigwig(made) == wanted
    assert {c.name: c.length for c in made.outputs[0].contigs} == {n: r[-1][1] for n, r in wanted.items()}
    assert (made.counts["records"], made.counts["display_lines"]) == (len(lines), 1)
    assert LENGTHS_NOTE in made.notes
    assert [p.filename for p in made.outputs[0].files] == ["x.bw"]
    opened = pyBigWig.open(made.data)
    for name, rows in wanted.items():
        mean = sum((e - s) * v for s, e, v in rows) / sum(e - s for s, e, _ in rows)
        assert opened.stats(name, exact=True)[0] == pytest.approx(mean)
        assert opened.stats(name)[0] == pytest.approx(mean, abs=5)
    opened.close()


async def test_the_bytes_are_the_same_without_the_kernel(process: Process, tmp_path: Any) -> None:
    lines = bedgraph(values())
    CHANCE.shuffle(lines)
    source = ("\n".join(lines) + "\n").encode()
    # The kernel is not among them.
    bare = default_registry(
        sort_memory=32 << 20, samtools_memory=64 << 20, threads=2, search_path="/usr/bin:/bin"
    )
    found = [await process(source, "bedgraph"), await process(source, "bedgraph", using=bare)]
    assert found[0].digests() == found[1].digests()


WIG = b"""track type=wiggle_0
# by hand
fixedStep chrom=chr2 start=11 step=10 span=5
1
2.5

-3e2
variableStep chrom=chr1
7 1
9 2
variableStep chrom=chr1 span=3
101\t4
fixedStep chrom=chr2  start=101  step=1
5
6
track type=bedGraph
chr3 5 9 1.5
"""
OF_WIG: Values = {
    "chr1": [(6, 7, 1), (8, 9, 2), (100, 103, 4)],
    "chr2": [(10, 15, 1), (20, 25, 2.5), (30, 35, -300), (100, 101, 5), (101, 102, 6)],
    "chr3": [(5, 9, 1.5)],
}


@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress], ids=lambda p: str(p)[:20])
@pytest.mark.parametrize("called", ["wig", "bedgraph"])
async def test_wiggle_of_both_kinds_and_bedgraph_among_it(process: Process, packed: Any, called: str) -> None:
    made = await process(packed(WIG), called)
    assert made.failure is None, made.failure
    assert in_bigwig(made) == OF_WIG
    dropped = {k: v for k, v in made.counts.items() if k != "records"}
    assert dropped == {"display_lines": 2, "comment_lines": 1, "blank_lines": 1}
    for words in ("track and browser", "comment lines", "blank lines"):
        assert words in made.notes


async def test_bedgraph_that_is_called_wiggle_is_read(process: Process) -> None:
    made = await process(b"track type=wiggle_0\nchr1\t5\t9\t1\nchr1 9 12 2\n", "wig")
    assert in_bigwig(made) == {"chr1": [(5, 9, 1), (9, 12, 2)]}


ODD: dict[str, tuple[bytes, Values, dict[str, int], str]] = {
    "no value": (
        b"c\t0\t10\tNA\nc\t10\t15\tn/a\n",
        {},
        {"without_number": 2},
        "no record has a value",
    ),
    "nothing but a track line": (
        b"track type=bedGraph\n",
        {},
        {"display_lines": 1},
        "no record has a value",
    ),
    "overlaps": (
        b"c\t0\t10\t1\nc\t5\t15\t2\nc\t5\t9\t3\nc\t15\t20\t4\n",
        {"c": [(0, 10, 1), (10, 15, 2), (15, 20, 4)]},
        {"overlapping_records": 2},
        "the one that begins first",
    ),
    "not a number": (
        b"c\t0\t10\tNaN\nc\t10\t15\tNA\nc\t15\t20\t.\nc\t20\t21\tinf\nc\t21\t25\t4\n",
        {"c": [(21, 25, 4)]},
        {"without_number": 4},
        "without a finite number",
    ),
    "empty intervals": (
        b"c\t5\t5\t1\nc\t5\t7\t2\n",
        {"c": [(5, 7, 2)]},
        {"empty_records": 1},
        "without a base",
    ),
    "more columns": (
        b"c\t5\t6\t1\t9\t9\nc\t6\t7\t2\t8\t8\n",
        {"c": [(5, 6, 1), (6, 7, 2)]},
        {"left_out_columns": 2},
        "more than four columns",
    ),
    "carriage returns and spaces": (
        b"c 5 6 1\r\nc 6 7 2\r\n",
        {"c": [(5, 6, 1), (6, 7, 2)]},
        {"carriage_returns": 2, "spaced_lines": 2},
        "carriage returns",
    ),
    "a heading": (
        b"chrom\tstart\tend\tvalue\nc\t6\t7\t2\n",
        {"c": [(6, 7, 2)]},
        {"heading_lines": 1},
        "headings",
    ),
    "comments": (
        b"#a\nc\t6\t7\t2\n#b\n",
        {"c": [(6, 7, 2)]},
        {"comment_lines": 2},
        "comments below the first record",
    ),
}


ODD_WIG: dict[str, tuple[bytes, Values, dict[str, int], str]] = {
    "no number at a step": (
        b"fixedStep chrom=c start=1 step=10 span=5\n1\nNaN\nNA\nn/a\n-inf\n2\n",
        {"c": [(0, 5, 1), (50, 55, 2)]},
        {"without_number": 4},
        "without a finite number",
    ),
    "no number at a position": (
        b"variableStep chrom=c span=2\n5 NA\n7 2\n9 nan\n",
        {"c": [(6, 8, 2)]},
        {"without_number": 2},
        "without a finite number",
    ),
    "no number in bedGraph": (
        b"track type=wiggle_0\nc 0 10 NA\nc 10 12 3\nc 12 13 .\n",
        {"c": [(10, 12, 3)]},
        {"without_number": 2, "display_lines": 1},
        "without a finite number",
    ),
    "no value": (
        b"fixedStep chrom=c start=1 step=1\nNA\nNA\n",
        {},
        {"without_number": 2},
        "no record has a value",
    ),
    "nothing but a track line": (
        b"track type=wiggle_0\n",
        {},
        {"display_lines": 1},
        "no record has a value",
    ),
    "nothing but a declaration": (b"variableStep chrom=c\n", {}, {}, "no record has a value"),
    "positions in powers of ten": (
        b"variableStep chrom=c span=1e1\n1e+06 5\nfixedStep chrom=d start=1e+03 step=10.0\n7\nd 2e3 2010 8\n",
        {"c": [(999_999, 1_000_009, 5)], "d": [(999, 1000, 7), (2000, 2010, 8)]},
        {"respelt_coordinates": 2},
        "respelt",
    ),
    "a comment like a position and its value": (
        b"variableStep chrom=c\n# 5\n5 1\n",
        {"c": [(4, 5, 1)]},
        {"comment_lines": 1},
        "comment lines",
    ),
    "bedGraph of a sequence with a number for a name": (
        b"fixedStep chrom=2 start=1 step=1\n7\n1 5 9 8\n",
        {"1": [(5, 9, 8)], "2": [(0, 1, 7)]},
        {},
        "",
    ),
    "a byte order mark and carriage returns": (
        b"\xef\xbb\xbfvariableStep chrom=c\r\n5 1\r\n",
        {"c": [(4, 5, 1)]},
        {"byte_order_mark": 1, "carriage_returns": 2},
        "byte order mark",
    ),
}


@pytest.mark.parametrize("bare", [False, True], ids=["kernel", "sort"])
@pytest.mark.parametrize("what", ODD_WIG)
async def test_odd_wiggle_is_put_right_and_told(process: Process, what: str, bare: bool) -> None:
    source, wanted, counts, words = ODD_WIG[what]
    registry = default_registry(
        sort_memory=32 << 20,
        samtools_memory=64 << 20,
        threads=2,
        search_path="/usr/bin:/bin" if bare else None,
    )
    made = await process(source, "wig", using=registry)
    assert made.failure is None, made.failure
    assert in_bigwig(made) == wanted
    assert {k: v for k, v in made.counts.items() if k != "records"} == counts
    assert words in made.notes


@pytest.mark.parametrize("what", ODD)
async def test_what_can_be_put_right_is_and_is_told(process: Process, what: str) -> None:
    source, wanted, counts, words = ODD[what]
    made = await process(source, "bedgraph")
    assert made.failure is None, made.failure
    assert in_bigwig(made) == wanted
    assert {k: v for k, v in made.counts.items() if k != "records"} == counts
    assert words in made.notes


REFUSED = [
    ("bedgraph", b"c\t5\t6\tname\n", "the value 'name' of the record c:5-6 is no number"),
    ("bedgraph", b"c\t5\t6\n", "the record c:5-6 has no value"),
    ("bedgraph", b"c\t6\t5\t1\n", "line 1: start 6 is after end 5"),
    ("bedgraph", b"c\t5\t6\t1e39\n", "larger than any of a bigWig"),
    ("bedgraph", b"c\t5\t6\t1_0\n", "the value '1_0' of the record c:5-6 is no number"),
    ("bedgraph", b"\n\n", "no content"),
    ("wig", b"\n\n", "no content"),
    ("wig", b"variableStep chrom=c\n5 1_0\n", "line 2: the value '1_0' is no number"),
    ("wig", b"variableStep chrom=c\n5 1\0\n", "line 2: a NUL byte"),
    ("wig", b"variableStep chrom=#c\n5 1\n", "line 1: the sequence name starts with #"),
    ("bedgraph", b"", "empty"),
    ("bedgraph", b">chr1\nACGT\n", "the file is fasta"),
    ("bedgraph", b"\xff\t5\t6\t1\n", "is no text"),
    ("wig", b"fixedStep chrom=c step=5\n1\n", "line 1: fixedStep without start="),
    ("wig", b"fixedStep chrom=c start=5\n1\n", "line 1: fixedStep without step="),
    ("wig", b"variableStep chrom=c\n5 1\n6\n", "line 3: '6' is no position and value"),
    ("wig", b"variableStep chrom=c\n5 x\n", "line 2: the value 'x' is no number"),
    ("wig", b"variableStep chrom=c\n0 1\n", "line 2: position 0 lies outside"),
    ("wig", b"fixedStep chrom=c start=5 step=2 span=3\n1\n", "line 1: span=3 is larger than step=2"),
    ("wig", b"fixedStep chrom=c start=5 step=2 color=3\n1\n", "line 1: 'color=3' is no setting"),
    ("wig", b"fixedStep chrom=c start=x step=2\n1\n", "line 1: start='x' is no number"),
    ("wig", b"fixedStep chrom=c start=1 step=2\nabc\n", "line 2: the value 'abc' is no number"),
    ("wig", b"track type=wiggle_0\nabc\n", "line 2: 'abc' is neither"),
    ("bed", b"fixedStep chrom=c start=1 step=2\n1\n", "the file is wig"),
    ("wig", b"\x26\xfc\x8f\x88" + bytes(60), "the file is bigwig"),
]


@pytest.mark.parametrize(("file_format", "source", "words"), REFUSED)
async def test_what_cannot_be_put_right_is_refused_in_words(
    process: Process, file_format: str, source: bytes, words: str
) -> None:
    made = await process(source, file_format)
    assert made.failure is not None, "it was accepted"
    assert made.failure.reason is Reason.SOURCE_INVALID, made.failure
    assert words in made.failure.detail


async def test_ten_thousand_sequences_are_all_there(process: Process) -> None:
    count = 10_000
    source = b"".join(b"s%d\t0\t5\t%d\n" % (n, n) for n in range(count))
    made = await process(source, "bedgraph")
    assert made.failure is None, made.failure
    found = in_bigwig(made)
    assert len(found) == count
    assert found["s7777"] == [(0, 5, 7777)]


async def test_more_sequences_than_can_be_written_in_time_are_refused(process: Process) -> None:
    made = await process(b"".join(b"s%d\t0\t5\t1\n" % n for n in range(50_001)), "bedgraph")
    assert made.failure is not None
    assert "more than 50000 sequences" in made.failure.detail
