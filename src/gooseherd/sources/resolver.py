"""Names of hosts to addresses, on threads that nothing else waits for.

getaddrinfo(3) blocks for as long as a name server pleases, and cannot be told to stop. On the threads that
read files, a dozen names of slow servers would hold every answer up; here they hold up each other.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any, Final

AT_ONCE: Final = 32
SECONDS: Final = 10.0
"""Until a name is taken for one that does not resolve; its thread is left to itself."""

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]


class Resolver:
    """For one event loop. Its threads are daemons: a process that stops waits for none of them."""

    def __init__(self, *, at_once: int = AT_ONCE, seconds: float = SECONDS) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._seconds = seconds

    async def addresses(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[AddressInfo]:
        """What getaddrinfo(3) gives for a stream.

        Raises:
            OSError: the name does not resolve, or not in time.
        """
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
                return await self._looked_up(host, port, family)
        except TimeoutError:
            raise OSError(f"no address within {self._seconds:g} seconds") from None

    def _looked_up(
        self, host: str, port: int, family: socket.AddressFamily
    ) -> asyncio.Future[list[AddressInfo]]:
        """The semaphore is held until the thread ends, however long nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[AddressInfo]] = loop.create_future()

        def end(addresses: list[AddressInfo] | None, error: Exception | None) -> None:
            self._free.release()
            if found.cancelled():
                return
            if addresses is None:
                found.set_exception(error or OSError("no address"))
            else:
                found.set_result(addresses)

        def look_up() -> None:
            outcome: tuple[Any, Exception | None]
            try:
                flags = socket.AI_ADDRCONFIG
                outcome = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, flags), None
            except Exception as error:  # UnicodeError for names that are none.
                outcome = None, error if isinstance(error, OSError) else OSError(type(error).__name__)
            with suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(end, *outcome)

        try:
            threading.Thread(target=look_up, name="resolver", daemon=True).start()
        except RuntimeError:
            self._free.release()
            raise OSError("no thread to resolve a name with") from None
        return found
