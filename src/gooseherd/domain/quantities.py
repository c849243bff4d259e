"""Sizes as people write them: whoever reads a variable, API or worker, reads the same."""

from __future__ import annotations

import re
from typing import Final

SIZE_HINT: Final = "a size such as 256M, 2G or a number of bytes"
_SIZE: Final = re.compile(r"(\d{1,18})\s*([KMGT]?)(?:I?B)?", re.IGNORECASE | re.ASCII)
_FACTOR: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size_in_bytes(text: str) -> int:
    """`256M`, `2 GiB` or a plain number; binary multiples. Raises ValueError for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(SIZE_HINT)
    return int(match[1]) * _FACTOR[match[2].upper()]
