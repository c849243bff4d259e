"""With SOURCE_BAD_LINES=skip lines of tables and of values that make no record are left out, and named."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import pyBigWig
import pytest

from gooseherd.domain.artifact import Kind
from gooseherd.domain.failures import Reason
from gooseherd.processing.registry import ProcessorRegistry, default_registry

Process = Callable[..., Awaitable[Any]]

SEG = b"ID\tchrom\tloc.start\tloc.end\tseg.mean\n"
MACS = b"# MACS\nchr\tstart\tend\tlength\tfold_enrichment\n"
GENE = b"NM_1\tchr1\t-\t100\t900\t150\t800\t1\t100,\t900,\n"
REPEAT = b"  239   29.4  1.9  1.0  chr1        %d   %d (9) + L3 LINE/CR1 1 201 (1) 7\n"


@pytest.fixture(params=["kernel", "sort"])
def skipping(request: pytest.FixtureRequest) -> ProcessorRegistry:
    bare = "/usr/bin:/bin" if request.param == "sort" else None
    return default_registry(
        sort_memory=32 << 20, samtools_memory=64 << 20, threads=2, skip_bad_lines=True, search_path=bare
    )


TABLES = [
    (
        "seg",
        SEG + b"s\tchr1\tx\t9\t1\ns\tchr1\t5\t9\t1\ns\tchr1\t9\t5\t1\ns\tchr1\n\ns\t\t1\t5\t1\n",
        b"chr1\t4\t9\ts\t1\t.\n",
        "4 lines that make no records were left out: 2, 4, 5, 7 (line 2: 'x' is no position)",
    ),
    (
        "interval_list",
        b"@HD\tVN:1.6\nchr1\t5\t9\t+\ta\nchr1\t5\t9\tx\ta\nchr1\t0\t9\t+\ta\n",
        b"chr1\t4\t9\ta\t0\t+\n",
        "2 lines that make no records were left out: 3, 4 (line 3: 'x' is no strand)",
    ),
    (
        "macs",
        MACS + b"chr1\t5\t9\t4\nchr1\t5\t9\t4\t2\n",
        b"chr1\t4\t9\tpeak_1\t0\t.\t4\t2\n",
        "1 line that makes no record was left out: 3 (line 3: 4 columns, but the heading names 5)",
    ),
    (
        "ucsc_table",
        b"NM_0\tchr1\n" + GENE + GENE.replace(b"900,", b"9x0,"),
        b"chr1\t100\t900\tNM_1\t0\t-\t150\t800\t0\t1\t800\t0\t.\n",
        "2 lines that make no records were left out: 1, 3 (line 1: 2 columns",
    ),
    (
        "ucsc_table",
        REPEAT % (700, 900) + REPEAT % (900, 700) + b"not one\n",
        b"chr1\t699\t900\tL3\t0\t+\t239\t29.4\t1.9\t1.0\t(9)\tLINE/CR1\t1\t201\t(1)\t7\n",
        "2 lines that make no records were left out: 2, 3 (line 2: '900' to '700' is no interval)",
    ),
]


@pytest.mark.parametrize(("file_format", "source", "records", "note"), TABLES)
async def test_bad_lines_of_tables_are_left_out_and_named(
    process: Process, skipping: ProcessorRegistry, file_format: str, source: bytes, records: bytes, note: str
) -> None:
    made = await process(source, file_format, using=skipping)
    assert made.failure is None, made.failure
    text = gzip.decompress(made.produced(Kind.DATA).path.read_bytes())
    assert b"".join(line for line in text.splitlines(keepends=True) if line[:1] != b"#") == records
    assert note in made.notes
    assert made.counts["bad_lines"] == int(note.split(maxsplit=1)[0])
    refused = await process(source, file_format)
    assert refused.failure is not None
    assert refused.failure.detail in made.notes


async def test_what_has_no_place_for_certain_is_left_out_of_wiggle(
    process: Process, skipping: ProcessorRegistry
) -> None:
    source = (
        b"fixedStep chrom=c start=1 step=10\n1\nnull\n3\n"  # 3: a word in place of a value
        b"fixedStep chrom=c start=101 step=x\n4\n5\n"  # 5 to 7: nobody knows where they lie
        b"variableStep chrom=d\n5 1\n6 x\n7 2\n"  # 10
        b"fixedStep chrom=e start=1 step=1\n1\ntwo words\n3\n"  # 14 and 15: how many values it stands for
        b"track type=bedGraph\ne 50 60 1\ne 70 60 1\ne 60 70 z\n"  # 18, 19
    )
    made = await process(source, "wig", using=skipping)
    assert made.failure is None, made.failure
    opened = pyBigWig.open(made.data)
    found = {name: [tuple(row) for row in opened.intervals(name)] for name in opened.chroms()}
    opened.close()
    assert found == {
        "c": [(0, 1, 1), (20, 21, 3)],
        "d": [(4, 5, 1), (6, 7, 2)],
        "e": [(0, 1, 1), (50, 60, 1)],
    }
    assert made.counts["bad_lines"] == 9
    assert "left out: 3, 5, 6, 7, 10, 14, 15, 18, 19 (line 3: the value 'null' is no number)" in made.notes


async def test_values_of_bedgraph_that_are_none_are_left_out_and_named(
    process: Process, skipping: ProcessorRegistry
) -> None:
    source = b"c\t5\t9\t1\nc\t9\t12\tx\nc\t12\t15\nc\t16\t15\t1\nd\t1\t2\t1_0\n"
    made = await process(source, "bedgraph", using=skipping)
    assert made.failure is None, made.failure
    opened = pyBigWig.open(made.data)
    assert {name: opened.intervals(name) for name in opened.chroms()} == {"c": ((5, 9, 1.0),)}
    opened.close()
    assert made.counts["bad_lines"] == 4
    assert "1 line that makes no record was left out: 4" in made.notes
    assert "3 records whose values are no numbers were left out: c:9-12, c:12-15, d:1-2" in made.notes


@pytest.mark.parametrize(
    ("file_format", "good", "bad", "words"),
    [
        ("seg", SEG + b"s\tchr1\t5\t9\t1\n", b"s\tchr1\t5\tx\t1\n", "the first of them line 3: 'x' is no"),
        ("bedgraph", b"c\t5\t9\t1\n", b"c\t5\t9\tx\n", "more than 100 records without a value"),
        ("wig", b"variableStep chrom=c\n5 1\n", b"5 x\n", "the first of them line 3: the value 'x'"),
    ],
)
async def test_more_bad_lines_than_mistakes_refuse_the_file(
    process: Process, skipping: ProcessorRegistry, file_format: str, good: bytes, bad: bytes, words: str
) -> None:
    most = await process(good + bad * 100, file_format, using=skipping)
    assert most.failure is None, most.failure
    assert most.counts["bad_lines"] == 100
    more = await process(good + bad * 101, file_format, using=skipping)
    assert more.failure is not None
    assert more.failure.reason is Reason.SOURCE_INVALID
    assert words in more.failure.detail


@pytest.mark.parametrize(
    ("file_format", "source", "words"),
    [
        ("seg", SEG + b"s\tchr1\t5\tx\t1\n", "line 2: 'x' is no position"),
        ("seg", b"a\tb\tc\td\te\ns\tchr1\t5\t9\t1\n", "are not known"),
        ("wig", b"variableStep chrom=c\n5 x\n", "line 2: the value 'x' is no number"),
        ("bedgraph", b"c\t5\t9\tx\n", "no record has a value, the first is c:5-9"),
    ],
)
async def test_a_file_of_bad_lines_alone_is_refused(
    process: Process, skipping: ProcessorRegistry, file_format: str, source: bytes, words: str
) -> None:
    made = await process(source, file_format, using=skipping)
    assert made.failure is not None
    assert words in made.failure.detail
