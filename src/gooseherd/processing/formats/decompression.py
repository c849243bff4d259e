"""Decompresses a source in any of the usual formats, and proves that it is complete.

Imports only the standard library until a file is Zstandard-compressed: it runs in the normaliser's
process, whose start-up time is part of every step.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, Final, Protocol

from gooseherd.domain import bgzf
from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed

CHUNK: Final = 1 << 17
"""Bytes per read and the most a decoder gives at once; small enough for the cache."""
MAX_RATIO: Final = 250
"""Real text reaches about 100 (thousands of genotypes per line); deflate's own end is 1032."""
RATIO_FLOOR: Final = 256 << 20
"""Below this many bytes a ratio says nothing: small files may be very repetitive."""
MAX_BYTES: Final = 1 << 36
"""64 GiB of text: beyond what one worker can sort."""
_RATIO_BYTES: Final = 40 << 20
"""Uncompressed bytes after which a sane ratio is believed: more than `MAX_RATIO` times one read."""
_XZ_MEMORY: Final = 256 << 20
_ZSTD_WINDOW_LOG: Final = 27
"""A Zstandard frame says how much of its own text must be at hand to decode it. Beyond this it is
refused, as zstd's own program does unless it is told to do otherwise."""
_ZSTD_MAGIC: Final = (b"\x28\xb5\x2f\xfd", *(bytes((n,)) + b"\x2a\x4d\x18" for n in range(0x50, 0x60)))
"""A frame of text, and those of anything else that readers skip (RFC 8878 §3.1)."""
_GZIP_MAGIC: Final = b"\x1f\x8b"


END_MARKER_MISSING: Final = "truncated: the end marker is missing"
FOREIGN_BYTES: Final = "other bytes follow the compressed data"


class Compression(StrEnum):
    """How the bytes are compressed; the value is the name in messages."""

    PLAIN = "uncompressed"
    GZIP = "gzip"
    BGZF = "BGZF"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "Zstandard"
    ZIP = "zip"


@dataclass
class Inflation:
    """What is known of the compression after `inflate`."""

    compression: Compression = Compression.PLAIN
    bytes_out: int = 0
    without_end_marker: bool = False
    """BGZF that lacks the empty last block (SAMv1 §4.1.2): whole blocks may be missing."""
    whole_blocks: bool = False
    """BGZF from the first byte to its end marker."""


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Gunzip:
    """zlib's decoder with the interface of those of bz2 and lzma."""

    def __init__(self) -> None:
        self._z = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._z.eof

    @property
    def needs_input(self) -> bool:
        return not self._z.unconsumed_tail and not self._z.eof

    @property
    def unused_data(self) -> bytes:
        return self._z.unused_data

    def decompress(self, data: bytes, max_length: int = CHUNK) -> bytes:
        return self._z.decompress(self._z.unconsumed_tail + data, max_length)


