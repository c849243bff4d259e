"""samtools sorts and the kernel packs: whichever ends badly, its reason is the one that is named."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.failures import Reason
from gooseherd.processing.registry import default_registry
from gooseherd.processing.tools.kernel import PROGRAM

Process = Callable[..., Awaitable[Any]]
Faulty = Callable[..., Any]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Some megabytes when they are sorted: more than a pipe holds."""
    chance = random.Random(5)
    lines = ["@HD\tVN:1.6", "@SQ\tSN:a\tLN:90000"]
    for n in range(20_000):
        sequence = "".join(chance.choices("ACGT", k=100))
        lines.append(f"r{n}\t0\ta\t{chance.randint(1, 80_000)}\t9\t100M\t*\t0\t0\t{sequence}\t{'I' * 100}")
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def faulty(tmp_path: Path, needs: Any) -> Faulty:
    """A registry for which one of the two is another program: what a shell makes of it, "$@" is its call."""
    kernel, samtools = needs(PROGRAM, "samtools")

    def make(sort: str = 'exec "$real" "$@"', pack: str = 'exec "$real" "$@"') -> Any:
        folder = tmp_path / "tools"
        folder.mkdir()
        for name, real, verb, line in (("samtools", samtools, "sort", sort), (PROGRAM, kernel, "pack", pack)):
            script = f'#!/bin/sh\nreal={real}\n[ "$1" = {verb} ] || exec "$real" "$@"\n{line}\n'
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)
        return default_registry(
            sort_memory=32 << 20,
            samtools_memory=64 << 20,
            threads=2,
            density=True,
            search_path=os.pathsep.join((str(folder), *os.get_exec_path())),
        )

    return make


HALF = '"$real" "$@" 2>/dev/null | head -c 300000'
CASES = {
    "both do": ({}, None, ""),
    "sort is killed": ({"sort": f"{HALF}; kill -9 $$"}, Reason.WORKER_LOST, "samtools sort was killed"),
    "sort is killed at once": ({"sort": "kill -9 $$"}, Reason.WORKER_LOST, "samtools sort was killed"),
    "sort finds its source cut": (
        {"sort": f"{HALF}; echo 'samtools sort: truncated file. Aborting' >&2; exit 1"},
        Reason.SOURCE_INVALID,
        "truncated or corrupt",
    ),
    "sort has no disk": (
        {"sort": f"{HALF}; echo 'fail to write: No space left on device' >&2; exit 1"},
        Reason.OUT_OF_DISK,
        "samtools sort ran out of disk space",
    ),
    "sort crashes": ({"sort": f"{HALF}; kill -SEGV $$"}, Reason.SOURCE_INVALID, "samtools sort crashed"),
    "sort leaves early and happily": ({"sort": f"{HALF}; exit 0"}, Reason.TOOL_FAILED, "Failed to read BGZF"),
    "sort gives nothing": ({"sort": "exit 0"}, Reason.TOOL_FAILED, "not a sorted BAM"),
    "pack is killed": ({"pack": "head -c 9; kill -9 $$"}, Reason.WORKER_LOST, f"{PROGRAM} pack was killed"),
    "pack crashes": ({"pack": "head -c 99; kill -SEGV $$"}, Reason.TOOL_FAILED, "died of SIGSEGV"),
    "pack has no memory": (
        {"pack": 'ulimit -d 4000; exec "$real" "$@"'},
        Reason.OUT_OF_MEMORY,
        f"{PROGRAM} pack ran out of memory",
    ),
    "pack has no disk": (
        {"pack": 'ulimit -f 500; exec "$real" "$@"'},
        Reason.OUT_OF_DISK,
        f"{PROGRAM} pack ran out of disk space",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
async def test_the_one_that_failed_is_named(
    case: str, source: bytes, process: Process, faulty: Faulty
) -> None:
    programs, reason, result = CASES[case]
    made = await process(source, "sam", using=faulty(**programs))
    if reason is None:
        assert made.failure is None
        assert made.counts["records"] == 20_000
        return
    assert made.failure is not None
    assert (made.failure.reason, result in made.failure.detail) == (reason, True), made.failure


async def test_more_than_the_scratch_is_out_of_disk(source: bytes, process: Process, faulty: Faulty) -> None:
    made = await process(source, "sam", using=faulty(), scratch_bytes=300_000)
    assert made.failure is not None
    assert made.failure.reason is Reason.OUT_OF_DISK
