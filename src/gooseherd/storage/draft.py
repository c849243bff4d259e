"""A file that is being written: invisible under any key, and gone unless it is published.

A draft is locked (flock) as long as its writer lives, so a draft that can be locked by
somebody else was left by a writer that was killed. All functions block.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import threading
import time
from contextlib import suppress
from typing import Self

from gooseherd.domain.keys import CacheKey
from gooseherd.storage.tree import FileTree

_COPY_STEP = 64 << 20
"""Between two steps a copy looks whether it is still wanted."""
_READ_STEP = 1 << 20
_NO_KERNEL_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


class Draft:
    """One temp file on the tree's file system. Use as a context manager: the way out removes it."""

    def __init__(self, tree: FileTree) -> None:
        self._tree = tree
        self._name, self._fd = _create(tree.drafts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove the temp name and free the descriptor; what was published stays. Once only."""
        # Unlinked before the lock goes with the descriptor, or a sweeper could meet the name.
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._tree.drafts)
        os.close(self._fd)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def copy(self, source: int, stop: threading.Event) -> None:
        """Append the rest of `source`, by reflink or in the kernel where it can; `stop` ends it early.

        Never a hard link: the source stays its owner's, who may change it.
        """
        with suppress(_CannotCopyError):
            while not stop.is_set() and _kernel_copy(source, self._fd):
                pass
        # To the end by hand: after a refusal, and for files whose end the kernel copy misjudges (procfs).
        while not stop.is_set() and (data := os.read(source, _READ_STEP)):
            self.write(data)

    def publish(self, key: CacheKey) -> bool:
        """Make the bytes durable, then visible as `key`; False when the key exists."""
        os.fsync(self._fd)
        return self._tree.link(self._name, key)


def sweep(tree: FileTree, older_than_seconds: float) -> int:
    """Remove drafts whose writer is dead and whose last write is that long ago; how many."""
    horizon = time.time() - older_than_seconds
    swept = 0
    for name in tree.draft_names():
        with suppress(FileNotFoundError, BlockingIOError):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=tree.drafts)
            try:
                if os.fstat(fd).st_mtime <= horizon:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=tree.drafts)
                    swept += 1
            finally:
                os.close(fd)
    return swept


def _create(folder: int) -> tuple[str, int]:
    while True:
        name = secrets.token_hex(16)
        # Read-only for everybody from the start, this descriptor excepted: objects never change.
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444, dir_fd=folder)
        with suppress(OSError):  # a file system without locks: nothing will be swept there
            fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return name, fd
        os.close(fd)  # swept between our two calls


class _CannotCopyError(Exception):
    """The kernel does not copy between these two files."""


def _kernel_copy(source: int, target: int) -> int:
    try:
        return os.copy_file_range(source, target, _COPY_STEP)
    except OSError as error:
        if error.errno in _NO_KERNEL_COPY:
            raise _CannotCopyError from error
        raise


def open_regular(path: os.PathLike[str]) -> int:
    """A descriptor to read the caller's file by, which is never another file that it leads to.

    Raises:
        OSError: as open does; also for a symlink, a FIFO, a folder: what is no regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "not a regular file")
