"""Reference sequences that a file of reads leaves out: named by their header lines, known by their M5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ReferenceSequence:
    """A header line @SQ (SAMv1 §1.3): `m5` is the MD5 of the bases in upper case, in lower-case hex."""

    name: str
    length: int
    m5: str
    assembly: str = ""
    """AS of the line."""


@dataclass(frozen=True, slots=True)
class BroughtReferences:
    """`folder` has a file of each sequence that was found: the bases in upper case, called by its M5."""

    folder: Path
    m5s: frozenset[str] = frozenset()
    different: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Sequences that a source has under a wanted name with other bases: that source, and their M5."""
    configured: bool = True
    """Whether any source of references is named at all."""
