"""A region of a genome, as people write it and as everything inside counts it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gooseherd.domain.errors import InvalidInput

_SPAN = re.compile(r"(?P<start>\d[\d,]*)(?:-(?P<end>\d[\d,]*)?)?$")


@dataclass(frozen=True, slots=True)
class Region:
    """Half-open and 0-based, as inside everything; `end` None means to the contig's end."""

    contig: str
    start: int = 0
    end: int | None = None

    def __str__(self) -> str:
        if self.end is None:
            return self.contig if not self.start else f"{self.contig}:{self.start + 1}-"
        return f"{self.contig}:{self.start + 1}-{self.end}"

    def overlaps(self, contig: str, start: int, end: int) -> bool:
        """Whether [start, end) of `contig` shares a base with this region."""
        return contig == self.contig and end > self.start and (self.end is None or start < self.end)


def parse_region(text: str) -> Region:
    """`chr1`, `chr1:1000`, `chr1:1,000-2,000` (1-based, both ends included, as people write it).

    A name that itself ends in `:digits` is written in braces, as samtools has it: `{HLA:01}:1-9`.

    Raises:
        InvalidInput: when no region can be read from it.
    """
    text = text.strip()
    name, span = text, ""
    if text.startswith("{") and "}" in text:
        name, _, rest = text[1:].partition("}")
        if rest and not rest.startswith(":"):
            raise InvalidInput("region", "write it as chr1:1000-2000")
        span = rest[1:]
    else:
        before, colon, after = text.rpartition(":")
        if colon and _SPAN.match(after):
            name, span = before, after
    if not name or "\0" in name:
        raise InvalidInput("region", "write it as chr1:1000-2000")
    if not span:
        return Region(name)
    match = _SPAN.match(span)
    if match is None:
        raise InvalidInput("region", f"{span!r} is no span; write it as 1000-2000")
    start = int(match["start"].replace(",", ""))
    end = int(match["end"].replace(",", "")) if match["end"] else None
    if start < 1 or (end is not None and end < start):
        raise InvalidInput("region", "positions start at 1 and the end is not before the start")
    return Region(name, start - 1, end)
