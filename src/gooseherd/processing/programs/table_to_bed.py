"""Reads a table of intervals, or wiggle, as lines of BED or bedGraph.

    python -m gooseherd.processing.programs.table_to_bed FORMAT SOURCE --report FILE
        [--skip-bad-lines | --contigs FILE]

With --contigs only the sequences that a header as SAM has it declares are written, to FILE: a name
and a length by TAB on each line.

The report has, as JSON, what was dropped. With --skip-bad-lines a few lines that make no record are left out,
and the report names them. Exit status 65: the source was refused, and the report says why.
A program of its own, because decoders in C read untrusted bytes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.bad_lines import refuse
from gooseherd.processing.formats.converted import ConvertedLines
from gooseherd.processing.formats.decompression import (
    END_MARKER_MISSING,
    MAX_BYTES,
    Inflation,
    inflate,
    refuse_decompression_bomb,
)
from gooseherd.processing.formats.readers import MAX_LINE
from gooseherd.processing.formats.sam_header import contigs_of
from gooseherd.processing.formats.seg import Seg
from gooseherd.processing.formats.tables import IntervalList, MacsPeaks
from gooseherd.processing.formats.ucsc_table import UcscTable
from gooseherd.processing.formats.wig import WigReader

READERS: Final[dict[str, type[ConvertedLines]]] = {
    "interval_list": IntervalList,
    "macs": MacsPeaks,
    "seg": Seg,
    "ucsc_table": UcscTable,
    "wig": WigReader,
}

_BOM: Final = b"\xef\xbb\xbf"
_BELOW_HEADER: Final = re.compile(rb"^[^@]", re.MULTILINE)


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # As in normalise.py: many small objects and no reference cycles.
    gc.disable()
    parser = argparse.ArgumentParser()
    parser.add_argument("format", choices=READERS)
    parser.add_argument("source", type=Path)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--contigs", type=Path)
    parser.add_argument("--skip-bad-lines", action="store_true")
    given = parser.parse_args(argv)
    if given.contigs:
        return declared(given.source, given.report, given.contigs)
    reader = READERS[given.format]()
    reader.skip_bad_lines = given.skip_bad_lines
    try:
        # As in normalise.py: open until this process is gone.
        with given.source.open("rb") as stream, os.fdopen(1, "wb", closefd=False) as out:
            found = convert(stream, reader, out)
    except StepFailed as refused:
        failure = refused.failure
    except MemoryError:
        failure = StepFailed.because(Reason.OUT_OF_MEMORY, "reading the table ran out of memory").failure
    else:
        first = reader.first_bad_line
        about = {
            "counts": reader.counts,
            "without_end_marker": found.without_end_marker,
            "bad_lines": reader.bad_lines,
            "first_bad_line": first.detail if first else "",
        }
        given.report.write_text(json.dumps(about))
        return 0
    given.report.write_text(json.dumps({"reason": failure.reason, "detail": failure.detail}))
    return 65


def convert(stream: BinaryIO, reader: ConvertedLines, out: BinaryIO) -> Inflation:
    """Read all of the stream, write what becomes of it; how the stream was packed.

    Raises:
        StepFailed: source_invalid.
    """
    found = Inflation()
    size = os.fstat(stream.fileno()).st_size
    refuse_decompression_bomb(stream, size=size, max_bytes=MAX_BYTES)
    held = b""
    for chunk in inflate(stream, found, size=size, max_bytes=MAX_BYTES):
        whole = chunk.rfind(b"\n") + 1
        if not whole and len(held) > MAX_LINE:
            raise refuse(reader.lines + 1, f"the line is longer than {MAX_LINE} bytes")
        if whole:
            out.write(reader.block(held + chunk[:whole]))
            held = b""
        held += chunk[whole:]
    if held:
        if found.without_end_marker:
            raise StepFailed.because(Reason.SOURCE_INVALID, f"{END_MARKER_MISSING} and the last line is cut")
        out.write(reader.block(held + b"\n"))
    reader.finish()
    return found


def declared(source: Path, report: Path, contigs: Path) -> int:
    """Write the sequences of a header as SAM has it."""
    header = b""
    try:
        with source.open("rb") as stream:
            size = source.stat().st_size
            for chunk in inflate(stream, Inflation(), size=size, max_bytes=MAX_BYTES):
                header = (header + chunk).removeprefix(_BOM)
                if _BELOW_HEADER.search(header) or len(header) > MAX_LINE:
                    break
        below = _BELOW_HEADER.search(header)
        lines = header[: below.start() if below else None].replace(b"\r\n", b"\n")
        found = contigs_of(lines) if b"\n@SQ" in b"\n" + lines else ()
    except StepFailed as refused:
        report.write_text(json.dumps({"reason": refused.failure.reason, "detail": refused.failure.detail}))
        return 65
    text = "".join(f"{contig.name}\t{contig.length or 0}\n" for contig in found)
    contigs.write_bytes(text.encode("utf-8", "surrogateescape"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