class _Unzstd:
    """The library's decoder of one frame, with our messages for what it refuses."""

    def __init__(self) -> None:
        from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

        self._z = ZstdDecompressor(options={DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
        self._refused = ZstdError

    @property
    def eof(self) -> bool:
        return self._z.eof

    @property
    def needs_input(self) -> bool:
        return self._z.needs_input

    @property
    def unused_data(self) -> bytes:
        return self._z.unused_data

    def decompress(self, data: bytes, max_length: int = CHUNK) -> bytes:
        try:
            return self._z.decompress(data, max_length)
        except self._refused as error:
            if "too much memory" in str(error):
                most = 1 << (_ZSTD_WINDOW_LOG - 20)
                raise StepFailed.because(
                    Reason.SOURCE_INVALID,
                    f"its Zstandard frames need a window of more than {most} MB: pack it without --long",
                ) from None
            raise _corrupt() from None


def compression_of(head: bytes) -> Compression:
    """Detected by the first bytes (18 are enough)."""
    if head.startswith(_GZIP_MAGIC):
        return Compression.BGZF if bgzf.htslib_header(head) else Compression.GZIP
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return Compression.BZIP2
    if head.startswith(_ZSTD_MAGIC):
        return Compression.ZSTD
    for magic, compression in (
        (b"\xfd7zXZ\0", Compression.XZ),
        (b"PK\x03\x04", Compression.ZIP),
    ):
        if head.startswith(magic):
            return compression
    return Compression.PLAIN


def inflate(stream: BinaryIO, found: Inflation, *, size: int | None, max_bytes: int) -> Iterator[bytes]:
    """The uncompressed bytes in chunks of about `CHUNK`; `found` is filled on the way.

    `stream` must be seekable unless its bytes are uncompressed. `size` is the compressed
    size, None for a pipe.

    Raises:
        StepFailed: truncated, corrupt, packed in a way nothing here reads, or far larger
            than its compressed size warrants; after all bytes up to there were given.
    """
    head = stream.read(CHUNK) if size is None else stream.read(bgzf.HEADER_BYTES)
    found.compression = compression_of(head)
    for chunk in _decoded(stream, head, found):
        found.bytes_out += len(chunk)
        if found.bytes_out > max_bytes:
            raise StepFailed.because(
                Reason.SOURCE_TOO_LARGE, f"more than {max_bytes} bytes when uncompressed"
            )
        if size and found.bytes_out > max(RATIO_FLOOR, size * MAX_RATIO):
            raise StepFailed.because(
                Reason.SOURCE_INVALID,
                f"expands to more than {MAX_RATIO} times its {size} bytes, as no real file does",
            )
        yield chunk


def refuse_decompression_bomb(stream: BinaryIO, *, size: int, max_bytes: int) -> None:
    """Refuse a decompression bomb before it is parsed, which takes a hundred times as long.

    Files like any other pass after their first megabytes. `stream` is at its start before and after.

    Raises:
        StepFailed: as `inflate` does for its ratio; other errors are left to the reader of the file.
    """
    found = Inflation()
    try:
        for _ in inflate(stream, found, size=size, max_bytes=max_bytes):
            if (
                found.compression is Compression.PLAIN
                or _RATIO_BYTES <= found.bytes_out <= stream.tell() * MAX_RATIO
            ):
                break
    except StepFailed:
        if found.bytes_out > max(RATIO_FLOOR, size * MAX_RATIO):
            raise
    stream.seek(0)


def _decoded(stream: BinaryIO, head: bytes, found: Inflation) -> Iterator[bytes]:
    match found.compression:
        case Compression.PLAIN:
            while head:
                yield head
                head = stream.read(CHUNK)
        case Compression.BGZF:
            yield from _bgzf(stream, head, found)
        case Compression.GZIP:
            yield from _streams(stream, head, _Gunzip, (_GZIP_MAGIC,))
        case Compression.BZIP2:
            yield from _streams(stream, head, bz2.BZ2Decompressor, (b"BZh",))
        case Compression.XZ:
            yield from _streams(stream, head, _xz, (b"\xfd7zXZ\0",))
        case Compression.ZSTD:
            yield from _streams(stream, head, _Unzstd, _ZSTD_MAGIC)
        case other:
            raise StepFailed.because(
                Reason.SOURCE_INVALID,
                f"is {other}-compressed; only gzip, BGZF, Zstandard, bzip2 and xz can be read",
            )


def _xz() -> _Decoder:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


def _streams(
    stream: BinaryIO, pending: bytes, start: Callable[[], _Decoder], magic: tuple[bytes, ...]
) -> Iterator[bytes]:
    """One compressed stream after the other, as gzip(1) and the others read them."""
    decoder = start()
    while True:
        data, ended = pending, False
        if not data and decoder.needs_input:
            data = stream.read(CHUNK)
            ended = not data
        pending = b""
        try:
            out = decoder.decompress(data, CHUNK)
        except (zlib.error, lzma.LZMAError, OSError, EOFError):
            raise _corrupt() from None
        if out:
            yield out
        if decoder.eof:
            pending = _next_member(stream, decoder.unused_data, magic)
            if not pending:
                return
            decoder = start()
        elif ended and not out:
            raise _truncated()


def _next_member(stream: BinaryIO, pending: bytes, magic: tuple[bytes, ...]) -> bytes:
    """What follows a whole one, from the next one's first byte on; nothing at the end.

    Raises:
        StepFailed: something else follows.
    """
    # Tapes and some archives are padded with zeros.
    pending = pending.lstrip(b"\0")
    while not pending:
        more = stream.read(CHUNK)
        if not more:
            return b""
        pending = more.lstrip(b"\0")
    if len(pending) < len(magic[0]):
        pending += stream.read(len(magic[0]) - len(pending))
    if not pending.startswith(magic):
        raise StepFailed.because(Reason.SOURCE_INVALID, FOREIGN_BYTES)
    return pending


def _bgzf(stream: BinaryIO, head: bytes, found: Inflation) -> Iterator[bytes]:
    """Block by block: each names its length, so completeness and checksums cost next to nothing."""
    blocks: list[bytes] = []
    held = 0
    last_size = -1
    while head:
        header = bgzf.htslib_header(head)
        if header is None:
            # bgzip's output with gzip's appended: legal, but from here on without block lengths.
            yield b"".join(blocks)
            if last_size == 0:
                head = _next_member(stream, head, (_GZIP_MAGIC,))
            elif not head.startswith(_GZIP_MAGIC):
                raise _truncated() if len(head) < bgzf.HEADER_BYTES else _corrupt()
            if head:
                yield from _streams(stream, head, _Gunzip, (_GZIP_MAGIC,))
            return
        block = head[: bgzf.HEADER_BYTES] + stream.read(header.length - bgzf.HEADER_BYTES)
        if len(block) < header.length:
            raise _truncated()
        try:
            data = bgzf.inflate(block, header)
        except bgzf.NotBgzf:
            raise _corrupt() from None
        blocks.append(data)
        last_size = len(data)
        held += last_size
        if held >= CHUNK - bgzf.BLOCK_BYTES:
            yield b"".join(blocks)
            blocks, held = [], 0
        head = stream.read(bgzf.HEADER_BYTES)
    if held:
        yield b"".join(blocks)
    found.without_end_marker = last_size != 0
    found.whole_blocks = last_size == 0


def _truncated() -> StepFailed:
    return StepFailed.because(
        Reason.SOURCE_INVALID, "truncated: the compressed data ends before its end marker"
    )


def _corrupt() -> StepFailed:
    return StepFailed.because(Reason.SOURCE_INVALID, "corrupt: the compressed data does not decode")
