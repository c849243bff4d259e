"""Responses that go out while their request is still being parsed: no exchange and no task for them."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gooseherd.api.server.exchange import Exchange, default_lines
from gooseherd.domain.ports.cache import FileSpan

if TYPE_CHECKING:
    from gooseherd.api.server.protocol import LimitedProtocol


class AnsweredCycle:
    """What a connection has for an exchange after such a response: one that is over, the same for all."""

    response_started = response_complete = True
    disconnected = False
    keep_alive = True
    unsent_bytes = 0

    def __init__(self) -> None:
        self.message_event = asyncio.Event()

    def disconnect(self) -> None:
        """Nobody waits for it."""


ANSWERED = cast("Exchange", AnsweredCycle())
KNOWN: Final[dict[str, Any]] = {"type": "http", "method": "GET"}
"""The scope of a request whose head is known: what the end of its response needs."""


class AtOnce:
    """Sends the response to the request of `scope`, if there is room for it now."""

    __slots__ = ("_keep_alive", "_protocol", "_scope")

    def __init__(self, protocol: LimitedProtocol, scope: dict[str, Any], *, keep_alive: bool) -> None:
        self._protocol = protocol
        self._scope = scope
        self._keep_alive = keep_alive

    def __call__(self, status: int, head: bytes, body: bytes | memoryview | FileSpan) -> bool:
        """The whole response in one write, or from a file; False: nothing was sent. `head` are header lines.

        The caller vouches for the lines: nothing is looked at. They say the length of the body. A file may be
        closed when this returns.
        """
        protocol, transport = self._protocol, self._protocol.transport
        if protocol.flow.write_paused or transport.is_closing():
            return False
        ending = b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n"
        lines = default_lines(protocol.server_state.default_headers)
        protocol.cycle = ANSWERED
        if isinstance(body, FileSpan):
            transport.write(b"".join((STATUS_LINE[status], head, lines, ending)))
            if not self._send_file(body):
                return True
        else:
            transport.write(b"".join((STATUS_LINE[status], head, lines, ending, body)))
        protocol.server_state.total_requests += 1
        if not self._keep_alive:
            transport.close()
        return True

    def _send_file(self, span: FileSpan) -> bool:
        """Whether all of it is gone; else an exchange sends the rest as the client makes room."""
        transport = self._protocol.transport
        sent = 0
        if not transport.get_write_buffer_size():
            try:
                connection = transport.get_extra_info("socket").fileno()
                sent = os.sendfile(connection, span.descriptor, span.offset, span.count)
            except BlockingIOError:
                sent = 0
            except OSError:
                transport.abort()  # the client is gone, or the file cannot be read: its headers are out
                return False
        if sent == span.count:
            return True
        protocol = self._protocol
        protocol.reader_wait.begin()
        exchange = Exchange(protocol, self._scope, expect_100_continue=False, keep_alive=self._keep_alive)
        protocol.cycle = exchange
        protocol.continue_with(
            exchange.send_rest(os.dup(span.descriptor), span.offset + sent, span.count - sent)
        )
        return False
