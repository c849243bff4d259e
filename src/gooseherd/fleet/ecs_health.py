"""Asks a worker itself whether it is ready: sooner than ECS, which checks every five seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

HealthProbe = Callable[[str], Awaitable[bool]]
"""Given an address without port: whether the worker there says that it is healthy. Never raises.

One that is starting may let the question wait until it is.
"""

_WAIT_SECONDS: Final = 5
_RESPONSE_SECONDS: Final = 6.0


def http_probe(port: int) -> HealthProbe:
    """GET /health on that port, held back while the worker is starting; healthy is 200."""

    async def responds(address: str) -> bool:
        try:
            async with asyncio.timeout(_RESPONSE_SECONDS):
                reader, writer = await asyncio.open_connection(address, port)
                try:
                    writer.write(
                        f"GET /health?wait={_WAIT_SECONDS} HTTP/1.1\r\n"
                        f"Host: {address}:{port}\r\nConnection: close\r\n\r\n".encode()
                    )
                    status = (await reader.readline()).split(maxsplit=2)
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError, ValueError):
            return False
        return len(status) > 1 and status[0].startswith(b"HTTP/1.") and status[1] == b"200"

    return responds
