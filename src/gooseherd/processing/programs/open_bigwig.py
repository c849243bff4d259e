"""Opens a bigWig the way its readers will; a program of its own, because the parser, in C, may crash.

    python -m gooseherd.processing.programs.open_bigwig bigwig SOURCE --report FILE

Prints its contigs as JSON. Exit status 65: refused, and the report says why; any other but 0: it
did not open.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gooseherd.domain.failures import Reason


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    match argv:
        case ["bigwig", source, "--report", report]:
            try:
                answer = bigwig(source)
            except (RuntimeError, ValueError) as error:
                refusal = {"reason": Reason.SOURCE_INVALID, "detail": f"not a readable bigWig: {error}"}
                Path(report).write_text(json.dumps(refusal))
                return 65
        case _:
            return 64
    json.dump(answer, sys.stdout)
    return 0


def bigwig(source: str) -> dict[str, Any]:
    """The contigs with their lengths."""
    import pyBigWig

    opened = pyBigWig.open(source)
    if opened is None or not opened.isBigWig():
        raise ValueError("the header does not open")
    contigs = list(opened.chroms().items())
    if not contigs:
        raise ValueError("it has no contigs")
    return {"contigs": contigs}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
