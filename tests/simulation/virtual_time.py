"""An event loop whose time passes at once: whenever nothing can go on, the next timer is due."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class NothingLeft(RuntimeError):
    """No timer and nothing that could go on: whoever still waits would wait for ever."""


class _Skipping(selectors.DefaultSelector):
    """Waits for nothing: whatever time was to pass has passed."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise NothingLeft
        self.skipped += max(timeout, 0.0)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For coroutines that need no file and no thread: neither is ever looked at."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.skipped

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """At once, in this thread."""
        done = self.create_future()
        done.set_result(func(*args))
        return done
