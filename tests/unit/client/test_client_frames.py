"""Records as tables: which columns there are, and of what type, whatever the region has."""

from __future__ import annotations

import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pytest

from gooseherd.client.frames import frame_of, signal_table, table_of
from gooseherd.domain import formats
from gooseherd.domain.formats import Format

PEAK = "chr1\t9\t20\tp\t5\t.\t1.5\t-1\t-1\t4"
READ = "r\t0\tchr1\t5\t60\t4M\t*\t0\t0\tACGT\tIIII\tNM:i:0"
GENE = "chr1\tx\tgene\t5\t90\t.\t+\t.\tID=g"
CALL = "chr1\t7\t.\tA\tG\t.\tPASS\t.\tGT\t0/1"
TITLES = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t"


@pytest.mark.parametrize(
    ("format_", "line", "header"),
    [
        (formats.NARROWPEAK, PEAK, []),
        (formats.BAM, READ, []),
        (formats.GFF3, GENE, []),
        (formats.VCF, CALL, [f"{TITLES}NA1"]),
    ],
    ids=lambda one: one.name if isinstance(one, Format) else "",
)
def test_an_empty_region_has_the_columns_and_types_of_any_other(
    format_: Format, line: str, header: list[str]
) -> None:
    empty, full = table_of(format_, [], header), table_of(format_, [line], header)
    nothing, something = frame_of("polars", empty), frame_of("polars", full)
    assert nothing.schema == something.schema
    assert len(pl.concat([nothing, something, nothing])) == 1
    nothing, something = frame_of("pandas", empty), frame_of("pandas", full)
    assert list(nothing.columns) == list(something.columns)
    numbers = something.select_dtypes("number").columns
    assert list(nothing.dtypes[numbers]) == list(something.dtypes[numbers])
    assert len(pd.concat([nothing, something])) == 1


def test_numbers_that_are_missing_everywhere_are_still_numbers() -> None:
    table = table_of(formats.GFF3, [GENE])
    assert frame_of("pandas", table)["score"].dtype == "float64"
    assert frame_of("polars", table).schema["phase"] == pl.Float64


def test_a_bed_has_as_many_columns_as_its_records() -> None:
    table = table_of(formats.BED, ["chr1\t1\t5\tx", "chr1\t2\t6"])
    assert frame_of("polars", table).rows() == [("chr1", 1, 5, "x"), ("chr1", 2, 6, None)]


def test_a_sample_that_is_called_as_a_column_does_not_take_its_place() -> None:
    row = frame_of("polars", table_of(formats.VCF, [CALL + "\t1/1"], [f"{TITLES}ref\tstart"])).row(
        0, named=True
    )
    assert (row["ref"], row["start"], row["ref_sample"], row["start_sample"]) == ("A", 6, "0/1", "1/1")


def test_the_values_of_a_signal_are_numbers_where_there_are_none() -> None:
    assert frame_of("polars", signal_table("chr1", [])).schema["value"] == pl.Float64
    assert frame_of("pandas", signal_table("chr1", [(0, 5, 1.5)])).to_dict("list") == {
        "chrom": ["chr1"],
        "start": [0],
        "end": [5],
        "value": [1.5],
    }
