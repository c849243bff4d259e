"""Names the first read that lies beyond the length (LN) of its sequence.

    samtools view -h ... | python -m gooseherd.processing.programs.read_beyond

Prints it as JSON: read, contig, position from 1, length; `null` when there is none. A program of its own: it
is a stage behind a tool, and parses what came from the source.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any


def main() -> int:
    """Run as the module's docstring says."""
    json.dump(first_beyond(sys.stdin.buffer), sys.stdout)
    return 0


def first_beyond(lines: Iterable[bytes]) -> dict[str, Any] | None:
    """Of SAM lines, header first. All are read, so that the tool in front ends well."""
    lengths: dict[bytes, int] = {}
    found = None
    for line in lines:
        fields = line.rstrip(b"\n").split(b"\t")
        if fields[0] == b"@SQ":
            tags = {field[:3]: field[3:] for field in fields[1:]}
            lengths[tags.get(b"SN:", b"")] = int(tags.get(b"LN:", b"0"))
        elif (
            found is None and len(fields) > 3 and int(fields[3]) > (length := lengths.get(fields[2], 1 << 63))
        ):
            found = {
                "read": fields[0].decode("utf-8", "replace"),
                "contig": fields[2].decode("utf-8", "replace"),
                "position": int(fields[3]),
                "length": length,
            }
    return found


if __name__ == "__main__":
    sys.exit(main())
