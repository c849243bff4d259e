"""The inputs of smoke: real files, the same for the same salt, read back by another library."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gooseherd.domain import formats
from gooseherd.domain.formats import Format
from gooseherd.trial import inputs
from gooseherd.trial.bigbed import write_bigbed
from gooseherd.trial.full_scan import comparable, scan


def test_there_is_an_input_of_every_format() -> None:
    assert set(inputs.FORMATS) == set(formats.ALL)


@pytest.mark.integration
@pytest.mark.parametrize("file_format", inputs.FORMATS, ids=lambda f: f.name)
def test_an_input_has_records_in_its_region_and_some_outside(file_format: Format, tmp_path: Path) -> None:
    made = inputs.make(file_format, tmp_path, "0a1b2c3d")
    assert formats.from_filename(made.path.name) is file_format
    assert list(tmp_path.iterdir()) == [made.path]
    if made.region is not None:
        found = scan(made.path, file_format, made.region)
        assert 10 < len(comparable(found, file_format)) <= len(found) < 400


@pytest.mark.parametrize(
    "file_format",
    [
        *(formats.SAM, formats.VCF, formats.BIGBED, formats.BIGWIG, formats.TSV),
        *(pytest.param(made, marks=pytest.mark.integration) for made in (formats.CRAM, formats.BCF)),
    ],
    ids=lambda f: f.name,
)
def test_the_salt_alone_makes_the_difference(file_format: Format, tmp_path: Path) -> None:
    made = []
    for number, salt in enumerate(("00000001", "00000001", "00000002")):
        folder = tmp_path / str(number)
        folder.mkdir()
        made.append(inputs.make(file_format, folder, salt).path.read_bytes())
    assert made[0] == made[1] != made[2]


def test_an_input_whose_tool_is_missing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(inputs.CannotMake, match="samtools is not installed"):
        inputs.make(formats.CRAM, tmp_path, "00000001")


@pytest.mark.parametrize("items_per_block", [64, 5])  # a tree of one level, and of two
def test_a_bigbed_is_read_back_by_another_library(tmp_path: Path, items_per_block: int) -> None:
    import pyBigWig

    chance = random.Random(3)
    items = [
        (contig, start, start + chance.randrange(1, 900), f"n{number}\t0\t+")
        for number in range(3_000)
        for contig in ("chr2", "chr1", "a-long-name")
        for start in [chance.randrange(1_000_000)]
    ]
    path = tmp_path / "x.bb"
    lengths = {"chr1": 1_001_000, "chr2": 1_001_000, "a-long-name": 1_001_000, "empty": 5}
    write_bigbed(path, lengths, sorted(items), columns=6, items_per_block=items_per_block)
    file = pyBigWig.open(str(path))
    try:
        assert (file.isBigBed(), file.chroms()) == (1, lengths)
        for contig, start, end in (
            ("chr1", 0, 1_001_000),
            ("chr2", 400_000, 410_000),
            ("a-long-name", 5, 600_000),
        ):
            wanted = sorted((s, e, rest) for c, s, e, rest in items if c == contig and e > start and s < end)
            assert sorted(file.entries(contig, start, end)) == wanted
    finally:
        file.close()


def test_a_bigbed_too_large_for_its_two_levels_is_refused(tmp_path: Path) -> None:
    items = (("c", n, n + 1, "") for n in range(65_537))
    with pytest.raises(ValueError, match="too many"):
        write_bigbed(tmp_path / "x.bb", {"c": 10**6}, items, items_per_block=1)


@pytest.mark.parametrize("items", [[("b", 1, 2, ""), ("a", 1, 2, "")], [("a", 2, 3, ""), ("a", 1, 2, "")]])
def test_items_of_a_bigbed_that_are_not_sorted_are_refused(
    tmp_path: Path, items: list[tuple[str, int, int, str]]
) -> None:
    with pytest.raises(ValueError, match="not sorted"):
        write_bigbed(tmp_path / "x.bb", {"a": 9, "b": 9}, items)
