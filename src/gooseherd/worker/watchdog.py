"""Ends an attempt when its worker is gone or its time is over, from a thread that does nothing else.

The worker is two processes (the entrypoint and Wool's child), and either can be killed
alone. The child holds the other end of a socket pair, which the kernel closes with it; the
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

LAST_EVENT_SECONDS: Final = 5.0
"""From SIGTERM to an attempt's last event, whatever it still waits for then: storage that hangs, say.
Enough for a few parts of an upload that are on their way, which are waited for."""
STOP_SECONDS: Final = 7.0
"""From SIGTERM to an attempt to SIGKILL to its session: more than it needs for its last event."""


class Watchdog:
    """Calls `on_worker_gone` and `on_deadline` once each, from its own thread.

    `worker_socket` is the descriptor whose other end is closed with the worker. A worker that is gone already
    is reported at once.
    """

    def __init__(
        self,
        *,
        worker_socket: int,
        entrypoint: ProcessId,
        wall_seconds: float,
        on_worker_gone: Callable[[], None],
        on_deadline: Callable[[], None],
    ) -> None:
        self._worker_socket = worker_socket
        self._entrypoint = entrypoint
        self._deadline = time.monotonic() + wall_seconds
        self._on_worker_gone = on_worker_gone
        self._on_deadline = on_deadline
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self._thread.start()

    def _watch(self) -> None:
        entrypoint = self._entrypoint.open()
        if entrypoint is None:
            self._on_worker_gone()
            return
        poll = select.poll()
        # Nothing is ever sent to us: any event is its end.
        poll.register(self._worker_socket, select.POLLIN)
        poll.register(entrypoint, select.POLLIN)
        deadline_reported = False
        while True:
            left = None if deadline_reported else max(0.0, self._deadline - time.monotonic()) * 1000
            if poll.poll(left):
                break
            deadline_reported = True
            self._on_deadline()
        os.close(entrypoint)
        self._on_worker_gone()
