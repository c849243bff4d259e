"""Sizes and counts that API and workers must not understand differently."""

from __future__ import annotations

import re
from typing import Final

SIZE_HINT: Final = "a size such as 256M, 2G or a number of bytes"
LEAST_CAP: Final = 1 << 20
"""Bytes of memory for a tool to sort in."""
MOST_THREADS: Final = 64
"""Of a tool: sorting gets no faster by more."""
_SIZE: Final = re.compile(r"(\d{1,18})\s*([KMGT]?)(?:I?B)?", re.IGNORECASE | re.ASCII)
_FACTOR: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size_in_bytes(text: str) -> int:
    """`256M`, `2 GiB` or a plain number; binary multiples. Raises ValueError for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(SIZE_HINT)
    return int(match[1]) * _FACTOR[match[2].upper()]


def tool_threads(cores: int) -> int:
    """Of a tool that has so many cores: at least two, which read and write side by side."""
    return min(max(cores, 2), MOST_THREADS)
