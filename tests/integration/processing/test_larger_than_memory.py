"""Files five and more times larger than the memory given: a hundredth of what benchmarks/large.py does."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from tests.benchmark_modules import load_benchmark

MEMORY = 40 << 20
PYTHON_ITSELF_MB = 64
"""The interpreter that runs the steps, with what it imports; the kernel and samtools have MEMORY."""


@pytest.fixture(scope="module")
def large() -> ModuleType:
    return load_benchmark("large")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("bed_bytes", "bam_bytes"), [(200_000_000, 0), (0, 100_000_000)], ids=["bed", "bam"])
def test_it_is_sorted_within_the_memory_and_right(
    large: ModuleType, tmp_path: Path, bed_bytes: int, bam_bytes: int
) -> None:
    (row,) = large.run(bed_bytes, bam_bytes, MEMORY, tmp_path, regions=8)
    assert row.wrong == []
    assert row.source_mb >= 0.98 * (bed_bytes + bam_bytes) / 1e6
    assert row.largest_mb <= max(row.memory_mb, PYTHON_ITSELF_MB)
    # Spilled runs stood on the disk beside the result.
    assert row.scratch_mb > 1.5 * row.result_mb
    assert list(tmp_path.iterdir()) == []
