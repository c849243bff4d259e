"""The reference sequences of a BAM by its binary dictionary (SAMv1 §4.2), which places its reads.

The text above it may say less: @SQ lines are optional there, and most readers lose what is behind a NUL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gooseherd.domain.contig import Contig
from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.formats.decompression import MAX_BYTES, Inflation, inflate
from gooseherd.processing.formats.sam_header import MAX_CONTIGS, checked_contigs, refuse_many

_LONGEST_NAME: Final = 1 << 16


def contigs_of_bam(path: Path) -> tuple[Contig, ...]:
    """The dictionary in order. Blocks: it reads the beginning of the file, however that is packed.

    Raises:
        StepFailed: source_invalid: cut, or what `contigs_of` refuses.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        chunks = inflate(stream, Inflation(), size=size, max_bytes=MAX_BYTES)
        return checked_contigs(_entries(_Bytes(chunks)))


def _entries(data: _Bytes) -> Iterator[tuple[bytes, bytes]]:
    if data.take(4) != b"BAM\1":
        raise StepFailed.because(Reason.SOURCE_INVALID, "it is not alignment data")
    data.skip(data.number())
    count = data.number()
    if count > MAX_CONTIGS:
        raise refuse_many()
    for _ in range(count):
        size = data.number()
        if not 1 <= size <= _LONGEST_NAME:
            raise StepFailed.because(
                Reason.SOURCE_INVALID, "corrupt: the name of a reference sequence has no end"
            )
        yield data.take(size)[:-1], b"%d" % data.number()


class _Bytes:
    """Chunks, taken as so many bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        while len(self._held) - self._at < size:
            self._held = self._held[self._at :] + self._more()
            self._at = 0
        self._at += size
        return self._held[self._at - size : self._at]

    def skip(self, size: int) -> None:
        while len(self._held) - self._at < size:
            size -= len(self._held) - self._at
            self._held, self._at = self._more(), 0
        self._at += size

    def number(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def _more(self) -> bytes:
        if not (chunk := next(self._chunks, b"")):
            raise StepFailed.because(Reason.SOURCE_INVALID, "truncated: the header of the BAM is cut")
        return chunk
