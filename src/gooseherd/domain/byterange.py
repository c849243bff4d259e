"""Byte ranges: half-open inside, inclusive on the wire (RFC 9110 §14), converted only here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gooseherd.domain.errors import MalformedRange, RangeNotSatisfiable

MAX_RANGES = 16
"""More ranges than this in one request are answered with the whole object; none of the
genome browsers sends more than one, and many small overlapping ones are an attack
(RFC 9110 §14.2)."""

_MAX_HEADER = 1024
_SPEC = re.compile(r"(\d*)-(\d*)$", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """Bytes `start` up to but not including `stop`."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise ValueError(f"not a range: {self.start}..{self.stop}")

    def __len__(self) -> int:
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """The Content-Range value; inclusive, as the wire wants it."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_range(header: str | None, size: int) -> tuple[ByteRange, ...] | None:
    """The ranges a Range header asks of an object of `size` bytes.

    Ends past the object are clamped; ranges that start past it are dropped. None means
    "answer the whole object": no header, a unit other than bytes, or too many ranges.

    Raises:
        MalformedRange: the header names bytes but cannot be read (answer 400).
        RangeNotSatisfiable: well-formed, and no range lies in the object (answer 416).
    """
    if header is None:
        return None
    unit, equals, specs = header.partition("=")
    if not equals:
        raise MalformedRange(header)
    if unit.strip().lower() != "bytes":
        return None
    if len(header) > _MAX_HEADER:
        raise MalformedRange(header)
    words = [word.strip() for word in specs.split(",")]
    words = [word for word in words if word]
    if not words:
        raise MalformedRange(header)
    ranges = []
    for word in words:
        match = _SPEC.match(word)
        if match is None or word == "-":
            raise MalformedRange(header)
        found = _one(match[1], match[2], size, header)
        if found is not None:
            ranges.append(found)
    if not ranges:
        raise RangeNotSatisfiable(size)
    return tuple(ranges) if len(words) <= MAX_RANGES else None


def _one(first: str, last: str, size: int, header: str) -> ByteRange | None:
    if not first:
        suffix = min(int(last), size)
        return ByteRange(size - suffix, size) if suffix else None
    start = int(first)
    if last and int(last) < start:
        raise MalformedRange(header)
    if start >= size:
        return None
    return ByteRange(start, min(int(last) + 1, size) if last else size)
