"""How large a worker an attempt gets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.formats import ALL, BAM, BED
from gooseherd.domain.job import JobId
from gooseherd.domain.ports import WorkerNeed
from gooseherd.fleet.sizes import FARGATE_MEMORY_MIB, SizeBounds, WorkerSize, size_for

GIB = 1 << 30


def need(source_format=BAM, size=None) -> WorkerNeed:
    return WorkerNeed(AttemptId(JobId("j"), 1), source_format, size)


@given(
    st.sampled_from(ALL),
    st.none() | st.integers(0, 1 << 50),
    st.sampled_from(sorted(FARGATE_MEMORY_MIB)),
    st.integers(512, 122880),
    st.integers(21, 200),
)
def test_every_size_is_one_that_fargate_has_and_within_bounds(source_format, size, cpu, memory, disk) -> None:
    try:
        bounds = SizeBounds(
            least_cpu=256, most_cpu=cpu, least_memory_mib=512, most_memory_mib=memory, most_disk_gib=disk
        )
    except Misconfigured:
        return
    got = size_for(need(source_format, size), bounds)
    assert got.memory_mib in FARGATE_MEMORY_MIB[got.cpu]
    assert got.cpu <= cpu
    assert got.memory_mib <= memory
    assert 21 <= got.disk_gib <= disk


def test_a_larger_source_never_gets_a_smaller_worker() -> None:
    sizes = [size_for(need(BAM, size), SizeBounds()) for size in (0, GIB, 5 * GIB, 20 * GIB, 100 * GIB)]
    assert all(later.covers(earlier) for earlier, later in pairwise(sizes))
    assert sizes[0] == WorkerSize(1024, 2048, 21)
    assert sizes[-1] == WorkerSize(4096, 8192, 200)


def test_a_source_of_unsaid_size_gets_what_the_bounds_suppose() -> None:
    bounds = SizeBounds(unknown_source_bytes=3 * GIB)
    assert size_for(need(BED, None), bounds) == size_for(need(BED, 3 * GIB), bounds)


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        ({"most_disk_gib": 201}, "ECS_WORKER_MAX_DISK_GIB"),
        ({"least_disk_gib": 100, "most_disk_gib": 50}, "ECS_WORKER_MAX_DISK_GIB"),
        ({"least_cpu": 4096, "most_cpu": 4096, "most_memory_mib": 4096}, "ECS_WORKER_MAX_CPU"),
    ],
)
def test_bounds_that_nothing_meets_are_refused_by_name(wrong, setting) -> None:
    with pytest.raises(Misconfigured) as error:
        SizeBounds(**wrong)
    assert error.value.setting == setting
