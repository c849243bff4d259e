"""Refuse what does not belong into the repository: big files, and programs and archives among the sources.

`./dev check` calls it; arguments: the checkout (default: this one).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

MOST_BYTES = 200_000
"""The longest source has half of it; what a trial or a build leaves behind usually has more."""
BIG: Mapping[str, str] = {
    "benchmarks/real-files.json": "names and digests of a thousand files that packages carry",
    "deploy/requirements.txt": "hashes of every wheel of every locked dependency",
    "deploy/requirements-dev.txt": "the same, with the tools",
    "src/gooseherd/api/static/igv-3.8.10-ff86df5116.js": "igv.js as its package has it, but for one address",
    "src/gooseherd/api/static/rapidoc-9.3.8-48abb9e9ac.js": "RapiDoc, likewise, for /docs",
    "tests/browser/viewers/package-lock.json": "the same of the genome browsers that tests draw files with",
}
"""Files that may be bigger, each with its reason."""
TEST_DATA = ("tests/data/", "kernel/tests/data/", "kernel/fuzz/corpus/")
"""Where a file may hold other bytes than text."""
LOOKED_AT = 8000
"""As many bytes as git itself looks at to tell text from other bytes."""


def tracked(checkout: Path) -> Iterator[str]:
    listed = subprocess.run(
        ["git", "-C", checkout, "ls-files", "-z", "--cached"], capture_output=True, check=True
    ).stdout
    yield from filter(None, os.fsdecode(listed).split("\0"))


def faults(checkout: Path) -> Iterator[str]:
    """A line for each file that has to go."""
    names = set(tracked(checkout))
    for name in sorted(names):
        path = checkout / name
        if path.is_symlink() or not path.is_file():
            continue
        size = path.stat().st_size
        if size > MOST_BYTES and name not in BIG:
            yield f"{name}: {size} bytes; more than {MOST_BYTES} need a reason in deploy/check_tree.py"
        if not name.startswith(TEST_DATA):
            with path.open("rb") as file:
                if b"\0" in file.read(LOOKED_AT):
                    yield f"{name}: not text; what tests read belongs into a folder of test data"
    for name in sorted(BIG.keys() - names):
        yield f"{name}: on the list of big files in deploy/check_tree.py, and not in the repository"


def main(arguments: list[str]) -> int:
    checkout = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    found = list(faults(checkout))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
