"""Puts the lines of genes before those that were added, in front of a stable sort of GFF3 made of GTF.

    python -m gooseherd.processing.programs.genes_first ADDED RECORDS

Writes to standard output: the genes of RECORDS, ADDED, the other RECORDS. So among lines with the same
start a gene stands above the transcripts that were added to it (kernel/src/formats/gtf.c, is_first).
"""

from __future__ import annotations

import re
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_GENE: Final = re.compile(rb"[^\t]*\t[^\t]*\tgene\t")


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    added, records = map(Path, argv)
    out = sys.stdout.buffer
    with records.open("rb") as stream:
        out.writelines(line for line in stream if _GENE.match(line))
    with added.open("rb") as stream:
        shutil.copyfileobj(stream, out)
    with records.open("rb") as stream:
        out.writelines(line for line in stream if not _GENE.match(line))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
