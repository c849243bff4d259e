"""How large a worker an attempt gets."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import ALL, BAM, BED
from gooseherd.domain.job import JobId, WorkerId
from gooseherd.domain.ports.fleet import Shortage, WorkerNeed
from gooseherd.domain.worker_size import WorkerSize
from gooseherd.fleet.sizes import (
    FARGATE_MEMORY_MIB,
    SizeBounds,
    limit_reached,
    size_for,
    smallest,
)

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


def after(*reasons: Reason, source_format=BAM, size=0, worker: str | None = None) -> WorkerNeed:
    on = None if worker is None else WorkerId(worker)
    return replace(need(source_format, size), shortages=tuple(Shortage(reason, on) for reason in reasons))


def test_what_ran_out_of_memory_gets_twice_as_much_and_no_other_disk() -> None:
    assert size_for(after(Reason.OUT_OF_MEMORY), SizeBounds()) == WorkerSize(1024, 4096, 21)
    twice = after(Reason.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY)
    assert size_for(twice, SizeBounds()) == WorkerSize(1024, 8192, 21)


def test_what_ran_out_of_disk_gets_the_next_disk_and_no_other_memory() -> None:
    assert size_for(after(Reason.OUT_OF_DISK), SizeBounds()) == WorkerSize(1024, 2048, 50)
    both = after(Reason.OUT_OF_DISK, Reason.OUT_OF_MEMORY, Reason.OUT_OF_DISK)
    assert size_for(both, SizeBounds()) == WorkerSize(1024, 4096, 100)


def test_more_memory_may_need_more_cpu() -> None:
    thrice = after(*[Reason.OUT_OF_MEMORY] * 3)
    assert size_for(thrice, SizeBounds()) == WorkerSize(2048, 16384, 21)


def test_the_next_size_is_larger_than_the_warm_worker_that_was_too_small() -> None:
    known = {WorkerId("w"): WorkerSize(2048, 6144, 100)}
    assert size_for(after(Reason.OUT_OF_MEMORY, worker="w"), SizeBounds(), known).memory_mib >= 12288
    assert size_for(after(Reason.OUT_OF_DISK, worker="w"), SizeBounds(), known).disk_gib == 200
    assert size_for(after(Reason.OUT_OF_DISK, worker="forgotten"), SizeBounds(), known).disk_gib == 50


@pytest.mark.parametrize(
    ("reason", "bounds", "expected"),
    [
        (Reason.OUT_OF_MEMORY, {"most_memory_mib": 2048}, "2048 MiB (ECS_WORKER_MAX_MEMORY_MIB)"),
        (
            Reason.OUT_OF_MEMORY,
            {"most_cpu": 1024, "least_memory_mib": 8192},
            "8192 MiB (ECS_WORKER_MAX_CPU)",
        ),
        (Reason.OUT_OF_DISK, {"most_disk_gib": 21}, "21 GiB (ECS_WORKER_MAX_DISK_GIB)"),
    ],
)
def test_where_there_is_no_larger_size_the_setting_in_its_way_is_named(reason, bounds, expected) -> None:
    given_bounds = SizeBounds(**bounds)
    wanted = after(reason)
    result = limit_reached(wanted, given_bounds)
    assert result is not None
    assert expected in result
    assert size_for(wanted, given_bounds) == size_for(need(size=0), given_bounds)


def test_while_there_is_a_larger_size_no_limit_is_reached() -> None:
    for reason in (Reason.OUT_OF_MEMORY, Reason.OUT_OF_DISK):
        assert limit_reached(after(reason), SizeBounds()) is None
    assert limit_reached(need(), SizeBounds(most_memory_mib=2048)) is None
    # Less than twice as much is still more.
    assert size_for(after(Reason.OUT_OF_MEMORY), SizeBounds(most_memory_mib=3072)).memory_mib == 3072


@given(
    st.lists(st.sampled_from([Reason.OUT_OF_MEMORY, Reason.OUT_OF_DISK]), max_size=12),
    st.integers(0, 1 << 38),
)
def test_each_shortage_gives_more_of_that_and_less_of_nothing_or_a_limit_is_named(reasons, size) -> None:
    earlier = size_for(need(BED, size), SizeBounds())
    for at in range(len(reasons)):
        wanted = after(*reasons[: at + 1], source_format=BED, size=size)
        later = size_for(wanted, SizeBounds())
        assert later.memory_mib in FARGATE_MEMORY_MIB[later.cpu]
        assert later.covers(earlier)
        assert (later == earlier) == (limit_reached(wanted, SizeBounds()) is not None)
        earlier = later


@pytest.mark.parametrize("source_format", ALL, ids=lambda known: known.name)
def test_a_small_file_of_every_format_fits_a_worker_that_is_kept_ready(source_format) -> None:
    for bounds in (SizeBounds(), SizeBounds(least_cpu=512, least_memory_mib=1024, least_disk_gib=50)):
        kept = smallest(bounds)
        assert kept == size_for(need(source_format, 20 * 1024), bounds)
        assert kept.covers(size_for(need(source_format, GIB - 1), bounds))
