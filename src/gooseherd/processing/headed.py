"""Puts the header above the sorted records: a pipeline stage between sort and bgzip.

    python -m gooseherd.processing.headed HEADER

The header is complete only when the last record has been read, and sort writes nothing
before that: so this waits for the first sorted byte, writes the file HEADER, and passes on
the rest without looking at it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_AT_ONCE: Final = 1 << 20


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says; status 1 when there is no header because the reading failed."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    first = os.read(0, _AT_ONCE)
    try:
        header = Path(argv[0]).read_bytes()
    except FileNotFoundError:
        return 1
    for data in (header, first):
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]
    while first and os.splice(0, 1, _AT_ONCE):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
