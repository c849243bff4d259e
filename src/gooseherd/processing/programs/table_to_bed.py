"""Reads a table of intervals, or wiggle, as lines of BED or bedGraph.

    python -m gooseherd.processing.programs.table_to_bed FORMAT SOURCE --report FILE [--contigs FILE]

With --contigs only the sequences that the header of an interval list declares are written, to FILE: a name
and a length by TAB on each line.

The report has, as JSON, what was dropped. Exit status 65: the source was refused, and the report says why.
A program of its own, because decoders in C read untrusted bytes.
"""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.decompression import (
    MAX_BYTES,
    Inflation,
    inflate,
    refuse_decompression_bomb,
)
from gooseherd.processing.formats.readers import MAX_LINE
from gooseherd.processing.formats.records import refuse
from gooseherd.processing.formats.sam_header import contigs_of
from gooseherd.processing.formats.tables import READERS, TableReader
from gooseherd.processing.formats.wig import WigReader


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # As in normalise.py: many small objects and no reference cycles.
    gc.disable()
    kind, source, flag, report, *more = argv
    if flag != "--report":
        return 64
    if more:
        return declared(Path(source), Path(report), Path(more[1]))
    reader: WigReader | TableReader = WigReader() if kind == "wig" else READERS[kind]()
    try:
        # As in normalise.py: open until this process is gone.
        with Path(source).open("rb") as stream, os.fdopen(1, "wb", closefd=False) as out:
            size = os.fstat(stream.fileno()).st_size
            refuse_decompression_bomb(stream, size=size, max_bytes=MAX_BYTES)
            held = b""
            for chunk in inflate(stream, Inflation(), size=size, max_bytes=MAX_BYTES):
                whole = chunk.rfind(b"\n") + 1
                if not whole and len(held) > MAX_LINE:
                    raise refuse(reader.lines + 1, f"the line is longer than {MAX_LINE} bytes")
                if whole:
                    out.write(reader.block(held + chunk[:whole]))
                    held = b""
                held += chunk[whole:]
            if held:
                out.write(reader.block(held + b"\n"))
    except StepFailed as refused:
        failure = refused.failure
    except MemoryError:
        failure = StepFailed.because(Reason.OUT_OF_MEMORY, "reading the table ran out of memory").failure
    else:
        Path(report).write_text(json.dumps({"counts": reader.counts}))
        return 0
    Path(report).write_text(json.dumps({"reason": failure.reason, "detail": failure.detail}))
    return 65


def declared(source: Path, report: Path, contigs: Path) -> int:
    """Write the sequences of a header as SAM has it."""
    header = b""
    try:
        with source.open("rb") as stream:
            size = source.stat().st_size
            for chunk in inflate(stream, Inflation(), size=size, max_bytes=MAX_BYTES):
                header += chunk
                if re.search(rb"^[^@]", header, re.MULTILINE) or len(header) > MAX_LINE:
                    break
        lines = [line for line in header.split(b"\n") if line.startswith(b"@")]
        found = (
            contigs_of(b"\n".join(line.rstrip(b"\r") for line in lines)) if b"\n@SQ" in b"\n" + header else ()
        )
    except StepFailed as refused:
        report.write_text(json.dumps({"reason": refused.failure.reason, "detail": refused.failure.detail}))
        return 65
    text = "".join(f"{contig.name}\t{contig.length or 0}\n" for contig in found)
    contigs.write_bytes(text.encode("utf-8", "surrogateescape"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
