"""Proves a BGZF file whole by its chain of blocks, without inflating all of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from gooseherd.domain.bgzf import (
    END_MARKER,
    HEADER_BYTES,
    TAIL_BYTES,
    BlockHeader,
    NotBgzf,
    inflate,
    read_header,
)

_INFLATED: Final = 64
"""So many blocks, spread over the file, are inflated and their checksums compared."""


def text_bytes(path: Path) -> int:
    """How many bytes the file holds when uncompressed.

    Raises:
        ValueError: the blocks are no unbroken chain, or one of those inflated is damaged.
    """
    at, inflate_at, total = 0, 0, 0
    with path.open("rb", buffering=0) as stream:
        descriptor = stream.fileno()
        size = os.fstat(descriptor).st_size
        every = max(size // _INFLATED, 1)
        head = os.pread(descriptor, HEADER_BYTES, 0)
        while at < size:
            header = _header(head, at)
            if at >= inflate_at:
                inflate_at += every
                try:
                    inflate(os.pread(descriptor, header.length, at), header)
                except NotBgzf as error:
                    raise ValueError(f"the block at byte {at} does not inflate: {error}") from None
            # Its tail and the next one's head in one read: there may be many blocks.
            seam = os.pread(descriptor, TAIL_BYTES + HEADER_BYTES, at + header.length - TAIL_BYTES)
            if len(seam) < TAIL_BYTES:
                raise ValueError(f"the block at byte {at} is cut")
            total += int.from_bytes(seam[4:TAIL_BYTES], "little")
            at, head = at + header.length, seam[TAIL_BYTES:]
    return total


def has_bytes_behind(path: Path) -> bool:
    """Whether something that is no block follows an empty one, which should be the last."""
    at, ended = 0, False
    with path.open("rb", buffering=0) as stream:
        descriptor = stream.fileno()
        size = os.fstat(descriptor).st_size
        while at < size:
            try:
                header = _header(os.pread(descriptor, HEADER_BYTES, at), at)
            except ValueError:
                return ended
            at += header.length
            ended = os.pread(descriptor, 4, at - 4) == bytes(4)
    return False


def has_end_marker(path: Path) -> bool:
    """Whether the file ends with BGZF's empty last block."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size < len(END_MARKER):
            return False
        stream.seek(-len(END_MARKER), os.SEEK_END)
        return stream.read() == END_MARKER


def _header(head: bytes, at: int) -> BlockHeader:
    try:
        header = read_header(head)
    except NotBgzf as error:
        raise ValueError(f"no block begins at byte {at}: {error}") from None
    if header is None or header.size != HEADER_BYTES:
        raise ValueError(f"no block begins at byte {at}")
    return header
