"""What the steps make of the table of oddities, what the manifest says of it, what an index finds in it."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import pysam
import pytest
from backports import zstd
from tests.oddities import (
    BED,
    COUNT_WORDS,
    MENDED,
    REFUSED,
    STEP,
    UNSORTED_BED,
    VCF,
    Mended,
    Refused,
    rows_of,
    v,
)

from gooseherd.domain.failures import Reason

Process = Callable[..., Awaitable[Any]]
Tool = Callable[..., bytes]


@pytest.mark.parametrize("row", rows_of(STEP, MENDED))
async def test_what_can_be_put_right_is_and_the_manifest_says_so(
    process: Process, tool: Tool, row: Mended
) -> None:
    made = await process(row.source, row.file_format)
    assert made.failure is None, made.failure
    text = tool("bgzip", "-dc", made.data)
    assert text == row.text
    records = [line for line in row.text.decode("latin-1").splitlines() if not line.startswith("#")]
    counts = {what: n for what, n in made.counts.items() if what != "max_end"}
    assert counts == {"records": len(records), **row.counts}
    expected = [*(COUNT_WORDS[what] for what in row.counts), row.note]
    assert [words for words in expected if words not in made.notes] == []
    assert bool(made.notes) == any(expected)
    assert made.index.endswith(".csi" if row.csi else ".tbi")
    assert ("Gosling cannot read CSI" in made.notes) == row.csi
    assert answered(made.data, made.index, records) == records
    if not records:
        with pysam.TabixFile(made.data, index=made.index) as opened:
            assert opened.contigs == []


def answered(data: str, index: str, records: list[str]) -> list[str]:
    """All sequences, one after the other, through the index."""
    found = []
    with pysam.TabixFile(data, index=index, encoding="latin-1") as opened:
        for name in dict.fromkeys(record.split("\t")[0] for record in records):
            quoted = f"{{{name}}}" if ":" in name else name
            found += list(opened.fetch(region=quoted))
    return found


@pytest.mark.parametrize("row", rows_of(STEP, REFUSED))
async def test_what_cannot_be_put_right_is_refused_and_the_reason_says_why(
    process: Process, row: Refused
) -> None:
    made = await process(row.source, row.file_format)
    assert made.failure is not None, "it was accepted"
    assert made.failure.reason is Reason.SOURCE_INVALID, made.failure
    assert row.words in made.failure.detail
    if row.line is not None:
        assert f"line {row.line}: " in made.failure.detail


async def test_a_hundred_thousand_sequences_are_all_found(process: Process) -> None:
    names = 100_000
    made = await process(b"".join(b"s%d\t%d\t%d\n" % (i * 37 % names, i, i + 1) for i in range(names)), "bed")
    assert made.counts["records"] == names
    assert len(made.outputs[0].contigs) == names
    with pysam.TabixFile(made.data, index=made.index) as opened:
        assert len(opened.contigs) == names
        assert [len(list(opened.fetch(f"s{i}"))) for i in range(0, names, 9973)] == [1] * 11


async def test_a_name_that_lies_about_the_packing_changes_nothing(process: Process, tool: Tool) -> None:
    for source, name in (
        (gzip.compress(UNSORTED_BED), "x.bed"),
        (UNSORTED_BED, "x.bed.gz"),
        (UNSORTED_BED, "x.vcf.bz2"),
        (zstd.compress(UNSORTED_BED), "x.bed.zst"),
    ):
        made = await process(source, "bed", filename=name)
        assert tool("bgzip", "-dc", made.data) == BED


async def test_a_deletion_is_found_by_its_end(process: Process) -> None:
    made = await process(VCF + v("5", "END=900", alt="<DEL>"), "vcf")
    with pysam.TabixFile(made.data, index=made.index) as opened:
        assert len(list(opened.fetch("chr1", 800, 850))) == 1


async def test_what_tabix_cannot_find_by_design_does_not_count_as_a_broken_index(process: Process) -> None:
    # Nothing overlaps an interval that begins and ends at 0.
    made = await process(b"chr1\t0\t0\nchr2\t5\t6\n", "bed")
    with pysam.TabixFile(made.data, index=made.index) as opened:
        assert opened.contigs == ["chr1", "chr2"]


async def test_empty_items_of_a_bigbed_are_kept_wherever_they_lie(
    process: Process, tool: Tool, bigbed: Callable[..., bytes]
) -> None:
    items = [("c1", 0, 0, "a"), ("c1", 0, 9, "b"), ("c2", 7, 7, "c"), ("c2", 1_000_000, 1_000_000, "d")]
    made = await process(bigbed(items), "bigbed")
    assert made.failure is None, made.failure
    text = b"c1\t0\t0\ta\nc1\t0\t9\tb\nc2\t7\t7\tc\nc2\t1000000\t1000000\td\n"
    assert tool("bgzip", "-dc", made.data) == text
