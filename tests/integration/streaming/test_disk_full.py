"""The disk becomes full in mid-stream: the attempt says so by name, and leaves nothing."""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gooseherd.domain.failures import Reason
from gooseherd.processing.registry import ProcessorRegistry, default_registry
from gooseherd.storage.local import LocalFsCache

MIB = 1 << 20


class Disk:
    """A file system of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Somebody else takes all that is left."""
        with (self.path / "filler").open("ab", buffering=0) as file, pytest.raises(OSError) as full:
            while True:
                file.write(bytes(64 << 10))
        assert full.value.errno == errno.ENOSPC


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    """`disk(size)`: one of so many bytes."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = False

    def make(size: int) -> Disk:
        nonlocal mounted
        mounting = ("mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path))
        try:
            done = subprocess.run(mounting, check=False, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("a small disk cannot be made: mount is not installed")
        if done.returncode:
            pytest.skip(f"a small disk cannot be made: {done.stderr.strip()}")
        mounted = True
        return Disk(path)

    yield make
    if mounted:
        subprocess.run(("umount", "--lazy", str(path)), check=True)


def tools_without_kernel(tmp_path: Path) -> ProcessorRegistry:
    """GNU sort and bgzip do the work."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sort", "bgzip", "tabix", "wc", "prlimit", "setpriv"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    return default_registry(sort_memory=16 * MIB, samtools_memory=16 * MIB, threads=2, search_path=str(tools))


async def test_a_disk_that_fills_up_in_mid_stream_is_named_and_nothing_is_left(
    disk: Any, upstream: Any, attempt: Any, s3: Any, bucket: Any, kit: Any
) -> None:
    upstream.data = kit.intervals(ordered=True, megabytes=30)
    upstream.let(len(upstream.data) - 2 * MIB)
    small = disk(96 * MIB)
    one = attempt("x.bed", "bed", cache=s3, home=small.path)
    await kit.come(lambda: bucket.uploads() and bucket.parts())
    small.fill()
    upstream.let()
    last = await one.end()
    assert last.reason is Reason.OUT_OF_DISK, last
    assert [path.name for path in small.path.iterdir()] == ["filler"]
    assert (bucket.objects(), bucket.uploads()) == ([], [])


# name: (source, bytes that the disk has beside it)
SHORT = {
    "normalised by the kernel": ("x.bed", 8 * MIB),
    "spilled by the kernel": ("shuffled.bed", 8 * MIB),
    "normalised without a kernel": ("by_sort.bed", 8 * MIB),
    "compressed without a kernel": ("by_sort.bed", 50 * MIB),
    "sorted by samtools": ("shuffled.bam", 64 << 10),
    "written by samtools": ("shuffled.bam", 8 * MIB),
    "indexed by samtools": ("x.bam", 64 << 10),
}


@pytest.mark.parametrize("case", SHORT)
async def test_a_disk_with_too_little_room_for_the_tools_is_named_whatever_words_they_have(
    case: str, disk: Any, upstream: Any, attempt: Any, kit: Any, tmp_path: Path
) -> None:
    filename, room = SHORT[case]
    stem, _, suffix = filename.partition(".")
    make = partial(kit.intervals, megabytes=40) if suffix == "bed" else kit.reads
    upstream.data = make(ordered=stem == "x")
    upstream.let()
    small = disk(len(upstream.data) + room)
    using = default_registry(sort_memory=16 * MIB, samtools_memory=16 * MIB, threads=2)
    if stem == "by_sort":
        using = tools_without_kernel(tmp_path)
    cache = LocalFsCache(tmp_path / "cache")
    one = attempt(filename, suffix, cache=cache, home=small.path, using=using)
    last = await one.end()
    assert last.reason is Reason.OUT_OF_DISK, last
    assert str(tmp_path) not in last.detail
    assert list(small.path.iterdir()) == []
    assert [found async for found in cache.list()] == []
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    await cache.close()
