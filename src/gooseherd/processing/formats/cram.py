"""Proves a CRAM complete by its chain of containers: samtools sort may leave out what it cannot read."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed

_DEFINITION: Final = 26  # CRAMv3 §6: magic, version, file id
_HEADER_MOST: Final = 1 << 16
"""Bytes of a container's header: a few, and five for each slice."""


def reads_declared(path: Path) -> int | None:
    """How many reads the containers declare; None for versions other than 3.

    In files of version 2 the first container is not as long as it says.

    Raises:
        StepFailed: source_invalid; the containers are no unbroken chain to the end of the file.
    """
    size = path.stat().st_size
    reads = 0
    with path.open("rb") as stream:
        if stream.read(_DEFINITION)[4:5] != b"\3":
            return None
        at = _DEFINITION
        while at < size:
            stream.seek(at)
            try:
                length, header, records = _container(stream.read(_HEADER_MOST))
            except (IndexError, ValueError, struct.error):
                raise _corrupt(f"no container begins at byte {at}") from None
            reads += records
            at += header + length
    if at != size:
        raise _corrupt("the last container is cut")
    return reads


def _corrupt(how: str) -> StepFailed:
    return StepFailed.because(Reason.SOURCE_INVALID, f"corrupt: {how}")


def _container(data: bytes) -> tuple[int, int, int]:
    """(bytes of its blocks, bytes of its header, reads) (CRAMv3 §7)."""
    (length,) = struct.unpack_from("<i", data)
    if length < 0:
        raise ValueError("a container of less than nothing")
    at = 4
    for _ in range(3):  # sequence, start, span
        _, at = _itf8(data, at)
    reads, at = _itf8(data, at)
    for _ in range(2):  # reads before this container, bases
        at += _ltf8_size(data[at])
    _, at = _itf8(data, at)  # blocks
    landmarks, at = _itf8(data, at)
    for _ in range(landmarks):
        _, at = _itf8(data, at)
    (crc,) = struct.unpack_from("<I", data, at)
    if zlib.crc32(data[:at]) != crc:
        raise ValueError("a container's header is not what its checksum says")
    return length, at + 4, reads


def _itf8_size(first: int) -> int:
    return next((n for n, bit in enumerate((0x80, 0x40, 0x20, 0x10), 1) if not first & bit), 5)


def _ltf8_size(first: int) -> int:
    return next((n for n in range(1, 9) if not first & (0x100 >> n)), 9)


def _itf8(data: bytes, at: int) -> tuple[int, int]:
    """(an unsigned number, what follows it) (CRAMv3 §2.3)."""
    size = _itf8_size(data[at])
    if size == 5:
        high = int.from_bytes(data[at : at + 4], "big") & 0x0FFFFFFF
        return high << 4 | data[at + 4] & 0x0F, at + size
    value = int.from_bytes(data[at : at + size], "big")
    return value & ((1 << 7 * size) - 1), at + size
