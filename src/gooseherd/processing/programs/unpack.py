"""Unpacks a source whole; a program of its own, because decoders in C read untrusted bytes.

    python -m gooseherd.processing.programs.unpack SOURCE --report FILE

Exit status 65: the packing is broken, and the report says how.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.decompression import MAX_BYTES, Inflation, inflate


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    source, flag, report = argv
    if flag != "--report":
        return 64
    try:
        with Path(source).open("rb") as stream, os.fdopen(1, "wb", closefd=False) as out:
            size = os.fstat(stream.fileno()).st_size
            for chunk in inflate(stream, Inflation(), size=size, max_bytes=MAX_BYTES):
                out.write(chunk)
    except StepFailed as refused:
        failure = refused.failure
    except MemoryError:
        failure = StepFailed.because(Reason.OUT_OF_MEMORY, "unpacking ran out of memory").failure
    else:
        return 0
    Path(report).write_text(json.dumps({"reason": failure.reason, "detail": failure.detail}))
    return 65


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
