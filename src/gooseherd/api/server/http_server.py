"""The HTTP server: uvicorn, with its connections taken in and watched by us."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from gooseherd.api.holding import Holds
from gooseherd.api.origins import Cors
from gooseherd.api.problems import Pairs, problem
from gooseherd.api.server.acceptor import Acceptor
from gooseherd.api.server.connections import Connections
from gooseherd.api.server.known_heads import KnownHeads
from gooseherd.api.server.limits import HttpLimits
from gooseherd.api.server.protocol import LimitedProtocol
from gooseherd.api.server.refusals import TooManyConnections
from gooseherd.api.server.scope import Answered, Prepare
from gooseherd.api.slow_responses import SlowResponses


class HttpServer(uvicorn.Server):
    """Serves `app` on listening sockets until `should_exit`; reports in `accepting` when it does.

    Signals are the caller's: uvicorn's own handling raises them again before we have cleaned up.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: HttpLimits,
        holds: Holds,
        slow_responses: SlowResponses,
        cors_origins: Iterable[str],
        shutdown_seconds: int,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                cast("Any", app),
                http=LimitedProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # API_TRUSTED_PROXIES decides
                lifespan="off",
                timeout_graceful_shutdown=shutdown_seconds,
                server_header=False,
            )
        )
        self.accepting = asyncio.Event()
        self._answered: Answered | None = getattr(app, "answered", None)
        prepare: Prepare | None = getattr(app, "prepare", None)
        self._known_heads = KnownHeads(prepare, limits) if prepare is not None else None
        self._holds = holds
        self._connections = Connections(limits, slow_responses)
        self._refusal = _too_many(limits, Cors(cors_origins))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then set `accepting`."""
        await self.lifespan.startup()
        self._connections.start()
        acceptors = [
            Acceptor(each, self._connections, self._connect, self._refusal) for each in sockets or ()
        ]
        self.servers = cast("list[asyncio.base_events.Server]", acceptors)
        self.started = True
        self.accepting.set()

    def _connect(self, network: str, essential: bool) -> LimitedProtocol:
        return LimitedProtocol(
            self.config,
            self.server_state,
            self.lifespan.state,
            connections=self._connections,
            network=network,
            essential=essential,
            answered=self._answered,
            known_heads=self._known_heads,
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Redirect what is held, and let the other requests end.

        What is held wakes up when this first waits: the listener is closed by then, so that a redirected
        request waits for the next process, instead of coming back to this one for redirect after redirect.
        """
        self._holds.stop()
        try:
            await super().shutdown(sockets=sockets)
        finally:
            self._connections.stop()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the caller."""
        yield


def _too_many(limits: HttpLimits, cors: Cors) -> bytes:
    """The response to connections that are turned away, before they have sent anything."""
    refused = problem(TooManyConnections(limits.connections), instance="/", request_id="")
    headers: Pairs = [*refused.headers, *cors.headers({}), (b"connection", b"close")]
    lines = b"".join(b"%s: %s\r\n" % pair for pair in headers)
    return b"HTTP/1.1 503 Service Unavailable\r\n" + lines + b"\r\n" + refused.body
