"""Reads records with two ends, checks both, and sorts out those of which one end alone is on the genome.

    python -m gooseherd.processing.programs.read_two_ended FORMAT SOURCE --report FILE --header FILE
        --both FILE --first FILE --second FILE [--skip-bad-lines]

The report is that of normalise.py. Exit status 65: the source was refused, and the report says why.
A program of its own, because decoders in C read untrusted bytes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.decompression import (
    END_MARKER_MISSING,
    MAX_BYTES,
    Inflation,
    inflate,
    refuse_decompression_bomb,
)
from gooseherd.processing.formats.two_ended import TwoEnded
from gooseherd.processing.programs.normalise import normalise, report


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    gc.disable()
    parser = argparse.ArgumentParser()
    parser.add_argument("format")
    parser.add_argument("source", type=Path)
    for name in ("report", "header", "both", "first", "second"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--skip-bad-lines", action="store_true")
    given = parser.parse_args(argv)
    try:
        found = _read(given)
    except StepFailed as refused:
        failure = refused.failure
    except MemoryError:
        failure = StepFailed.because(Reason.OUT_OF_MEMORY, "reading the records ran out of memory").failure
    else:
        given.report.write_text(json.dumps(found))
        return 0
    given.report.write_text(json.dumps({"reason": failure.reason, "detail": failure.detail}))
    return 65


def _read(given: argparse.Namespace) -> dict[str, object]:
    found = Inflation()
    with ExitStack() as files:
        stream = files.enter_context(given.source.open("rb"))
        outs = [files.enter_context(path.open("wb")) for path in (given.both, given.first, given.second)]
        reader = TwoEnded(given.format, *(out.write for out in outs))
        reader.skip_bad_lines = given.skip_bad_lines
        size = os.fstat(stream.fileno()).st_size
        refuse_decompression_bomb(stream, size=size, max_bytes=MAX_BYTES)
        chunks = inflate(stream, found, size=size, max_bytes=MAX_BYTES)
        for _ in normalise(chunks, reader):
            raise AssertionError("records go to the reader's sinks")
    if found.without_end_marker and reader.open_end:
        raise StepFailed.because(Reason.SOURCE_INVALID, f"{END_MARKER_MISSING} and the last line is cut")
    header = reader.finish()
    given.header.write_bytes(header)
    written = reader.bytes_of_both + reader.bytes_of_first + reader.bytes_of_second
    return {
        **report(reader, found, header, written, kept=False),
        "bytes_of_both": reader.bytes_of_both,
        "bytes_of_first": reader.bytes_of_first,
        "bytes_of_second": reader.bytes_of_second,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
