"""Blocks of BGZF (SAMv1 §4.1): the header of a block, and its bytes inflated within bounds.

All of gooseherd reads the headers here; the kernel has its own reader (kernel/src/bgzf).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

BLOCK_BYTES: Final = 1 << 16
"""No block is larger, neither compressed nor inflated."""
HEADER_BYTES: Final = 18
"""Of a header with the block's length and no other extra field: the only one that htslib reads and writes."""
TAIL_BYTES: Final = 8
"""Of CRC-32 and length behind the compressed bytes of a block."""
END_MARKER: Final = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty last block (SAMv1 §4.1.2)."""
_FIXED: Final = struct.Struct("<3sBI2BH")  # RFC 1952 §2.3, and the length of the extra field
_GZIP: Final = b"\x1f\x8b\x08"
_FLAG_EXTRA: Final = 4
_SUBFIELD: Final = struct.Struct("<2sH")
_TAIL: Final = struct.Struct("<II")  # CRC-32 and length of the inflated bytes


class NotBgzf(ValueError):
    """Bytes that are no block of BGZF, or a damaged one."""


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """`length` of the whole block and `size` of its header, both in bytes."""

    size: int
    length: int


def read_header(data: bytes | bytearray | memoryview, at: int = 0) -> BlockHeader | None:
    """The header of the block that begins at `at`; None: more bytes are needed to say.

    Other subfields may stand beside the block's length, in any order.

    Raises:
        NotBgzf: no block begins there.
    """
    there = len(data) - at
    if bytes(data[at : at + 3]) != _GZIP[:there]:
        raise NotBgzf("no block begins here")
    if there < _FIXED.size:
        return None
    _, flags, _, _, _, extra = _FIXED.unpack_from(data, at)
    if flags != _FLAG_EXTRA:
        raise NotBgzf("gzip, but without the length of a block")
    size = _FIXED.size + extra
    if there < size:
        return None
    field, end = at + _FIXED.size, at + size
    while field + _SUBFIELD.size <= end:
        name, length = _SUBFIELD.unpack_from(data, field)
        field += _SUBFIELD.size
        if name == b"BC" and length == 2 and field + 2 <= end:
            block = int.from_bytes(data[field : field + 2], "little") + 1
            if block < size + _TAIL.size:
                raise NotBgzf("a block shorter than its header")
            return BlockHeader(size, block)
        field += length
    raise NotBgzf("gzip, but without the length of a block")


def htslib_header(data: bytes | bytearray | memoryview, at: int = 0) -> BlockHeader | None:
    """The header that begins at `at`, if htslib's readers take it; None: they do not, or bytes are missing.

    HEADER_BYTES are enough to tell.
    """
    try:
        header = read_header(data, at)
    except NotBgzf:
        return None
    return header if header is not None and header.size == HEADER_BYTES else None


def inflate(block: bytes | bytearray | memoryview, header: BlockHeader) -> bytes:
    """The bytes of one whole block, checked against its length and CRC-32; at most BLOCK_BYTES.

    Raises:
        NotBgzf: the block is cut, or its bytes are not what its checksum says.
    """
    if len(block) < header.length:
        raise NotBgzf("a block that is cut")
    crc, length = _TAIL.unpack_from(block, header.length - _TAIL.size)
    if length > BLOCK_BYTES:
        raise NotBgzf("a block larger than any")
    stream = zlib.decompressobj(wbits=-15)
    try:
        content = stream.decompress(block[header.size : header.length - _TAIL.size], length + 1)
    except zlib.error:
        raise NotBgzf("a block that does not inflate") from None
    if not stream.eof or len(content) != length or zlib.crc32(content) != crc:
        raise NotBgzf("a block that is not what its checksum says")
    return content
