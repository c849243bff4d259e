"""Descriptors kept open between reads: objects are immutable, and opening one is what may wait for a disk."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gooseherd.blocking import in_thread_or_undo
from gooseherd.domain.keys import CacheKey


@dataclass(slots=True, eq=False)
class OpenFile:
    """One open object; closed when it is no longer kept and the last borrower has given it back."""

    fd: int
    size: int
    modified_at: float
    borrowers: int = 0
    kept: bool = False


class OpenFiles:
    """The last `capacity` objects that were read. For one event loop."""

    def __init__(self, open_key: Callable[[CacheKey], int | None], capacity: int) -> None:
        self._open_key = open_key
        self._capacity = capacity
        self._kept: OrderedDict[CacheKey, OpenFile] = OrderedDict()

    async def borrow(self, key: CacheKey) -> OpenFile | None:
        """The object, to be given back; None when there is none. No thread hop for a kept one."""
        file = self._current(key)
        if file is None:
            opened = await in_thread_or_undo(_close, self._open, key)
            if opened is None:
                return None
            file = self._current(key)
            if file is None:
                file = opened
                self._keep(key, file)
            else:  # somebody else opened it meanwhile
                os.close(opened.fd)
        file.borrowers += 1
        return file

    def kept(self, key: CacheKey) -> OpenFile | None:
        """The object if it is open already, for use before anything else happens on the loop."""
        return self._current(key)

    def give_back(self, file: OpenFile) -> None:
        """The borrower reads no more."""
        file.borrowers -= 1
        if not file.kept and not file.borrowers:
            os.close(file.fd)

    def forget(self, key: CacheKey) -> None:
        """Keep it no longer; borrowers may finish."""
        if file := self._kept.pop(key, None):
            file.kept = False
            if not file.borrowers:
                os.close(file.fd)

    def forget_deleted(self) -> None:
        """Let go of objects that another process deleted, so that their space is freed."""
        for key in list(self._kept):
            self._current(key)

    def close(self) -> None:
        """Keep nothing from here on; idempotent."""
        self._capacity = 0
        for key in list(self._kept):
            self.forget(key)

    def _current(self, key: CacheKey) -> OpenFile | None:
        file = self._kept.get(key)
        if file is not None and not os.fstat(file.fd).st_nlink:
            # Deleted, by this process or another. Asking the descriptor costs no disk access.
            self.forget(key)
            file = None
        if file is not None:
            self._kept.move_to_end(key)
        return file

    def _keep(self, key: CacheKey, file: OpenFile) -> None:
        if not self._capacity:
            return
        if len(self._kept) >= self._capacity:
            self.forget(next(iter(self._kept)))
        self._kept[key] = file
        file.kept = True

    def _open(self, key: CacheKey) -> OpenFile | None:
        fd = self._open_key(key)
        if fd is None:
            return None
        found = os.fstat(fd)
        return OpenFile(fd, found.st_size, found.st_mtime)


def _close(file: OpenFile | None) -> None:
    if file is not None:
        os.close(file.fd)
