"""Checks an index that upstream publishes against its data.

    python -m gooseherd.processing.programs.check_index bai|tbi|csi INDEX DATA

Prints JSON: `problem`, empty when it fits, and the names of the `contigs` that it has. A program of its own:
both files are untrusted, and reading them has limits here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from gooseherd.processing.formats.index_file import NotUsable, check_index


def main(argv: Sequence[str]) -> int:
    """Run as the module's docstring says."""
    kind, index, data = argv
    problem = ""
    contigs: tuple[str, ...] = ()
    try:
        contigs = check_index(Path(index), kind, Path(data))
    except NotUsable as error:
        problem = str(error)
    sys.stdout.write(json.dumps({"problem": problem, "contigs": contigs}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
