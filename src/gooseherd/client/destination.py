"""Where writing to a path ends: in a regular file that can be replaced whole, or in a stream."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

_DESCRIPTOR: Final = re.compile(r"/proc/(\d+)(?:/task/\d+)?/fd/(\d+)")
_LINKS: Final = 40
"""Symlinks that Linux follows at most (path_resolution(7))."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A device, a FIFO, or an open file of this process (`descriptor`): bytes go through it, once."""

    path: Path
    descriptor: int | None = None

    def open(self) -> BinaryIO:
        """For writing; a FIFO's open waits for its reader. An open file is written on where it stands."""
        if self.descriptor is not None:
            return os.fdopen(os.dup(self.descriptor), "wb")
        return os.fdopen(os.open(self.path, os.O_WRONLY | os.O_NOCTTY), "wb")


def destination(path: Path) -> Path | Stream:
    """The regular file that is or will be at the end of `path`'s symlinks, or the stream there.

    A regular file is replaced, so its folder must be writable, and it too if it exists.

    Raises:
        OSError: a folder stands there, or the path cannot be written.
    """
    at = os.fspath(path)
    for _ in range(_LINKS):
        at = os.path.join(os.path.realpath(os.path.dirname(at)), os.path.basename(at))  # noqa: PTH118, PTH119, PTH120
        match = _DESCRIPTOR.fullmatch(at)
        if match and int(match[1]) == os.getpid():
            return Stream(path, int(match[2]))
        link = Path(at)
        # Another process's pipe is a link that leads to no name.
        if not link.is_symlink() or (match and not link.is_file()):
            break
        at = os.fspath(link.parent / link.readlink())
    else:
        raise _refused(errno.ELOOP, path)
    mode = _mode(at)
    if mode is not None and not stat.S_ISREG(mode):
        if stat.S_ISDIR(mode):
            raise _refused(errno.EISDIR, path)
        return Stream(path)
    end = Path(at)
    if not end.parent.is_dir():
        raise _refused(errno.ENOTDIR if end.parent.exists() else errno.ENOENT, path.parent)
    if mode is not None and not _may(end, os.W_OK):
        raise _refused(errno.EACCES, path)
    if not _may(end.parent, os.W_OK | os.X_OK):
        raise _refused(errno.EACCES, path.parent)
    return end


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Write what is at `path` anew: a regular file is there whole or as it was, a stream takes what comes.

    Raises:
        OSError: see `destination`; and what writing raises, with the path's name.
    """
    end = destination(path)
    with naming(path):
        if isinstance(end, Stream):
            with end.open() as sink:
                yield sink
            return
        part = end.with_name(f"{end.name[:200]}.{secrets.token_hex(6)}.part")
        with part.open("xb") as sink:
            try:
                yield sink
                sink.flush()
                take_place(part, end)
            except BaseException:
                part.unlink(missing_ok=True)
                raise


def take_place(part: Path, end: Path) -> None:
    """Put `part` in the place of `end`, with the permissions and the owner of what was there, if we may."""
    with contextlib.suppress(FileNotFoundError):
        before, ours = end.stat(), part.stat()
        if (before.st_uid, before.st_gid) != (ours.st_uid, ours.st_gid):
            with contextlib.suppress(PermissionError):
                os.chown(part, before.st_uid, before.st_gid)
        part.chmod(stat.S_IMODE(before.st_mode))
    part.replace(end)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of writing, which know no path, get one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _mode(at: str) -> int | None:
    try:
        return os.stat(at).st_mode  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return None


def _refused(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), os.fspath(path))
