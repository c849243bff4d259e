"""Opens a bigWig or bigBed the way its readers will; a program of its own: the parser, in C, may crash.

    python -m gooseherd.processing.programs.open_bigwig bigwig|bigbed SOURCE --report FILE

Prints its contigs as JSON. Exit status 65: refused, and the report says why; any other but 0: it
did not open.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gooseherd.domain.failures import Reason

_NAMES: Final = {"bigwig": "bigWig", "bigbed": "bigBed"}
_BIG_ENDIAN: Final = frozenset({b"\x88\x8f\xfc\x26", b"\x87\x89\xf2\xeb"})
"""0x888FFC26 and 0x8789F2EB in that byte order (Kent et al. 2010, supplementary table 5)."""


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    match argv:
        case ["bigwig" | "bigbed" as kind, source, "--report", report]:
            try:
                answer = described(source, kind)
            except (RuntimeError, ValueError) as error:
                detail = f"not a readable {_NAMES[kind]}: {error}"
                refusal = {"reason": Reason.SOURCE_INVALID, "detail": detail}
                Path(report).write_text(json.dumps(refusal))
                return 65
        case _:
            return 64
    json.dump(answer, sys.stdout)
    return 0


def described(source: str, kind: str) -> dict[str, Any]:
    """The contigs with their lengths."""
    with Path(source).open("rb") as stream:
        if stream.read(4) in _BIG_ENDIAN:
            raise ValueError("its numbers are big-endian, which its readers here do not know")
    import pyBigWig

    try:
        opened = pyBigWig.open(source)
    except RuntimeError:
        opened = None
    if opened is None or not (opened.isBigWig() if kind == "bigwig" else opened.isBigBed()):
        raise ValueError("its header does not open")
    contigs = list(opened.chroms().items())
    if not contigs:
        raise ValueError("it has no contigs")
    return {"contigs": contigs}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
