"""The file a download goes into, with the digests of what is in it.

Somebody may read the file while it grows. So a download that starts over does not empty it: what
comes again is compared with what is there, and only a difference cuts the file.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gooseherd.domain.failures import Reason
from gooseherd.domain.processing import StepFailed
from gooseherd.domain.source import SourceFile

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Sink:
    """A new file at `path`, digested while written. Blocks; use from one thread at a time."""

    def __init__(self, path: Path, *, sha256: bool) -> None:
        self._path = path
        self._wants_sha256 = sha256
        self.size = 0
        """Bytes that this download has given."""
        self.held = 0
        """Bytes in the file: more than `size` while one that started over has not caught up."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._room():
            self._fd = os.open(path, flags, 0o644)
        self._reset()

    def _reset(self) -> None:
        # md5 is what catalogs have; it names content here and protects nothing.
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256() if self._wants_sha256 else None

    def write(self, data: bytes | bytearray) -> None:
        """Append all of `data`. Raises StepFailed (out_of_disk) when there is no room."""
        at = self.size
        rest = memoryview(data)
        if at < self.held:
            known = self._known(rest)
            at, rest = at + known, rest[known:]
        with self._room():
            while rest:
                written = os.pwrite(self._fd, rest, at)
                at, rest = at + written, rest[written:]
        self._md5.update(data)
        if self._sha256 is not None:
            self._sha256.update(data)
        self.size += len(data)
        self.held = max(self.held, self.size)

    def _known(self, data: memoryview) -> int:
        """How many of the bytes are in the file already; cuts it where they are others."""
        there = os.pread(self._fd, min(len(data), self.held - self.size), self.size)
        if data[: len(there)] == there:
            return len(there)
        self.cut()
        return 0

    def cut(self) -> None:
        """Take back what an earlier beginning of the download gave beyond this one."""
        os.ftruncate(self._fd, self.size)
        self.held = self.size

    @contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            problem = f"no room left after {self.size} bytes of the source"
            raise StepFailed.because(Reason.OUT_OF_DISK, problem) from None

    def fill(self, source: int, size: int) -> int:
        """Append up to `size` bytes read from the descriptor `source`; how many, 0 at its end."""
        data = os.read(source, size)
        self.write(data)
        return len(data)

    def restart(self) -> None:
        """Begin again. What is in the file stays until something else comes in its place."""
        self.size = 0
        self._reset()

    def close(self, *, keep: bool = False) -> None:
        """Once only; the file goes unless it is to be kept."""
        os.close(self._fd)
        if not keep:
            self._path.unlink(missing_ok=True)

    @property
    def md5(self) -> str:
        """Lowercase hex, of all that was written."""
        return self._md5.hexdigest()

    def difference(self, source: SourceFile) -> str | None:
        """What is not as the catalog says, with both values; None when nothing is."""
        claims: list[tuple[str, str | int, str | int | None]] = [
            ("size in bytes", self.size, source.size_in_bytes),
            ("md5", self.md5, source.md5),
        ]
        if self._sha256 is not None:
            claims.append(("sha256", self._sha256.hexdigest(), source.sha256))
        for what, found, expected in claims:
            if expected is not None and found != expected:
                return f"{what} is {found}, the catalog says {expected}"
        return None
