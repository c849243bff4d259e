"""The sequences of a FASTA as references are known: bases in upper case, without gaps, and their MD5.

What counts are the characters from `!` to `~` (SAMv1 §1.3.2). A file that does not begin with `>` is one
sequence without a name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from gooseherd.processing.formats.decompression import Inflation, inflate

_UPPER: Final = bytes(range(256)).upper()
_NOT_COUNTED: Final = bytes(code for code in range(256) if not 33 <= code <= 126)
_LONGEST_HEADER: Final = 1 << 20


class SequenceSink(Protocol):
    """Where the bases of one sequence go."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class FastaSequence:
    """One sequence; its bases went to `sink` as far as they were wanted."""

    name: str
    length: int
    m5: str
    sink: SequenceSink


def sequences_of(
    path: Path, begin: Callable[[], SequenceSink], *, longest: int, max_bytes: int
) -> Iterator[FastaSequence]:
    """Each sequence when it has been read; one longer than `longest` is given to no sink beyond that.

    In memory are a chunk and a header line.

    Raises:
        StepFailed: as `inflate` does.
        OSError: the file cannot be read, or `begin` or a sink failed.
    """
    with path.open("rb") as stream:
        chunks = inflate(stream, Inflation(), size=path.stat().st_size, max_bytes=max_bytes)
        sequence: _Sequence | None = None
        for part, is_header in _parts(chunks):
            if is_header:
                if sequence is not None:
                    yield sequence.end()
                sequence = _Sequence(_name(part), begin(), longest)
            else:
                sequence = sequence or _Sequence("", begin(), longest)
                sequence.add(part)
        if sequence is not None:
            yield sequence.end()


class _Sequence:
    def __init__(self, name: str, sink: SequenceSink, longest: int) -> None:
        self._name = name
        self._sink = sink
        self._longest = longest
        self._length = 0
        self._md5 = hashlib.md5(usedforsecurity=False)

    def add(self, text: bytes) -> None:
        bases = text.translate(_UPPER, _NOT_COUNTED)
        self._length += len(bases)
        self._md5.update(bases)
        if bases and self._length <= self._longest:
            self._sink.write(bases)

    def end(self) -> FastaSequence:
        return FastaSequence(self._name, self._length, self._md5.hexdigest(), self._sink)


def _name(header: bytes) -> str:
    words = header.split(maxsplit=1)
    return words[0].decode("utf-8", "replace") if words else ""


def _parts(chunks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """(header line without its `>`, True) and (text between headers, False), in order."""
    header: bytearray | None = None
    line_start = True
    for chunk in chunks:
        at = 0
        while at < len(chunk):
            if header is not None:
                end = chunk.find(b"\n", at)
                header += chunk[at : end if end >= 0 else len(chunk)]
                del header[_LONGEST_HEADER:]
                if end < 0:
                    break
                yield bytes(header), True
                header, at, line_start = None, end + 1, True
                continue
            if line_start and chunk[at : at + 1] == b">":
                header, at = bytearray(), at + 1
                continue
            end = chunk.find(b"\n>", at)
            text = chunk[at : end + 1 if end >= 0 else len(chunk)]
            yield text, False
            at += len(text)
            line_start = text.endswith(b"\n")
    if header is not None:
        yield bytes(header), True
