"""Reads wiggle as lines of bedGraph; a program of its own, because decoders in C read untrusted bytes.

    python -m gooseherd.processing.programs.wig_to_bedgraph SOURCE --report FILE

The report has, as JSON, what was dropped. Exit status 65: the source was refused, and the report says why.
"""

from __future__ import annotations

import gc
import json
import os
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
from gooseherd.processing.formats.wig import WigReader


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # As in normalise.py: many small objects and no reference cycles.
    gc.disable()
    source, flag, report = argv
    if flag != "--report":
        return 64
    reader = WigReader()
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
        failure = StepFailed.because(Reason.OUT_OF_MEMORY, "reading the values ran out of memory").failure
    else:
        Path(report).write_text(json.dumps({"counts": reader.counts}))
        return 0
    Path(report).write_text(json.dumps({"reason": failure.reason, "detail": failure.detail}))
    return 65


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
