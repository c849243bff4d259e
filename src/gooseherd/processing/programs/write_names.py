"""The name index from sorted lines: a program of its own, the last of a pipeline.

    python -m gooseherd.processing.programs.write_names IX IXX --report FILE

Reads lines of read_names.py from standard input, sorted by term and rank; the report, as JSON, has what was
written.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from gooseherd.processing.formats.trix import write_trix


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    gc.disable()
    ix, ixx, flag, report = argv
    if flag != "--report":
        return 64
    with Path(ix).open("wb", buffering=1 << 20) as lines, Path(ixx).open("wb") as index:
        counts = write_trix(sys.stdin.buffer, lines, index)
    Path(report).write_text(json.dumps(asdict(counts)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
