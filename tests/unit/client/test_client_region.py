"""Regions as people write them."""

import pytest

from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.region import Region, parse_region


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("chr1", Region("chr1")),
        ("chr1:1000-2000", Region("chr1", 999, 2000)),
        ("chr1:1,000-2,000", Region("chr1", 999, 2000)),
        ("chr1:1000", Region("chr1", 999)),
        ("chr1:1000-", Region("chr1", 999)),
        ("HLA-A*01:01:01:5-9", Region("HLA-A*01:01:01", 4, 9)),
        ("{HLA:01}:5-9", Region("HLA:01", 4, 9)),
        ("{HLA:01}", Region("HLA:01")),
        ("a:b", Region("a:b")),
        ("22:1-1", Region("22", 0, 1)),
    ],
)
def test_a_region_is_read_as_samtools_reads_it(text: str, region: Region) -> None:
    assert parse_region(text) == region


@pytest.mark.parametrize("text", ["", ":1-2", "chr1:0-5", "chr1:9-5", "{chr1}x", "{chr1}:a-b"])
def test_what_is_no_region_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_region(text)


@pytest.mark.parametrize("region", [Region("c"), Region("c", 5), Region("c", 5, 9)])
def test_a_region_is_written_as_it_is_read(region: Region) -> None:
    assert parse_region(str(region)) == region


def test_touching_is_not_overlapping() -> None:
    region = Region("c", 10, 20)
    assert [region.overlaps("c", a, b) for a, b in ((0, 10), (0, 11), (19, 30), (20, 30))] == [
        False, True, True, False,
    ]  # fmt: skip
    assert not region.overlaps("d", 10, 20)
