"""`GET /health` of a worker: 200 when it can take an attempt or has one, else 503 and why.

With `?wait=SECONDS` the response of a worker that is starting is held until its status changes:
one request is enough to wait for it.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

SHUTDOWN_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Condition:
    """`status` is healthy, starting, draining or broken."""

    status: str
    build: str
    uptime_seconds: float
    attempts: tuple[str, ...] = ()
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """`attempt` is the one that runs, there is one at most; `problem` only when there is one."""
        fields = {
            "status": self.status,
            "build": self.build,
            "uptime_seconds": round(self.uptime_seconds, 1),
            "attempt": self.attempts[0] if self.attempts else None,
        }
        return fields | ({"problem": self.problem} if self.problem else {})


class HealthPort:
    """The HTTP server. `condition` is called in the event loop for each request."""

    def __init__(self, condition: Callable[[], Condition], host: str, port: int) -> None:
        self._condition = condition
        self._port = port
        self._hosts = [host]
        # The health command of a container asks on loopback, the API from outside.
        if not _covers_loopback(host):
            self._hosts.append("127.0.0.1")
        self._runner: web.AppRunner | None = None
        self._changed = asyncio.Event()
        self._closing = False

    async def open(self) -> None:
        """Answer from now on. Raises OSError: the port is taken."""
        app = web.Application()
        app.router.add_get("/health", self._answer)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS
        )
        await self._runner.setup()
        for host in self._hosts:
            await web.TCPSite(self._runner, host, self._port, reuse_port=False).start()

    def notify(self) -> None:
        """The condition may have changed: answer the requests that wait for that."""
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    async def close(self) -> None:
        """Free the port; idempotent."""
        self._closing = True
        self.notify()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        condition = self._condition()
        with suppress(TimeoutError):
            async with asyncio.timeout(_seconds(request.query.get("wait", ""))):
                while condition.status == "starting" and not self._closing:
                    await self._changed.wait()
                    condition = self._condition()
        return web.json_response(
            condition.to_json(),
            status=200 if condition.status == "healthy" else 503,
            headers={"Cache-Control": "no-store"},
        )


def _seconds(text: str) -> float:
    try:
        return max(0.0, min(float(text), LONGEST_WAIT_SECONDS))
    except ValueError:
        return 0.0


def _covers_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified
