"""Ties an attempt's life to its worker's, and bounds its time, from a thread that does nothing else.

The worker is two processes (the entrypoint and Wool's child), and either can be killed
alone. The child holds the other end of a pipe, which the kernel closes with it; the
entrypoint is watched by pidfd.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final

from gooseherd.processes import ProcessId

LAST_WORDS_SECONDS: Final = 5.0
"""From SIGTERM to an attempt's last event, whatever it still waits for then: storage that hangs, say.
Enough for a few parts of an upload that are on their way, which are waited for."""
STOP_SECONDS: Final = 7.0
"""From SIGTERM to an attempt to SIGKILL to its session: more than it needs for its last words."""


class Watchdog:
    """Calls `cut` once when the worker is gone, `late` once when the time is up; from its own thread.

    `line` is our end, closed with the process. A worker that is gone already cuts at once.
    """

    def __init__(
        self,
        *,
        line: int,
        entrypoint: ProcessId,
        wall_seconds: float,
        cut: Callable[[], None],
        late: Callable[[], None],
    ) -> None:
        self._line = line
        self._entrypoint = entrypoint
        self._deadline = time.monotonic() + wall_seconds
        self._cut = cut
        self._late = late
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self._thread.start()

    def _watch(self) -> None:
        entrypoint = self._entrypoint.open()
        if entrypoint is None:
            self._cut()
            return
        poll = select.poll()
        # Nothing is ever sent to us: any event is its end.
        poll.register(self._line, select.POLLIN)
        poll.register(entrypoint, select.POLLIN)
        reported_late = False
        while True:
            left = None if reported_late else max(0.0, self._deadline - time.monotonic()) * 1000
            if poll.poll(left):
                break
            reported_late = True
            self._late()
        os.close(entrypoint)
        self._cut()
