"""Reads bigBed as BED lines; a program of its own, because the C parser meets foreign bytes.

    python -m gooseherd.processing.bigbed SOURCE --report FILE

Items come in the file's order, every column kept. Exit status 65: the file was refused, and
the report says why.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed

_WINDOW: Final = 10_000_000
"""Bases asked for at once: bounds the items held in memory."""
_FLUSH: Final = 10_000


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    source, flag, report = argv
    if flag != "--report":
        return 64
    try:
        # As in text.py: open until this process is gone.
        with os.fdopen(1, "wb", closefd=False) as out:
            items: list[bytes] = []
            written = 0
            for line in lines_of(source):
                items.append(line)
                if len(items) >= _FLUSH:
                    out.write(b"".join(items))
                    written += len(items)
                    items.clear()
            out.write(b"".join(items))
            written += len(items)
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


def lines_of(source: str) -> Iterator[bytes]:
    """One BED line per item.

    Raises:
        StepFailed: source_invalid.
    """
    import pyBigWig

    try:
        opened: Any = pyBigWig.open(source)
    except RuntimeError:
        opened = None
    if opened is None or not opened.isBigBed():
        raise StepFailed.because(Reason.SOURCE_INVALID, "not a readable bigBed: its header does not open")
    for contig, length in opened.chroms().items():
        for start in range(0, length, _WINDOW):
            try:
                found = opened.entries(contig, start, min(start + _WINDOW, length))
            except RuntimeError:
                raise StepFailed.because(
                    Reason.SOURCE_INVALID, f"the bigBed cannot be read at {contig}:{start}"
                ) from None
            for begin, end, rest in found or ():
                # An item that reaches in from the window before was given with that one.
                if begin >= start:
                    yield line_of(contig, begin, end, rest)


def line_of(contig: str, begin: int, end: int, rest: str | None) -> bytes:
    """An item as a line of BED."""
    tail = f"\t{rest}" if rest else ""
    return f"{contig}\t{begin}\t{end}{tail}\n".encode("utf-8", "surrogateescape")


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
