"""Damaged files of every format, a few of each: `python benchmarks/corruption.py` tries a thousand."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

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
    path = Path(__file__).parents[3] / "benchmarks" / "corruption.py"
    spec = importlib.util.spec_from_file_location("corruption", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["corruption"] = module
    spec.loader.exec_module(module)
    return module


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
