"""Reads bigBed as BED lines; a program of its own, because the parser, in C, reads untrusted bytes.

    python -m gooseherd.processing.programs.bigbed_to_bed SOURCE --report FILE

Items come in the file's order, every column kept. Exit status 65: the file was refused, and
the report says why.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.bbi import BrokenParts, Edges, all_items, empty_edge_items, is_big_endian

_WINDOW: Final = 10_000_000
"""Bases asked for at once: bounds the items held in memory."""


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # As in normalise.py: many tuples and no reference cycles.
    gc.disable()
    source, flag, report = argv
    if flag != "--report":
        return 64
    try:
        # As in normalise.py: open until this process is gone.
        with os.fdopen(1, "wb", closefd=False) as out:
            written = 0
            for items, text in texts_of(source):
                out.write(text)
                written += items
            declared = items_declared(source)
            if declared is not None and written != declared:
                raise StepFailed.because(
                    Reason.SOURCE_INVALID,
                    f"the bigBed says it has {declared} items, but {written} can be read",
                )
    except StepFailed as refused:
        failure = refused.failure
        Path(report).write_text(json.dumps({"reason": failure.reason, "detail": failure.detail}))
        return 65
    return 0


def texts_of(source: str) -> Iterator[tuple[int, bytes]]:
    """(how many items, their BED lines), window by window.

    Raises:
        StepFailed: source_invalid.
    """
    if is_big_endian(Path(source)):
        try:
            yield from ((len(items), lines_of(contig, items)) for contig, items in all_items(Path(source)))
        except BrokenParts as error:
            raise StepFailed.because(Reason.SOURCE_INVALID, f"not a readable bigBed: {error}") from None
        return
    import pyBigWig

    try:
        opened: Any = pyBigWig.open(source)
    except RuntimeError:
        opened = None
    if opened is None or not opened.isBigBed():
        raise StepFailed.because(Reason.SOURCE_INVALID, "not a readable bigBed: its header does not open")
    edges = empty_edge_items(Path(source))
    for contig, length in opened.chroms().items():
        edge = edges.get(contig, Edges())
        yield len(edge.at_start), lines_of(contig, edge.at_start)
        for start in range(0, length, _WINDOW):
            try:
                # An empty item where the window begins overlaps only what reaches over that.
                found = opened.entries(contig, max(start - 1, 0), min(start + _WINDOW, length))
            except RuntimeError:
                raise StepFailed.because(
                    Reason.SOURCE_INVALID, f"the bigBed cannot be read at {contig}:{start}"
                ) from None
            # An item that reaches in from the window before was given with that one.
            items = [item for item in found or () if item[0] >= start]
            yield len(items), lines_of(contig, items)
        yield len(edge.at_end), lines_of(contig, edge.at_end)


def lines_of(contig: str, items: Iterable[tuple[int, int, str | None]]) -> bytes:
    """Items as lines of BED."""
    lines = [f"{contig}\t{a}\t{z}\t{rest}\n" if rest else f"{contig}\t{a}\t{z}\n" for a, z, rest in items]
    return "".join(lines).encode("utf-8", "surrogateescape")


def items_declared(source: str) -> int | None:
    """The item count, first in the data section (a u64 in bigBed); None when unreadable."""
    with Path(source).open("rb") as stream:
        head = stream.read(64)
        for order in "<>":
            if len(head) == 64 and struct.unpack_from(order + "I", head)[0] == 0x8789F2EB:
                stream.seek(struct.unpack_from(order + "Q", head, 16)[0])
                count = stream.read(8)
                return int(struct.unpack(order + "Q", count)[0]) if len(count) == 8 else None
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
