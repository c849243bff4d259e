"""A reference sequence, apart from artifacts: programs that read text need nothing else of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contig:
    """A reference sequence of the artifact; `length` in bases, None where the format does not say."""

    name: str
    length: int | None = None
