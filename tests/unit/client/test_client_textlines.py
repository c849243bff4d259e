"""Where text lines lie is where htslib says; a long line is taken in pieces."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pysam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gooseherd.client import Region
from gooseherd.client.textlines import BadLine, place, split_lines
from gooseherd.domain.genome_index import Columns, GenomeIndex

relaxed = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


def tabix(path: Path, rows: Iterable[str], **how: Any) -> tuple[Path, Path]:
    """Text, compressed and indexed by htslib."""
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    packed = path.with_name(f"{path.name}.gz")
    pysam.tabix_compress(str(path), str(packed), force=True)
    pysam.tabix_index(str(packed), force=True, **how)
    return packed, packed.with_name(f"{packed.name}.tbi")


def same_as_tabix(rows: list[str], data: Path, index: Path, regions: Iterable[Region]) -> None:
    pysam.set_verbosity(0)
    opened_index = GenomeIndex(index.read_bytes())
    columns = opened_index.columns
    assert columns is not None
    places = [place(row.encode(), columns) for row in rows]
    with pysam.TabixFile(str(data), index=str(index), encoding="utf-8") as opened:
        for region in regions:
            expected = list(opened.fetch(region.contig, region.start, region.end))
            found = [
                row
                for row, (name, start, end) in zip(rows, places, strict=True)
                if region.overlaps(name.decode(), start, end)
            ]
            assert found == expected, region
            assert not expected or opened_index.chunks(0, region.start, region.end)


ALTERNATIVES = [
    "A",
    "<DEL>",
    "<DEL:ME>",
    "<DUP>",
    "<INS>",
    "<CNV:TR>",
    "<INV>",
    "<*>",
    "<NON_REF>",
    "<DELX>",
    "*",
    ".",
]
INFO = st.lists(
    st.sampled_from(
        ["END=12", "END=1500", "END=.", "END=70000", "SVLEN=-900", "SVLEN=40000", "SVLEN=5,-80000", "SVLEN=.",
         "XEND=9000", "DP=7", "A=1,2,99999", "SVLEN=3,x,7000"]
    ),
    max_size=3,
)  # fmt: skip
SAMPLES = st.sampled_from(
    ["", "\tGT\t0/1", "\tGT:LEN\t0/1:5000\t./.:200", "\tLEN\t30000\t.", "\tGT:DP:LEN\t0/1"]
)
VARIANT = st.builds(
    lambda start, ref, alts, info, samples: (
        start,
        f"c1\t{start}\t.\t{ref}\t{','.join(alts)}\t.\t.\t{';'.join(info) or '.'}{samples}",
    ),
    st.integers(1, 100_000),
    st.sampled_from(["A", "ACG", "A" * 300]),
    st.lists(st.sampled_from(ALTERNATIVES), min_size=1, max_size=3),
    INFO,
    SAMPLES,
)


@relaxed
@given(st.lists(VARIANT, min_size=1, max_size=12), st.integers(0, 130_000), st.integers(1, 3000))
def test_variants_reach_as_far_as_tabix_says(
    tmp_path: Path, variants: list[tuple[int, str]], start: int, width: int
) -> None:
    rows = [line for _, line in sorted(variants, key=lambda item: item[0])]
    data, index = tabix(tmp_path / "a.vcf", rows, preset="vcf")
    edges = {
        start,
        *(int(row.split("\t")[1]) + by for row in rows for by in (-1, 0, 299, 4999, 39_999, 79_999)),
    }
    regions = [Region("c1", max(edge, 0), max(edge, 0) + width) for edge in sorted(edges)]
    same_as_tabix(rows, data, index, [Region("c1"), *regions])


@relaxed
@given(
    st.lists(st.tuples(st.integers(0, 90_000), st.integers(0, 40_000)), min_size=1, max_size=20),
    st.booleans(),
    st.sampled_from([(0, 1, 2), (2, 0, 1), (1, 2, 2), (3, 1, 0)]),
    st.integers(0, 130_000),
)
def test_columns_lie_where_the_index_says(
    tmp_path: Path,
    spans: list[tuple[int, int]],
    zero: bool,
    columns: tuple[int, int, int],
    at: int,
) -> None:
    name, begin, end = columns
    rows = []
    for start, width in sorted(spans):
        row = ["x"] * 4
        row[name] = "c1"
        row[end], row[begin] = str(start + width + 1), str(start + (not zero))
        rows.append("\t".join(row))
    data, index = tabix(
        tmp_path / "a.txt", rows, seq_col=name, start_col=begin, end_col=end, zerobased=zero, meta_char="#"
    )
    same_as_tabix(
        rows, data, index, [Region("c1", start, start + 7) for start in (at, *(s for s, _ in spans))]
    )


PLAIN = Columns(preset=0, zero_based=True, name=1, begin=2, end=3, comment=b"#")


@pytest.mark.parametrize(
    "line", [b"", b"c1", b"c1\t5", b"c1\tfive\t9", b"c1\t5\t", b"c1\t5\tx", b"c1\t5\t-9"]
)
def test_a_line_without_its_place_is_told(line: bytes) -> None:
    columns = PLAIN
    if line == b"c1\t5":
        assert place(line, columns) == (b"c1", 5, 6)  # as htslib has it
        return
    with pytest.raises(BadLine):
        place(line, columns)


def test_numbers_as_c_reads_them() -> None:
    assert place(b"c1\t0x10\t 021z", PLAIN) == (b"c1", 16, 17)
    assert place(b"c1\t" + b"9" * 5000 + b"\t7", PLAIN)[2] == 7


@given(
    st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"").rstrip(b"\r"))),
    st.integers(1, 9),
)
def test_lines_are_the_same_however_they_arrive(lines: list[bytes], size: int) -> None:
    text = b"".join(line + b"\r\n" for line in lines)
    assert list(split_lines(text[at : at + size] for at in range(0, len(text), size))) == lines


def test_the_last_line_needs_no_end() -> None:
    assert list(split_lines([b"a\nb", b"c"])) == [b"a", b"bc"]


def test_a_line_without_an_end_does_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gooseherd.client.textlines.LINE_BYTES", 1000)
    with pytest.raises(BadLine, match="without an end"):
        list(split_lines(b"x" * 100 for _ in range(100)))
