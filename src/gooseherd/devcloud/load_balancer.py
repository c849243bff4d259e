"""A load balancer as a TCP listener on loopback: each connection goes to one of the healthy tasks, in turn.

Connections, not requests: a client that keeps its connection stays with its task until one of them closes
it. No X-Forwarded headers are added.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

_log = logging.getLogger(__name__)

Address = tuple[str, int]
_CHUNK_BYTES: Final = 1 << 16
_CONNECT_SECONDS: Final = 5.0
_NOBODY: Final = (
    b"HTTP/1.1 503 Service Temporarily Unavailable\r\n"
    b"Content-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
)


class LoadBalancer:
    """Belongs to the event loop's thread. `targets` is asked at each connection."""

    def __init__(self, targets: Callable[[], Sequence[Address]]) -> None:
        self._targets = targets
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> Address:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return str(host), int(port)

    async def close(self) -> None:
        """Listen no more; connections break."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # Either side went away, or the load balancer did: nobody is left to be told.
        finally:
            self._connections.discard(task)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = await self._connect()
        if target is None:
            await reader.read(_CHUNK_BYTES)
            writer.write(_NOBODY)
            await writer.drain()
            return
        from_target, to_target = target
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, to_target))
                both.create_task(_copy(from_target, writer))
        except ExceptionGroup:
            pass  # A broken connection on one side is one on the other.
        finally:
            to_target.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        targets = list(self._targets())
        self._turn += 1
        for step in range(len(targets)):
            host, port = targets[(self._turn + step) % len(targets)]
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_SECONDS):
                    return await asyncio.open_connection(host, port)
        return None


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with suppress(OSError, RuntimeError):
        writer.write_eof()
