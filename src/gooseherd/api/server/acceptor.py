"""Taking connections in: as many as may be, and none at all for a moment when descriptors run out."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Callable
from typing import Final

from gooseherd import telemetry
from gooseherd.api.addresses import network_of
from gooseherd.api.server.connections import Admission, Connections
from gooseherd.api.server.limits import reserved_descriptors
from gooseherd.api.server.protocol import LimitedProtocol

_log = logging.getLogger(__name__)

_ACCEPTED_AT_ONCE: Final = 64
"""Then the loop does other things, whatever is still waiting."""
_PAUSE_SECONDS: Final = 0.5
_LOG_SECONDS: Final = 60.0
_KEEPALIVE_SECONDS: Final = 60
"""A held request sends and receives nothing: without probes a client that vanished would keep its place."""
_OF_ONE_CONNECTION: Final = frozenset(
    {
        *(errno.ENETDOWN, errno.EPROTO, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH),
        *(errno.EOPNOTSUPP, errno.ENETUNREACH, errno.EPERM, errno.ETIMEDOUT),
    }
)
"""Errors of a connection that was waiting, which Linux reports here (accept(2)); the next one may be well."""

Connect = Callable[[str, bool], LimitedProtocol]
"""Makes the protocol of a connection from this network; True: for essential requests only."""


class Acceptor:
    """Accepts from one listening socket; has the part of asyncio.Server that uvicorn uses.

    asyncio's own, out of descriptors, tries again as often as its backlog is long, logs a traceback each
    time, and leaves nothing for whatever else the process has to open.
    """

    def __init__(
        self, listener: socket.socket, connections: Connections, connect: Connect, refusal: bytes
    ) -> None:
        self._listener = listener
        self._connections = connections
        self._connect = connect
        self._refusal = refusal
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._logged_at = -_LOG_SECONDS
        self._starting: set[asyncio.Task[None]] = set()
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        reserve = reserved_descriptors(soft)
        # Descriptors are given out lowest first, so a new one's number says how many are in use.
        self._scarce_from = soft - reserve
        self._none_from = soft - reserve // 2
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        """Accept nothing more. The socket stays open: it is the caller's."""
        self._loop.remove_reader(self._listener.fileno())
        if self._pause is not None:
            self._pause.cancel()

    async def wait_closed(self) -> None:
        """Connections that were just accepted have begun."""
        await asyncio.gather(*self._starting, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _OF_ONE_CONNECTION:
                    continue
                self._rest(error.strerror or "accept failed")
                return
            self._take(accepted, network_of(address[0]))
            if self._pause is not None:
                return

    def _take(self, accepted: socket.socket, network: str) -> None:
        number = accepted.fileno()
        if number >= self._none_from:
            telemetry.CONNECTIONS_ENDED.labels("descriptors").inc()
            self._turn_away(accepted)
            self._rest("nearly out of descriptors")
            return
        admission = self._connections.admit(network, scarce=number >= self._scarce_from)
        if admission is Admission.REFUSED:
            telemetry.CONNECTIONS_ENDED.labels("refused").inc()
            self._turn_away(accepted)
            return
        protocol = self._connect(network, admission is Admission.ESSENTIAL)
        self._connections.enter(protocol, network)
        task = self._loop.create_task(self._begin(accepted, protocol))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _begin(self, accepted: socket.socket, protocol: LimitedProtocol) -> None:
        try:
            accepted.setblocking(False)
            # Head and body of a response are two writes: without it the second waits until the client
            # acknowledges the first, which it may put off for 40 ms.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
            await self._loop.connect_accepted_socket(lambda: protocol, accepted)
        except OSError:
            accepted.close()
            protocol.leave()

    def _turn_away(self, accepted: socket.socket) -> None:
        """Say why, if that takes no waiting, and close."""
        with accepted:
            try:
                accepted.setblocking(False)
                accepted.send(self._refusal)
                accepted.shutdown(socket.SHUT_WR)
                accepted.recv(65536)  # what stays unread would make the kernel take the answer back
            except OSError:
                pass

    def _rest(self, reason: str) -> None:
        """Accept nothing for a moment; who connects meanwhile waits in the kernel's queue."""
        now = self._loop.time()
        if now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            _log.warning("no connections are accepted for a moment", extra={"problem": reason})
        self._loop.remove_reader(self._listener.fileno())
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener.fileno(), self._accept)
