"""The condition of a worker, served on its health port: whether its tools are there and its server lives."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from gooseherd.worker.folders import is_draining, live_attempts, set_draining
from gooseherd.worker.settings import build_id

if TYPE_CHECKING:
    from gooseherd.worker.health import Condition, HealthPort

log = logging.getLogger(__name__)


class ServerState(Enum):
    """Of Wool's server process."""

    STARTING = "starting"
    RUNNING = "running"
    DIED = "died"


class HealthCheck:
    """Checks the tools once, in the background; calls `server` and `stopping` for each request."""

    def __init__(self, work: Path, server: Callable[[], ServerState], stopping: Callable[[], bool]) -> None:
        self._work = work
        self._server = server
        self._stopping = stopping
        self._began = time.monotonic()
        self._missing: list[str] | None = None
        self._port: HealthPort | None = None
        self._checking: asyncio.Task[None] | None = None

    @property
    def tools_missing(self) -> bool:
        """Whether the check found that no attempt can succeed."""
        return bool(self._missing)

    async def open(self, host: str, port: int) -> None:
        """Answer on `port` and begin to check the tools. Raises OSError: the port is taken."""
        # Takes longer to import than the local form, which has no health port, takes to start.
        from gooseherd.worker.health import HealthPort

        self._port = HealthPort(self._condition, host, port)
        await self._port.open()
        self._checking = asyncio.create_task(self._check_tools())

    async def close(self) -> None:
        """End the check and free the port; idempotent."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        if self._port is not None:
            await self._port.close()

    def changed(self) -> None:
        """Answer requests that wait for a change of the condition."""
        if self._port is not None:
            self._port.notify()

    async def _check_tools(self) -> None:
        from gooseherd.worker.selfcheck import missing_tools

        self._missing = await missing_tools()
        if self._missing:
            log.error("tools are missing: %s", ", ".join(self._missing))
            set_draining(self._work, True)
        self.changed()

    def _condition(self) -> Condition:
        from gooseherd.worker.health import Condition

        server, problem = self._server(), ""
        if self._missing:
            status, problem = "broken", f"tools are missing: {', '.join(self._missing)}"
        elif server is ServerState.STARTING or self._missing is None:
            status = "starting"
        elif server is ServerState.DIED:
            status, problem = "broken", "the server process died"
        else:
            status = "draining" if self._stopping() or is_draining(self._work) else "healthy"
        uptime = time.monotonic() - self._began
        return Condition(status, build_id(), uptime, tuple(live_attempts(self._work)), problem)
