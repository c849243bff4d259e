"""Puts the header above the sorted records: the last stage, behind sort and bgzip.

    python -m gooseherd.processing.programs.prepend_header HEADER COMMAND...

Writes what COMMAND makes of the file HEADER, so that it has blocks of its own, and passes on the rest
without looking at it. The kernel cuts its blocks in the same places, so both ways make the same bytes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gooseherd.domain.bgzf import END_MARKER

_AT_ONCE: Final = 1 << 20


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says; status 1 when there is no header because the reading failed."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    first = os.read(0, _AT_ONCE)
    header, compress = Path(argv[0]), argv[1:]
    if not header.exists():
        return 1
    packed = b""
    if header.stat().st_size:
        done = subprocess.run([*compress, str(header)], stdout=subprocess.PIPE, check=True)
        packed = done.stdout.removesuffix(END_MARKER)  # Only the one behind the records may stay.
    for data in (packed, first):
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]
    while first and os.splice(0, 1, _AT_ONCE):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
