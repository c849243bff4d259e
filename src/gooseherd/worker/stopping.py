"""When a worker stops by itself, and how it ends the attempts that are still running."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from pathlib import Path

from gooseherd.worker.folders import attempt_folders, kept_until, live_attempts, set_draining
from gooseherd.worker.watchdog import STOP_SECONDS

log = logging.getLogger(__name__)


async def until_idle_or_expired(work: Path, *, idle_timeout: float, max_lifetime: float) -> None:
    """Return when no attempt has run for `idle_timeout`, or `max_lifetime` is over and none runs.

    Seconds; 0: never. A worker that is kept (folders.keep) is not idle. It is draining when this returns.
    """
    pause = min([1.0, *(seconds / 4 for seconds in (idle_timeout, max_lifetime) if seconds)])
    began = busy_at = time.monotonic()
    while True:
        await asyncio.sleep(pause)
        now = time.monotonic()
        expired = bool(max_lifetime) and now - began > max_lifetime
        if expired:
            set_draining(work, True)
        if live_attempts(work):
            busy_at = now
        elif expired or (idle_timeout and now - busy_at > idle_timeout and now > kept_until(work)):
            set_draining(work, True)
            # Checked again while draining: an attempt may have started between the two.
            if not live_attempts(work):
                return
            set_draining(work, expired)


def drain(work: Path) -> None:
    """Let running attempts write that the worker stops; kill what is left after the grace. Blocks."""
    try:
        set_draining(work, True)
    except OSError as error:  # A full disk, or a folder that was removed: no reason not to end in order.
        log.warning("cannot mark the worker as draining: %s", error.strerror)
    folders = attempt_folders(work)
    processes = [process for folder in folders if (process := folder.process()) is not None]
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        process.signal(signal.SIGTERM)
    for process in processes:
        process.wait(deadline - time.monotonic())
    for folder in folders:
        folder.end()
