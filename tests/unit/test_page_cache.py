"""What the kernel says of bytes that are in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gooseherd.storage.page_cache import MOST_BYTES, is_cached


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * MOST_BYTES))
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 1_234_567])
@pytest.mark.parametrize("count", [1, 4096, 100_000, MOST_BYTES])
def test_what_was_just_written_is_in_memory(file: int, offset: int, count: int) -> None:
    assert is_cached(file, offset, count)


def test_what_lies_behind_the_end_is_not(file: int) -> None:
    assert not is_cached(file, 3 * MOST_BYTES, 4096)
    assert not is_cached(file, 3 * MOST_BYTES - 10, 8192)


@pytest.mark.parametrize("count", [0, -1, MOST_BYTES + 1])
def test_it_is_asked_of_a_bounded_number_of_bytes(file: int, count: int) -> None:
    assert not is_cached(file, 0, count)


def test_a_descriptor_that_is_no_file_is_not_in_memory() -> None:
    reading, writing = os.pipe()
    try:
        assert not is_cached(reading, 0, 10)
    finally:
        os.close(reading)
        os.close(writing)
