"""Generated files against htslib and gffread, a few of each format (see benchmarks/differential.py)."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.benchmark_modules import load_benchmark

FORMATS = ("vcf", "bed", "gff3", "gtf", "bam", "gff", "narrowpeak", "broadpeak", "sam")
EACH = 4


@pytest.fixture(scope="module")
def differential() -> ModuleType:
    return load_benchmark("differential")


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_is_made_of_a_generated_file_answers_as_htslib_does(
    differential: ModuleType, file_format: str, needs: Any
) -> None:
    needs("gffread", "samtools", "bgzip", "tabix")
    tally = differential.share(file_format, seed=4, numbers=range(EACH), keep=None)
    assert tally.unexplained == []
    assert tally.files == EACH


def test_the_same_seed_makes_the_same_files(differential: ModuleType) -> None:
    for name in FORMATS:
        one, again = (differential.generate(name, 5, 7) for _ in range(2))
        assert (one.source, one.lines) == (again.source, again.lines)


def test_what_tells_a_wrong_artifact_from_a_right_one_can_tell(
    differential: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge is tried: an artifact of another file, and one whose records were changed on the way."""
    generate = differential.generate
    sound = generate("bed", 5, 4)
    assert sound.lines

    def changed(*_: object) -> Any:
        return differential.Generated("bed", sound.source, sound.about, [*sound.lines[:-1], b"c\t1\t2"])

    monkeypatch.setattr(differential, "generate", changed)
    tally = differential.share("bed", seed=5, numbers=[4], keep=tmp_path / "kept")
    assert "are not those of the source" in tally.unexplained[0]
    assert (tmp_path / "kept" / "bed-5-4").read_bytes() == sound.source
