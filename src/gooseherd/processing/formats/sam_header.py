"""The reference sequences of a SAM header, checked for what cannot be indexed."""

from __future__ import annotations

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
    contigs: list[Contig] = []
    names: set[bytes] = set()
    for line in header.split(b"\n"):
        if not line.startswith(b"@SQ\t"):
            continue
        tags = dict(field.split(b":", 1) for field in line.rstrip(b"\r").split(b"\t")[1:] if b":" in field)
        name, length = tags.get(b"SN", b""), tags.get(b"LN", b"")
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
            raise _refused(f"more than {MAX_CONTIGS} reference sequences")
    if not contigs:
        raise _refused(
            "the header names no reference sequences (@SQ), so the reads have no positions to index"
        )
    return tuple(contigs)


def _refused(detail: str) -> StepFailed:
    return StepFailed.because(Reason.SOURCE_INVALID, detail)
