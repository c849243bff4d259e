"""Says what a file's bytes are, so that a wrong catalog entry is named instead of tripped over."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import (
    BAM,
    BCF,
    BIGBED,
    BIGWIG,
    CRAM,
    GFF,
    GFF3,
    GTF,
    SAM,
    VCF,
    Family,
    Format,
)  # fmt: skip
from gooseherd.domain.processing import StepFailed
from gooseherd.processing.inflate import Compression, Inflation, compression_of, inflate

_HEAD: Final = 1 << 16

_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"BAM\1", BAM.name),
    (b"CRAM", CRAM.name),
    (b"BCF\2", BCF.name),
    (b"BCF\4", BCF.name),
    (b"\xeb\xf2\x89\x87", BIGBED.name),
    (b"\x87\x89\xf2\xeb", BIGBED.name),
    (b"\x26\xfc\x8f\x88", BIGWIG.name),
    (b"\x88\x8f\xfc\x26", BIGWIG.name),
    (b"TBI\1", "a tabix index"),
    (b"BAI\1", "a BAM index"),
    (b"CSI\1", "a CSI index"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "an image"),
    (b"PAR1", "a Parquet table"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive"),
)
_TEXT: Final[tuple[tuple[re.Pattern[bytes], str], ...]] = (
    (re.compile(rb"##fileformat=VCF"), VCF.name),
    (re.compile(rb"##gff-version"), GFF3.name),
    (re.compile(rb"@(?:HD|SQ|RG|PG|CO)\t"), SAM.name),
    (re.compile(rb"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE), "a web page or XML"),
    (re.compile(rb'\s*\{\s*"'), "JSON"),
    (re.compile(rb">[^\t\n]*\n[A-Za-z*-]+\r?\n"), "FASTA"),
    (re.compile(rb"@[^\t\n]*\n[A-Za-z.]+\r?\n\+"), "FASTQ"),
)
_BINARY: Final = frozenset({BAM, CRAM, BCF, BIGBED, BIGWIG})
_GFF_LIKE: Final = frozenset({GFF.name, GFF3.name, GTF.name})


@dataclass(frozen=True, slots=True)
class Look:
    """The first impression. `content` is a format's name, words for something else, or None: no telling."""

    compression: Compression
    content: str | None
    size: int
    head: bytes


def look(path: Path) -> Look:
    """Read the first bytes, through the compression if there is one this code can read.

    Raises:
        StepFailed: the compression is broken in the first 64 KiB.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        raw = stream.read(_HEAD)
        compression = compression_of(raw)
        head = raw
        if compression not in (Compression.PLAIN, Compression.ZSTD, Compression.ZIP):
            stream.seek(0)
            head = b""
            for part in inflate(stream, Inflation(), size=size, max_bytes=1 << 40):
                head += part
                if len(head) >= _HEAD:
                    break
    return Look(compression, _content(head), size, head)


def expect(path: Path, wanted: Format) -> Look:
    """Look at `path` and refuse what is certainly not `wanted`.

    Raises:
        StepFailed: source_invalid, naming both formats.
    """
    seen = look(path)
    if seen.size == 0:
        raise StepFailed.because(Reason.SOURCE_INVALID, "the file is empty")
    if seen.content is None and wanted in _BINARY:
        what = "text" if is_text(seen.head) else "something else"
        if seen.compression in (Compression.ZSTD, Compression.ZIP):
            what = f"{seen.compression}-compressed"
        raise StepFailed.because(
            Reason.SOURCE_INVALID, f"the catalog says {wanted.name}, but the file is {what}"
        )
    if seen.content is None or seen.content == wanted.name:
        return seen
    if seen.content in _GFF_LIKE and wanted.name in _GFF_LIKE:
        return seen
    if wanted.family is Family.TABLE and not _is_magic(seen.head):
        return seen
    raise StepFailed.because(
        Reason.SOURCE_INVALID, f"the catalog says {wanted.name}, but the file is {seen.content}"
    )


def is_text(head: bytes) -> bool:
    """Whether these bytes could begin a text file: no NUL, hardly any control bytes."""
    controls = len(head) - len(head.translate(None, bytes(range(9)) + bytes(range(14, 32))))
    return b"\0" not in head and controls * 100 <= len(head)


def _is_magic(head: bytes) -> bool:
    return any(head.startswith(magic) for magic, _ in _MAGIC)


def _content(head: bytes) -> str | None:
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text"
    text = head.removeprefix(b"\xef\xbb\xbf")
    for pattern, name in _TEXT:
        if pattern.match(text):
            return name
    return None
