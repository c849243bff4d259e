"""An index that lies beside a local file: found, and used only when it fits.

A file with an index is served as it is, so a wrong index would give wrong records: whatever is
not certain is not used, and gooseherd makes an index of its own instead. Formats: SAMv1 §5.2
(BAI), tabix.pdf (TBI), SAMv1 §4.1 (BGZF).
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from gooseherd.domain.bgzf import HEADER_BYTES, htslib_header
from gooseherd.domain.formats import BAM, Family, Format

INDEX_SUFFIXES: Final = frozenset({".bai", ".tbi", ".csi", ".crai", ".fai", ".gzi", ".px2", ".beddb"})
"""What is no data when a folder is added."""

_MOST_BYTES: Final = 1 << 28
"""Of an index, unpacked: that of a genome of 100 GB has some 10 MB."""
_MOST_CHUNKS: Final = 1 << 22
_PSEUDO_BIN: Final = 37450
"""Its second chunk holds counts, not offsets."""
_SAMPLES: Final = 64
_CLOCK_SECONDS: Final = 2.0
"""File systems and archives keep times to two seconds at worst (FAT, zip)."""
_MOST_HEADER_BYTES: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class FoundIndex:
    """An index that was found. `problem` is why it is not used; empty: it is, as `kind`."""

    path: Path
    kind: str
    problem: str = ""


class _NotUsable(Exception):
    """The reason, as text that follows the index's name."""


def indexes_beside(data: Path, file_format: Format) -> Iterator[FoundIndex]:
    """The indexes that lie beside `data`, the likeliest first, each checked against it."""
    seen = set[Path]()
    for path, kind in _candidates(data, file_format):
        if not path.is_file() or path.resolve() in seen:
            continue
        seen.add(path.resolve())
        try:
            _check(path, kind, data, file_format)
        except _NotUsable as error:
            yield FoundIndex(path, kind, str(error))
        except (OSError, EOFError, zlib.error) as error:
            yield FoundIndex(path, kind, f"cannot be read ({getattr(error, 'strerror', None) or 'damaged'})")
        else:
            yield FoundIndex(path, kind)


def _candidates(data: Path, file_format: Format) -> Iterator[tuple[Path, str]]:
    kinds = ("bai", "csi") if file_format is BAM else ("tbi", "csi")
    if file_format.family not in {Family.ALIGNMENTS, Family.INTERVALS}:
        return
    # A link and its index may lie together, and so may the file that the link leads to.
    for place in dict.fromkeys((data, data.resolve())):
        for kind in kinds:
            yield place.with_name(f"{place.name}.{kind}"), kind
        if file_format is BAM and place.suffix:
            yield place.with_suffix(".bai"), "bai"


def _check(path: Path, kind: str, data: Path, file_format: Format) -> None:
    """Raises _NotUsable, OSError, EOFError or zlib.error when the index is not to be used."""
    if kind == "csi":
        raise _NotUsable(
            "is a CSI index, which genome browsers in web pages rarely read; another one is made"
        )
    if path.resolve().parent != data.resolve().parent:
        raise _NotUsable("lies in another folder than the file itself")
    about, about_index = data.stat(), path.stat()
    late = about.st_mtime - about_index.st_mtime
    if late > _CLOCK_SECONDS:
        # The file may have grown since: what was added would not be found, and nobody would notice.
        raise _NotUsable("is older than the file")
    if about_index.st_size > _MOST_BYTES:
        raise _NotUsable("is larger than any index of this kind")
    with data.open("rb") as file:
        if htslib_header(file.read(HEADER_BYTES)) is None:
            raise _NotUsable("is there, but the file is not block-compressed")
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if packed != (kind == "tbi"):
            raise _NotUsable(f"is no {kind} index")
        reader = _IndexReader(gzip.GzipFile(fileobj=raw) if packed else raw)
        starts = _read_index(reader, kind, about.st_size, data)
    with data.open("rb") as file:
        for start in starts:
            if start < about.st_size and not htslib_header(os.pread(file.fileno(), HEADER_BYTES, start)):
                raise _NotUsable("points to where no block begins: it belongs to another file")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _IndexReader:
    def __init__(self, file: _Readable) -> None:
        self._file = file
        self._remaining = _MOST_BYTES

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self._remaining:
            raise _NotUsable("is damaged, or larger than any index of this kind")
        self._remaining -= count
        data = self._file.read(count)
        if len(data) != count:
            raise _NotUsable("is cut short")
        return data

    def numbers(self, pattern: str) -> tuple[int, ...]:
        return struct.unpack(f"<{pattern}", self.take(struct.calcsize(f"<{pattern}")))

    def count(self) -> int:
        (count,) = self.numbers("i")
        if not 0 <= count <= _MOST_CHUNKS:
            raise _NotUsable("is damaged: it counts what cannot be")
        return count


def _read_index(reader: _IndexReader, kind: str, size: int, data: Path) -> list[int]:
    """Reads it to its end; where some of the blocks it names begin."""
    if reader.take(4) != {"bai": b"BAI\1", "tbi": b"TBI\1"}[kind]:
        raise _NotUsable(f"is no {kind} index")
    references = reader.count()
    if kind == "tbi":
        _, sequence_column, *_ = reader.numbers("6i")
        names = reader.take(reader.count())
        if sequence_column < 1 or names.count(b"\0") != references or (names and names[-1:] != b"\0"):
            raise _NotUsable("is damaged: its contigs cannot be read")
    elif (known := _bam_references(data)) != references:
        raise _NotUsable(f"is of {references} contigs, the file has {known}: it belongs to another file")
    samples, step, seen = [0], 1, 0
    for _ in range(references):
        for _ in range(reader.count()):
            (number,) = reader.numbers("I")
            chunks = reader.count()
            offsets = reader.numbers(f"{2 * chunks}Q")
            if number == _PSEUDO_BIN:
                offsets = offsets[:2]
            _within(offsets, size)
            if any(begin > end for begin, end in zip(offsets[::2], offsets[1::2], strict=True)):
                raise _NotUsable("is damaged: a chunk ends before it begins")
            for offset in offsets[::2]:
                seen += 1
                if seen % step == 0:
                    samples.append(offset >> 16)
                if len(samples) > _SAMPLES:
                    samples, step = samples[::2], step * 2
        _within(reader.numbers(f"{reader.count()}Q"), size)
    return samples


def _within(offsets: tuple[int, ...], size: int) -> None:
    if offsets and max(offsets) >> 16 > size:
        raise _NotUsable("points beyond the end of the file: it belongs to another file")


def _bam_references(data: Path) -> int:
    with gzip.open(data, "rb") as file:
        if file.read(4) != b"BAM\1":
            raise _NotUsable("is there, but the file is no BAM")
        (length,) = struct.unpack("<i", _exactly(file, 4))
        if not 0 <= length <= _MOST_HEADER_BYTES:
            raise _NotUsable("is there, but the file's header cannot be read")
        while length:
            length -= len(_exactly(file, min(length, 1 << 20)))
        (references,) = struct.unpack("<i", _exactly(file, 4))
        return int(references)


def _exactly(file: _Readable, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise _NotUsable("is there, but the file's header cannot be read")
    return data
