"""Whether anything listens at a worker's address."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from gooseherd.domain.errors import WorkerLost

_PROBE_SECONDS: Final = 5.0


async def probe(address: str) -> None:
    """Raises WorkerLost unless something listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError) as error:
        raise WorkerLost(f"nothing listens ({type(error).__name__})") from error
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
