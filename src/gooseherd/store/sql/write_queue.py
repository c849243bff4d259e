"""Who writes to a file next, among all processes of the machine: first come, first served.

SQLite lets those who want its write lock look for it again and again: whoever just wrote is the first to
look, and among sixteen processes one has waited for ten seconds. The system's own lock of a file has a
queue, sleeps meanwhile, and is let go of when its holder dies.

It is not handed over, though: whoever was woken has to take it, and a process that just wrote, awake, could
take it again before. So there are two: who has that of being next waits for the turn, and whoever comes,
also who just wrote, waits to be next.
"""

from __future__ import annotations

import fcntl
import os
import threading
from enum import Enum, auto
from pathlib import Path


class _State(Enum):
    FREE = auto()
    WAITING = auto()
    HELD = auto()


class WriteQueue:
    """A place in the queue for one writing thread of this process.

    The system's lock knows no time limit, so another thread waits for it, from the first time that it is
    not to be had at once.
    """

    def __init__(self, path: Path) -> None:
        """`path`, and beside it the file of who is next, are made where they are missing, and stay."""
        self._path = path
        self._next_path = path.with_name(f"{path.name}.next")
        self._lock: int | None = None
        self._next: int | None = None
        self._changed = threading.Condition()
        self._state = _State.FREE
        self._wanted = False
        self._closed = False
        self._waiter: threading.Thread | None = None

    def enter(self, seconds: float) -> bool:
        """True when it is this process's turn; False after so many seconds: it may ask again.

        Raises OSError: the file of the lock cannot be made.
        """
        with self._changed:
            if self._next is None:
                self._next = _opened(self._next_path)
            if self._lock is None:
                self._lock = _opened(self._path)
            if self._state is _State.FREE:
                if self._take(fcntl.LOCK_NB):
                    self._state = _State.HELD
                    return True
                self._state = _State.WAITING
                if self._waiter is None:
                    # It ends with the process: a lock that is waited for cannot be given up.
                    self._waiter = threading.Thread(target=self._wait, name="store-write-queue", daemon=True)
                    self._waiter.start()
            self._wanted = True
            self._changed.notify_all()
            held = self._changed.wait_for(lambda: self._state is _State.HELD, seconds)
            self._wanted = False
            return held

    def leave(self) -> None:
        """Let the next one write."""
        with self._changed:
            self._let_go()

    def close(self) -> None:
        """It is not entered any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if self._state is not _State.WAITING:
                self._shut()

    def _shut(self) -> None:
        files, self._lock, self._next = (self._lock, self._next), None, None
        for file in files:
            if file is not None:
                os.close(file)

    def _let_go(self) -> None:
        assert self._lock is not None
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        self._state = _State.FREE

    def _take(self, flag: int = 0) -> bool:
        assert self._lock is not None
        assert self._next is not None
        try:
            fcntl.flock(self._next, fcntl.LOCK_EX | flag)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | flag)
            finally:
                fcntl.flock(self._next, fcntl.LOCK_UN)
        except BlockingIOError:
            return False
        return True

    def _wait(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._state is _State.WAITING or self._closed)
                if self._state is not _State.WAITING:
                    return
            self._take()
            with self._changed:
                if self._wanted:
                    self._state = _State.HELD
                    self._changed.notify_all()
                else:
                    self._let_go()
                if self._closed:
                    self._shut()
                    return


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
