"""A tool's standard error: read as it comes; its end is kept, and htslib's errors from anywhere in it."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass, field
from typing import Final

STDERR_KEPT: Final = 64 << 10
"""Bytes of each tool's standard error that are kept: the last ones."""
_ERRORS_KEPT: Final = 4 << 10
_ERROR_MARK: Final = b"[E::"


@dataclass
class StderrTail:
    """The end of a stage's standard error, and htslib's errors from anywhere in it."""

    harmless: bytes | None = None
    tail: bytearray = field(default_factory=bytearray)
    errors: bytearray = field(default_factory=bytearray)
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """Add the next bytes; b"" means that there are no more."""
        self.tail += data
        del self.tail[:-STDERR_KEPT]
        *lines, self._rest = (self._rest + data)[-STDERR_KEPT:].split(b"\n")
        for line in (*lines, b"") if data else (self._rest,):
            harmless = self.harmless is not None and self.harmless in line
            if _ERROR_MARK in line and not harmless and len(self.errors) < _ERRORS_KEPT:
                self.errors += line[:500] + b"\n"

    def text(self) -> str:
        """What was kept."""
        missing = b"" if bytes(self.errors[:80]) in self.tail else bytes(self.errors)
        return (missing + bytes(self.tail)).decode("utf-8", "replace")


async def read_stderr(pipe: io.FileIO, tail: StderrTail) -> None:
    """Read until nobody has the other end open; closes `pipe`."""
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), pipe
    )
    try:
        while data := await stream.read(1 << 16):
            tail.feed(data)
        tail.feed(b"")
    finally:
        transport.close()
