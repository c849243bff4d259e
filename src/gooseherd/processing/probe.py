"""Opens a result the way its readers will; a program of its own, because a parser may crash.

    python -m gooseherd.processing.probe tabix DATA INDEX
    python -m gooseherd.processing.probe bam DATA INDEX
    python -m gooseherd.processing.probe bigwig SOURCE --report FILE

Prints JSON. For an index: that it opens and that the first and the last contig answer a
query. For bigWig: its contigs. Exit status 65: refused, and the report says why; any other
but 0: it did not open.
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
        case ["tabix", data, index]:
            answer = tabix(data, index)
        case ["bam", data, index]:
            answer = bam(data, index)
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


def tabix(data: str, index: str) -> dict[str, Any]:
    """Every contig of a tabix index has records; the first and the last are asked for."""
    import pysam

    with pysam.TabixFile(data, index=index) as opened:
        contigs = list(opened.contigs)
        for contig in {*contigs[:1], *contigs[-1:]}:
            # Intervals that begin and end at 0 overlap nothing, so nothing can be found by them.
            if next(opened.fetch(contig), None) is None and any(
                line.startswith(contig + "\t") and line.split("\t")[1:3] != ["0", "0"]
                for line in opened.fetch()
            ):
                raise ValueError(f"contig {contig!r} answers nothing")
        return {"contigs": len(contigs)}


def bam(data: str, index: str) -> dict[str, Any]:
    """Counts by the index; the first and last contig that have reads are asked for."""
    import pysam

    with pysam.AlignmentFile(data, "rb", index_filename=index) as opened:
        statistics = opened.get_index_statistics()
        placed = [s.contig for s in statistics if s.total]
        for contig in {*placed[:1], *placed[-1:]}:
            if next(opened.fetch(contig), None) is None:
                raise ValueError(f"contig {contig!r} answers nothing")
        return {
            "contigs": len(statistics),
            "reads": sum(s.total for s in statistics) + opened.nocoordinate,
        }


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
