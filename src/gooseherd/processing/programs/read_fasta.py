"""Reads FASTA in any usual packing as text that an index by places fits; and makes that index.

    python -m gooseherd.processing.programs.read_fasta SOURCE --fai FILE --report FILE

Writes the text to standard output, the index (FAI, samtools-faidx(5)) to FILE, and to the report, as JSON,
the sequences and the counts of changes. A program of its own, because decoders in C read untrusted bytes.

Exit status: 0; 65 the source was refused, and the report says why.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.decompression import (
    END_MARKER_MISSING,
    MAX_BYTES,
    Inflation,
    inflate,
    refuse_decompression_bomb,
)
from gooseherd.processing.formats.fasta import FastaReader


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("--fai", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    given = parser.parse_args(argv)
    try:
        # As in normalise.py: open until this process is gone.
        with os.fdopen(1, "wb", closefd=False) as out, given.fai.open("wb") as index:
            found = convert(given.source, out, index)
    except StepFailed as refused:
        failure = refused.failure
    except MemoryError:
        failure = StepFailed.because(Reason.OUT_OF_MEMORY, "reading the sequences ran out of memory").failure
    else:
        given.report.write_text(json.dumps(found))
        return 0
    given.report.write_text(json.dumps({"reason": failure.reason, "detail": failure.detail}))
    return 65


def convert(source: Path, out: Any, index: Any) -> dict[str, Any]:
    """The report of one source.

    Raises:
        StepFailed: source_invalid.
    """
    reader, found = FastaReader(index.write), Inflation()
    with source.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        refuse_decompression_bomb(stream, size=size, max_bytes=MAX_BYTES)
        for data in inflate(stream, found, size=size, max_bytes=MAX_BYTES):
            out.write(reader.chunk(data))
        out.write(reader.finish())
    if found.without_end_marker:
        # Whole blocks may be missing, and a sequence that is cut looks like any other.
        raise StepFailed.because(Reason.SOURCE_INVALID, END_MARKER_MISSING)
    return {
        "bytes": reader.written,
        "kept": found.whole_blocks and reader.unchanged(),
        "contigs": [[contig.name, contig.length] for contig in reader.contigs()],
        "counts": reader.counts,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
