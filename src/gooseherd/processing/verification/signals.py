"""A bigWig, read as readers do it and compared with what was to be written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gooseherd.processing.verification.index_queries import Disagreement, Region


def check_signal(data: Path, report: Path) -> int:
    """Ask for the sampled values, the sequences and how many bases have a value; how many were asked.

    Raises:
        Disagreement: the file has others.
    """
    import pyBigWig

    wanted = json.loads(report.read_bytes())
    try:
        opened: Any = pyBigWig.open(str(data))
    except RuntimeError as error:
        raise Disagreement(None, f"the bigWig does not open ({type(error).__name__})") from None
    try:
        if opened.chroms() != dict(wanted["contigs"]):
            raise Disagreement(None, "the bigWig has other sequences")
        covered = opened.header()["nBasesCovered"]
        if covered != wanted["covered"]:
            raise Disagreement(None, f"{covered} bases have a value instead of {wanted['covered']}")
        for name, begin, end, value in wanted["sample"]:
            found = opened.intervals(name, begin, end)
            if found is None or tuple(found[0]) != (begin, end, value):
                raise Disagreement(Region(name, begin, end), "another value than was written")
    finally:
        opened.close()
    return len(wanted["sample"])
