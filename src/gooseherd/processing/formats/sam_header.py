"""The reference sequences of a SAM header, checked for what cannot be indexed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from gooseherd.domain.contig import Contig
from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed

MAX_CONTIGS: Final = 1_000_000
MAX_LENGTH: Final = (1 << 31) - 1  # SAMv1 §1.3: LN


def contigs_of(header: bytes) -> tuple[Contig, ...]:
    """The @SQ lines in order.

    Raises:
        StepFailed: source_invalid: none at all, a name twice, no usable length, too many.
    """
    return checked_contigs(_declared(header))


def checked_contigs(declared: Iterable[tuple[bytes, bytes]]) -> tuple[Contig, ...]:
    """Names and lengths as they are spelt, refused as `contigs_of` does."""
    contigs: list[Contig] = []
    names: set[bytes] = set()
    for name, length in declared:
        shown = name.decode("utf-8", "replace")[:80]
        if not name:
            raise _refused("an @SQ header line has no name (SN)")
        if name in names:
            raise _refused(f"the header declares the reference sequence {shown!r} twice")
        if not length.isdigit() or not 1 <= int(length) <= MAX_LENGTH:
            raise _refused(f"the header gives {shown!r} no usable length (LN)")
        names.add(name)
        contigs.append(Contig(name.decode("utf-8", "replace"), int(length)))
        if len(contigs) > MAX_CONTIGS:
            raise refuse_many()
    if not contigs:
        raise _refused(
            "the header names no reference sequences (@SQ), so the reads have no positions to index"
        )
    return tuple(contigs)


def refuse_many() -> StepFailed:
    """More reference sequences than anybody has."""
    return _refused(f"more than {MAX_CONTIGS} reference sequences")


def _declared(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in header.split(b"\n"):
        if line.startswith(b"@SQ\t"):
            tags = dict(
                field.split(b":", 1) for field in line.rstrip(b"\r").split(b"\t")[1:] if b":" in field
            )
            yield tags.get(b"SN", b""), tags.get(b"LN", b"")


def _refused(detail: str) -> StepFailed:
    return StepFailed.because(Reason.SOURCE_INVALID, detail)
