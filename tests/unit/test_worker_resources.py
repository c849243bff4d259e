"""What a worker knows of its size, on machines and in containers of every kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gooseherd.domain.quantities import tool_threads
from gooseherd.processing.tools.limits import ToolLimits, sort_memory, tool_memory
from gooseherd.worker.resources import cores, memory_bytes, oom_kills, tool_limits, with_machine_sizes
from gooseherd.worker.settings import WorkerSettings

GIB = 1 << 30
V1_WITHOUT_LIMIT = "9223372036854771712"


@pytest.fixture
def machine(tmp_path: Path):
    """A root folder with such files; memory is told as 8 GiB."""

    def make(files: dict[str, str], cgroup: str = "") -> Path:
        for name, text in {
            "proc/meminfo": "MemTotal:        8388608 kB\nMemFree: 1 kB\n",
            "proc/self/cgroup": cgroup,
            **files,
        }.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def test_a_machine_without_limits_has_what_it_has(machine) -> None:
    assert memory_bytes(machine({"sys/fs/cgroup/memory.max": "max\n"}, "0::/\n")) == 8 * GIB


def test_the_tightest_of_nested_groups_counts(machine) -> None:
    files = {
        "sys/fs/cgroup/a/memory.max": str(2 * GIB),
        "sys/fs/cgroup/a/b/memory.max": str(3 * GIB),
        "sys/fs/cgroup/memory.max": "max\n",
    }
    assert memory_bytes(machine(files, "0::/a/b\n")) == 2 * GIB


def test_the_older_groups_are_read_too(machine) -> None:
    files = {"sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": str(GIB)}
    assert memory_bytes(machine(files, "4:memory:/docker/x\n0::/\n")) == GIB


def test_inside_a_container_of_the_older_kind_the_path_is_the_hosts(machine) -> None:
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(GIB),
        "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    }
    root = machine(files, "4:cpu,memory:/docker/not-visible\n")
    assert memory_bytes(root) == GIB
    assert oom_kills(root) == 3


def test_no_limit_of_the_older_kind_is_a_large_number(machine) -> None:
    files = {"sys/fs/cgroup/memory/memory.limit_in_bytes": V1_WITHOUT_LIMIT}
    assert memory_bytes(machine(files, "4:memory:/\n")) == 8 * GIB


def test_kills_are_counted_in_our_group(machine) -> None:
    files = {"sys/fs/cgroup/a/memory.events": "low 0\noom 2\noom_kill 1\n", "proc/vmstat": "oom_kill 9\n"}
    assert oom_kills(machine(files, "0::/a\n")) == 1


def test_where_no_group_tells_the_machines_count_does(machine) -> None:
    assert oom_kills(machine({"proc/vmstat": "pgfault 5\noom_kill 9\n"}, "0::/\n")) == 9


def test_a_machine_that_tells_nothing_is_no_error(tmp_path) -> None:
    assert oom_kills(tmp_path) == 0
    assert memory_bytes(tmp_path) == 0
    assert tool_memory(0) is None


def test_this_machine_tells_how_much_it_has() -> None:
    assert memory_bytes() > 1 << 20


@pytest.mark.parametrize(
    ("worker", "cap", "tool"),
    [
        (2 * GIB, 256 << 20, 2 * GIB - (256 << 20)),
        (64 * GIB, 256 << 20, 64 * GIB - (256 << 20)),
        (512 << 20, 100 << 20, 256 << 20),
        (2 * GIB, 4 * GIB, 6 * GIB),
    ],
)
def test_a_tool_gets_what_the_worker_leaves_and_never_less_than_its_cap_needs(worker, cap, tool) -> None:
    assert tool_memory(worker, cap) == tool


def test_the_workers_size_becomes_the_limit_of_each_tool() -> None:
    settings = WorkerSettings(memory=4 * GIB)
    assert tool_limits(settings).memory_bytes == 4 * GIB - (256 << 20)


@pytest.mark.parametrize("worker", [512 << 20, GIB, 2 * GIB, 4 * GIB, 120 * GIB])
def test_what_a_tool_is_told_to_sort_in_follows_the_workers_size_and_fits_its_limit(worker) -> None:
    share = with_machine_sizes(WorkerSettings(memory=worker)).sort_memory
    assert tool_memory(worker, share) == max(worker - (256 << 20), worker // 2)
    assert share == with_machine_sizes(WorkerSettings(memory=worker)).samtools_memory
    assert share >= worker // 3


def test_what_the_settings_say_stands() -> None:
    result = WorkerSettings(memory=4 * GIB, sort_memory=100 << 20, samtools_memory=200 << 20, threads=7)
    assert with_machine_sizes(result) == result


def test_nothing_known_of_the_machine_leaves_a_little_memory() -> None:
    assert sort_memory(0) == 256 << 20


@pytest.mark.parametrize(
    ("quota", "cores_of_ours"),
    [("max 100000", None), ("150000 100000", 2), ("100000 100000", 1), ("5000 100000", 1), ("", None)],
)
def test_a_share_of_time_counts_as_cores(machine, quota, cores_of_ours) -> None:
    root = machine({"sys/fs/cgroup/a/cpu.max": quota + "\n"}, "0::/a\n")
    here = len(os.sched_getaffinity(0))
    assert cores(root) == min(here, cores_of_ours or here)


def test_a_tool_has_a_thread_for_each_core_and_two_at_least() -> None:
    assert [tool_threads(cores) for cores in (0, 1, 2, 5, 1000)] == [2, 2, 2, 5, 64]
    assert with_machine_sizes(WorkerSettings()).threads == tool_threads(cores())


def test_processes_are_limited_only_where_the_tools_are_alone() -> None:
    limits = ToolLimits(memory_bytes=GIB, open_files=100, processes=50)
    shared, alone = limits.command(10, alone=False), limits.command(10, alone=True)
    assert {"--core=0", "--fsize=10", "--nofile=100", f"--data={GIB}"} <= set(shared)
    assert set(alone) - set(shared) == {"--nproc=50"}


def test_no_limit_is_set_above_what_this_process_may_set() -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert f"--nofile={hard}" in ToolLimits(open_files=hard + 1).command(10, alone=False)


def test_a_tool_may_use_the_attempts_wall_time_on_each_of_its_threads() -> None:
    settings = WorkerSettings(threads=3)
    assert tool_limits(settings, wall_seconds=100.5).cpu_seconds == 302
    assert tool_limits(settings).cpu_seconds is None
