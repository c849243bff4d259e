"""Copies a file that still arrives into the standard input of the tool that reads it.

The tool sees its input end only when the file is complete and verified. A thread of its own moves
the bytes by sendfile(2), so a tool that stops reading for an hour blocks nobody else.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from pathlib import Path
from typing import Final

from gooseherd.blocking import in_thread
from gooseherd.domain.processing import Arriving

_STEP: Final = 1 << 20


class PendingFile:
    """`Arriving` for a small file of ours that is written later, in one go or more."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"")  # One before it may have had the same name.
        self.path = path
        self.size: int | None = None
        self._there = 0
        self._grown = asyncio.Event()

    async def append(self, data: bytes, *, last: bool = False) -> None:
        """Write so much of it; nothing can follow the `last`."""
        await in_thread(self._append, data)
        self._there += len(data)
        if last:
            self.size = self._there
        self._grown.set()

    def _append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    @property
    def complete(self) -> bool:
        """Whether all is written."""
        return self.size is not None

    async def at_least(self, size: int) -> int:
        """Wait until so much is written, or all; how much is there."""
        while self._there < size and not self.complete:
            self._grown.clear()
            await self._grown.wait()
        return self._there

    async def whole(self) -> None:
        """Wait until all is written."""
        while not self.complete:
            self._grown.clear()
            await self._grown.wait()


class Feed:
    """The file from its start on, once; a second tool takes a feed of its own.

    `start`, then `follow` in a task, then `stop` when the tool is gone.
    """

    def __init__(self, path: Path, arriving: Arriving) -> None:
        self.path = path
        self._arriving = arriving
        self._there = 0
        self._last = False
        self._unwanted = False
        self._wakeup = -1
        self._thread: threading.Thread | None = None
        self.position = 0
        """How many bytes were written to the tool."""

    @property
    def size(self) -> int:
        """Of the whole file; a guess while nobody knows."""
        return self._arriving.size or 2 * self._there

    def start(self, pipe: int) -> None:
        """Copy to `pipe` from now on. Owns `pipe`, also when it raises."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(pipe)
            raise
        os.set_blocking(pipe, False)
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._copy, args=(file, pipe), name="feed", daemon=True)
        self._thread.start()

    async def follow(self) -> None:
        """Returns when the file is complete, and lets the tool see its end then.

        Raises StepFailed when it will never be; the tool then waits for more until it is stopped.
        """
        while not self._last:
            there = await self._arriving.at_least(self._there + 1)
            self._last = there <= self._there
            self._there = max(self._there, there)
            os.eventfd_write(self._wakeup, 1)

    def stop(self) -> None:
        """Stop copying; returns at once, for the thread waits for nothing but the wake-up and the pipe."""
        if self._thread is not None:
            self._unwanted = True
            os.eventfd_write(self._wakeup, 1)
            self._thread.join()
            self._thread = None
            os.close(self._wakeup)

    def _copy(self, file: int, pipe: int) -> None:
        try:
            self._send(file, pipe, self._wakeup)
        finally:
            os.close(pipe)
            os.close(file)

    def _send(self, file: int, pipe: int, wakeup: int) -> None:
        woken, ready = select.poll(), select.poll()
        woken.register(wakeup, select.POLLIN)
        ready.register(wakeup, select.POLLIN)
        ready.register(pipe, select.POLLOUT)
        while not self._unwanted:
            last, unsent = self._last, self._there - self.position
            if not unsent and last:
                return
            try:
                sent = os.sendfile(pipe, file, self.position, min(unsent, _STEP)) if unsent else 0
            except BlockingIOError:
                ready.poll()
            except BrokenPipeError:
                return
            else:
                self.position += sent
                # No bytes there: more will arrive, or the file was truncated to be fetched anew.
                if not sent:
                    woken.poll()
            _clear(wakeup)


def _clear(wakeup: int) -> None:
    try:
        os.eventfd_read(wakeup)
    except BlockingIOError:
        return
