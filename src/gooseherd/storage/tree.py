"""A folder that nothing named by a key can leave: every step is an openat that follows no symlink.

Paths are never joined and reopened, so a symlink or a rename made at any moment by
somebody else cannot lead a read or a write outside. All functions block.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.keys import CacheKey
from gooseherd.domain.ports.cache import StoredObject
from gooseherd.storage.keys import RESERVED, check_key

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO somebody left there must not wait for its writer.
_OBJECT = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOT_A_FOLDER = frozenset({errno.ENOTDIR, errno.ELOOP})

_TRIES = 64
"""How often a link is tried while others delete the folders made for it."""


class FileTree:
    """Objects as files below `root`, which is made if need be; keys are checked by the caller."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(FileExistsError):
                os.mkdir(RESERVED + "tmp", 0o700, dir_fd=self._root)
            self.drafts = os.open(RESERVED + "tmp", _FOLDER, dir_fd=self._root)
        except OSError:
            os.close(self._root)
            raise

    def close(self) -> None:
        """Once only."""
        os.close(self.drafts)
        os.close(self._root)

    def open(self, key: CacheKey) -> int | None:
        """A descriptor to read the object by; None when there is no regular file of that name."""
        try:
            with self._folders(key) as (chain, name):
                fd = os.open(name, _OBJECT, dir_fd=chain[-1])
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno in {*_NOT_A_FOLDER, errno.ENXIO}:
                self._must_exist()
                return None
            raise
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        return None

    def link(self, draft: str, key: CacheKey) -> bool:
        """Give a finished draft the key's name as well, durably; False when the name is taken.

        Raises:
            InvalidInput: an object has the name of one of the key's folders, or the reverse.
        """
        for _ in range(_TRIES):
            try:
                with self._folders(key, create=True) as (chain, name):
                    linked = self._link(draft, chain[-1], name)
                    # Also for the loser: that there is an object must be as durable as the object.
                    for folder in reversed(chain):
                        os.fsync(folder)
                    return linked
            except FileNotFoundError:
                # Somebody deleted the folder's last object, and the folder, since we made it.
                self._must_exist()
            except OSError as error:
                if error.errno in _NOT_A_FOLDER:
                    raise InvalidInput("key", "an object has the name of one of its folders") from None
                raise
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _link(self, draft: str, folder: int, name: str) -> bool:
        try:
            # link refuses an existing name, atomically and across processes. os.replace would
            # not: two writers would both "win", and readers see one object turn into another.
            os.link(draft, name, src_dir_fd=self.drafts, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise InvalidInput("key", "a folder or another thing has this name") from None
            return False
        return True

    def settle(self, key: CacheKey) -> None:
        """Make the name of an object that somebody else published as durable as if we had."""
        with suppress(FileNotFoundError, NotADirectoryError), self._folders(key) as (chain, _):
            for folder in reversed(chain):
                os.fsync(folder)

    def unlink(self, key: CacheKey) -> bool:
        """Remove the object and the folders it leaves empty; False when there is no such object."""
        try:
            with self._folders(key) as (chain, name):
                if not stat.S_ISREG(os.stat(name, dir_fd=chain[-1], follow_symlinks=False).st_mode):
                    return False
                os.unlink(name, dir_fd=chain[-1])
                segments = key.split("/")[:-1]
                # Ends at the first folder that holds something, or that somebody else removed.
                with suppress(OSError):
                    for parent, segment in zip(chain[-2::-1], reversed(segments), strict=True):
                        os.rmdir(segment, dir_fd=parent)
                return True
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno in _NOT_A_FOLDER:
                self._must_exist()
                return False
            raise

    def scan(self, prefix: str) -> Generator[StoredObject, None, None]:
        """The objects whose key starts with `prefix`, ordered by the key's bytes."""
        self._must_exist()
        # Opened anew: a duplicate would share its position with every other scan.
        yield from self._scan(os.open(".", _FOLDER, dir_fd=self._root), "", prefix)

    def _scan(self, folder: int, above: str, prefix: str) -> Iterator[StoredObject]:
        try:
            with os.scandir(folder) as entries:
                # With its slash a folder sorts where its keys do: "a-b" < "a/b" < "a0".
                names = sorted(
                    (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)
                    for entry in entries
                    if not entry.name.startswith(RESERVED)
                )
            for name in names:
                key = above + name
                if name.endswith("/"):
                    if key.startswith(prefix) or prefix.startswith(key):
                        with suppress(FileNotFoundError, NotADirectoryError):
                            yield from self._scan(os.open(name[:-1], _FOLDER, dir_fd=folder), key, prefix)
                elif key.startswith(prefix):
                    # Whatever cannot be an object of ours, and what has just been deleted, is passed over.
                    with suppress(FileNotFoundError, InvalidInput):
                        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                        if stat.S_ISREG(found.st_mode):
                            yield StoredObject(check_key(key), found.st_size, found.st_mtime)
        finally:
            os.close(folder)

    def draft_names(self) -> list[str]:
        """The drafts there are, in no order."""
        folder = os.open(".", _FOLDER, dir_fd=self.drafts)
        try:
            return os.listdir(folder)  # noqa: PTH208 - by descriptor, which pathlib cannot
        finally:
            os.close(folder)

    @contextmanager
    def _folders(self, key: CacheKey, *, create: bool = False) -> Iterator[tuple[list[int], str]]:
        """Descriptors from the root down to the key's folder, and the last segment."""
        *segments, name = key.split("/")
        chain = [self._root]
        try:
            for segment in segments:
                try:
                    chain.append(os.open(segment, _FOLDER, dir_fd=chain[-1]))
                except FileNotFoundError:
                    if not create:
                        raise
                    with suppress(FileExistsError):
                        os.mkdir(segment, dir_fd=chain[-1])
                    chain.append(os.open(segment, _FOLDER, dir_fd=chain[-1]))
            yield chain, name
        finally:
            for fd in chain[1:]:
                os.close(fd)

    def _must_exist(self) -> None:
        # Not seeing an object in a root that was removed under us is not seeing the object gone.
        if os.fstat(self._root).st_nlink == 0:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
