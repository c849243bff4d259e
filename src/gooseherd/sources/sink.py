"""The file a download goes into, with the digests of what is in it."""

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
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._room():
            self._fd = os.open(path, flags, 0o644)
        self._reset()

    def _reset(self) -> None:
        # md5 is what catalogs have; it names content here and protects nothing.
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256() if self._wants_sha256 else None

    def write(self, data: bytes | bytearray) -> None:
        """Append all of `data`. Raises StepFailed (out_of_disk) when there is no room."""
        rest = memoryview(data)
        with self._room():
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        self._md5.update(data)
        if self._sha256 is not None:
            self._sha256.update(data)
        self.size += len(data)

    @contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            said = f"no room left after {self.size} bytes of the source"
            raise StepFailed.because(Reason.OUT_OF_DISK, said) from None

    def fill(self, source: int, size: int) -> int:
        """Append up to `size` bytes read from the descriptor `source`; how many, 0 at its end."""
        data = os.read(source, size)
        self.write(data)
        return len(data)

    def restart(self) -> None:
        """Forget what was written."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
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
        said: list[tuple[str, str | int, str | int | None]] = [
            ("size in bytes", self.size, source.size_in_bytes),
            ("md5", self.md5, source.md5),
        ]
        if self._sha256 is not None:
            said.append(("sha256", self._sha256.hexdigest(), source.sha256))
        for what, found, expected in said:
            if expected is not None and found != expected:
                return f"{what} is {found}, the catalog says {expected}"
        return None
