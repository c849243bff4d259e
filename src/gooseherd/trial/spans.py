"""Made-up places of records, and the lines of a file of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

CONTIGS = {"chr1": 100_000, "chr2": 50_000}
_RECORDS = 400


def spans(seed: str) -> Iterator[tuple[int, str, int, int]]:
    """(number, contig, start, end), shuffled, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - made-up positions
    for number in range(_RECORDS):
        contig = chance.choice(sorted(CONTIGS))
        start = chance.randrange(100, CONTIGS[contig] - 2_000)
        yield number, contig, start, start + chance.randrange(1, 1_500)


def write_lines(path: Path, lines: Iterator[str] | list[str], head: str = "") -> None:
    """With a newline behind each; `head` brings its own."""
    path.write_text(head + "".join(f"{line}\n" for line in lines), encoding="utf-8")
