"""Damaged files of every format, a few of each: `python benchmarks/corruption.py` tries a thousand."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType

import pytest
from tests.benchmark_modules import load_benchmark

from gooseherd.domain.artifact import Kind
from gooseherd.domain.formats import BED
from gooseherd.trial.inputs import make

FORMATS = (
    "bed", "narrowpeak", "broadpeak", "vcf", "gff", "gff3", "gtf", "bcf", "bigbed", "sam", "bam", "cram",
    "bigwig", "csv", "tsv",
)  # fmt: skip
EACH = 3


@pytest.fixture(scope="module")
def corruption() -> ModuleType:
    return load_benchmark("corruption")


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_damaged_source_is_made_right_or_refused_by_name(corruption: ModuleType, file_format: str) -> None:
    tally = corruption.trial(file_format, seed=3, numbers=range(EACH))
    assert tally.faults == []
    assert tally.otherwise == {}
    assert tally.made + tally.refused == EACH


def test_what_tells_a_wrong_artifact_from_a_right_one_can_tell(
    corruption: ModuleType, tmp_path: Path
) -> None:
    """The trial's own judge is tried: an index that belongs to other data."""
    pairs = []
    for salt, kept in (("one", None), ("two", 5000)):
        home = tmp_path / salt
        home.mkdir()
        source = make(BED, home, salt).path
        source.write_bytes(source.read_bytes()[:kept].rsplit(b"\n", 1)[0] + b"\n")
        pairs.append((source, *asyncio.run(corruption.run_steps(BED, source, home))))
    (source, parts, records), (other, others, _) = pairs
    corruption.judge(BED, source, parts, records)
    with pytest.raises(corruption.Wrong):
        corruption.judge(BED, source, {**parts, Kind.INDEX: others[Kind.INDEX]}, records)
    with pytest.raises(corruption.Wrong, match="reported"):
        corruption.judge(BED, source, parts, records + 1)
    with pytest.raises(corruption.Wrong, match="not those of the source"):
        corruption.judge(BED, other, parts, records)
