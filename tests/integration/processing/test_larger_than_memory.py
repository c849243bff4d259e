"""Files five and more times larger than the memory given: a hundredth of what benchmarks/large.py does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
MEMORY = 40 << 20
PYTHON_ITSELF_MB = 64
"""The interpreter that runs the steps, with what it imports; the kernel and samtools have MEMORY."""


@pytest.fixture(scope="module")
def large() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("large", BENCHMARKS / "large.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules["large"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


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
