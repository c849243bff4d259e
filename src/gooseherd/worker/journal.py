"""The events of an attempt, written to a file that outlives whoever reads them.

One JSON object per line, appended by one write(2) each, `seq` from 1 without gaps. A
killed writer can leave a torn last line, which readers do not see.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from gooseherd.domain.attempt import Event, EventKind
from gooseherd.domain.foreign_json import read_json

PROGRESS_INTERVAL_SECONDS: Final = 0.5
MAX_BYTES: Final = 4 * 1024 * 1024
"""Past this size progress and heartbeats are dropped: some hours of progress at full rate."""
_DETAIL_LIMIT: Final = 2000
_DROPPABLE: Final = frozenset({EventKind.PROGRESS, EventKind.HEARTBEAT, EventKind.SPAN})


class Journal:
    """The writer; one per attempt, usable from any thread.

    Once a last event is written everything after it is dropped, so that a late thread
    cannot contradict the outcome.
    """

    def __init__(
        self,
        path: Path,
        *,
        grown: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Create the file; `grown` is called after each line.

        Raises:
            FileExistsError: this attempt has run before.
        """
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._grown = grown
        self._clock = clock
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._seq = 0
        self._bytes = 0
        self._over = False
        self._torn = False
        """A short write left half a line, which the next one must not join."""
        self._next_progress = 0.0
        self._detail = ""
        self._written_at = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the last event is written."""
        return self._over

    @property
    def seconds_since_write(self) -> float:
        """Seconds since the newest line."""
        return time.monotonic() - self._written_at

    def append(self, kind: EventKind, **fields: Any) -> Event | None:
        """Write one event; None when it was dropped.

        Progress is dropped above two a second unless its detail is new, progress and heartbeats
        past `max_bytes`, everything after the last event.

        Raises:
            OSError: the disk is full; the event was not written and may be appended again. Progress
                and heartbeats are dropped instead.
        """
        with self._lock:
            now = time.monotonic()
            repeats = kind is EventKind.PROGRESS and fields.get("detail", "") == self._detail
            if self._over or (repeats and now < self._next_progress):
                return None
            if kind in _DROPPABLE and self._bytes >= self._max_bytes:
                return None
            if "detail" in fields:
                fields["detail"] = str(fields["detail"])[:_DETAIL_LIMIT]
            event = Event(seq=self._seq + 1, kind=kind, at=round(self._clock(), 3), **fields)
            line = json.dumps(event.to_json(), separators=(",", ":")).encode() + b"\n"
            try:
                if os.write(self._fd, b"\n" + line if self._torn else line) < len(line) + self._torn:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                self._torn = True
                if kind in _DROPPABLE:
                    return None
                raise
            self._torn = False
            self._seq = event.seq
            self._bytes += len(line)
            self._written_at = now
            self._over = event.last
            if kind is EventKind.PROGRESS:
                self._next_progress = now + PROGRESS_INTERVAL_SECONDS
                self._detail = event.detail
            self._grown()
            return event

    def close(self) -> None:
        """Free the file; idempotent. Events after it are dropped."""
        with self._lock:
            self._over = True
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


class JournalReader:
    """Reads what is new since its last read; holds the file open, so a removed journal is read to its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._rest = b""

    def read(self) -> list[Event]:
        """The complete events that are new since the last call; [] also when there is no file yet."""
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return []
        chunks = [self._rest]
        while chunk := os.read(self._fd, 1 << 20):
            chunks.append(chunk)
        *lines, self._rest = b"".join(chunks).split(b"\n")
        return [event for line in lines if (event := _parse(line)) is not None]

    def close(self) -> None:
        """Free the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _parse(line: bytes) -> Event | None:
    # Half a line that a full disk left; the writer wrote the event again or gave up.
    try:
        return Event.from_json(read_json(line))
    except (ValueError, TypeError, KeyError):
        return None
