"""One request and its response: uvicorn's cycle, with one write for a small response and none for a file."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gooseherd.blocking import in_thread

if TYPE_CHECKING:
    from gooseherd.api.server.protocol import LimitedProtocol

_log = logging.getLogger(__name__)

JOINED_BYTES: Final = 128 * 1024
"""A body of up to so much goes out together with its headers: copying it costs less than a second call."""
ZERO_COPY: Final = "http.response.zerocopysend"
"""The extension of ASGI by which a response's body is sent from a file."""
EXTENSIONS: Final[dict[str, dict[str, Any]]] = {ZERO_COPY: {}}
IN_MEMORY: Final = "gooseherd.in_memory"
"""Of such a message: sending waits for no disk, so no thread is needed."""
_NO_BODY: Final = frozenset({204, 304})


_seconds_lines: tuple[Any, bytes] = ([], b"")


def default_lines(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """The lines of the headers that every response has: one list, until its date is another second's."""
    global _seconds_lines  # noqa: PLW0603 - for all connections of the one server
    if _seconds_lines[0] is not pairs:
        _seconds_lines = pairs, b"".join([b"%b: %b\r\n" % pair for pair in pairs])
    return _seconds_lines[1]


class LastResponse:
    """The transport as the last response sees it: closed, it still reads, until the client has its answer."""

    def __init__(self, protocol: LimitedProtocol) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        self._protocol.linger()


class Exchange(RequestResponseCycle):
    """A request's `receive` and `send`, and the ways around them that byte delivery takes.

    The headers of a response whose length is known wait for the first part of its body.
    """

    def __init__(
        self,
        protocol: LimitedProtocol,
        scope: Any,
        *,
        expect_100_continue: bool,
        keep_alive: bool,
        transport: Any = None,
    ) -> None:
        super().__init__(
            scope,
            transport or protocol.transport,
            protocol.flow,
            protocol.logger,
            protocol.access_logger,
            False,  # no access log
            protocol.server_state.default_headers,
            asyncio.Event(),
            expect_100_continue,
            keep_alive,
            protocol.on_response_complete,
        )
        self._protocol = protocol
        self._head = b""
        """Headers that are not written yet."""
        self._writable: asyncio.Future[None] | None = None
        self.unsent_bytes = 0
        """Of a file, while the client makes no room for them."""

    def disconnect(self) -> None:
        """The client is gone: nobody waits for it any more."""
        self.disconnected = True
        self.message_event.set()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    async def send(self, message: Any) -> None:
        """A message of ASGI; see its specification, with the extension ZERO_COPY."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if not self.response_started:
            if kind != "http.response.start":
                raise RuntimeError(f"a response begins with http.response.start, not with {kind}")
            self._start(message["status"], message.get("headers", ()))
        elif self.response_complete:
            raise RuntimeError(f"{kind} after the end of the response")
        elif kind == "http.response.body":
            more = message.get("more_body", False)
            self._body(message.get("body", b""), more=more)
            if more and self.flow.write_paused:
                await self.flow.drain()  # before the next piece is read: of a slow reader one is in memory
        elif kind == ZERO_COPY:
            in_memory = message.get(IN_MEMORY, False)
            await self._file(message["file"], message["offset"], message["count"], in_memory=in_memory)
            if not message.get("more_body", False):
                self._end()
        else:
            raise RuntimeError(f"{kind} within a response")

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        pairs = [*self.default_headers, *headers]
        length: int | None = None
        closes = False
        for name, value in pairs:
            if name == b"content-length" and self.chunked_encoding is None:
                length, self.chunked_encoding = int(value), False
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                length, self.chunked_encoding = None, True
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive, closes = False, True
        self.expected_content_length = length or 0
        lines = [STATUS_LINE[status], self._lines(pairs)]
        if not self.keep_alive and not closes:
            lines.append(b"connection: close\r\n")
        without_body = status in _NO_BODY or self.scope["method"] == "HEAD"
        if self.chunked_encoding is None and not without_body:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)
        if not length:
            self._flush()

    @staticmethod
    def _lines(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Header lines. Raises RuntimeError for what would be read as more of them, or as fewer."""
        block = b"".join([part for name, value in pairs for part in (name, b": ", value, b"\r\n")])
        if block.count(b"\n") != len(pairs) or block.count(b"\r") != len(pairs) or b"\0" in block:
            raise RuntimeError("a header with a line break in it")
        return block

    def _flush(self) -> None:
        if self._head:
            self.transport.write(self._head)
            self._head = b""

    def _body(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            self._flush()
        elif self.chunked_encoding:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self.transport.write(chunk if more else chunk + b"0\r\n\r\n")
        else:
            self._count(len(body))
            if self._head and len(body) <= JOINED_BYTES:
                self._head += body
                self._flush()
            else:
                self._flush()
                self.transport.write(body)
        if not more:
            self._end()

    def _count(self, sent: int) -> None:
        if sent > self.expected_content_length:
            raise RuntimeError("the body is longer than Content-Length")
        self.expected_content_length -= sent

    def _end(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("the body is shorter than Content-Length")
        self._flush()
        self.response_complete = True
        self._protocol.reader_wait.end_if_written()
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    async def _file(self, file: int, offset: int, count: int, *, in_memory: bool) -> None:
        """Send from a file, without a copy of it in this process; a thread waits for the disk if need be.

        Raises:
            OSError: the file cannot be read.
            RuntimeError: it is shorter.
        """
        self._count(count)
        self._flush()
        await self.flow.drain()
        if self.disconnected:
            return
        # The thread's own, because the transport closes its descriptor whenever the client goes, and the
        # next connection may get that number.
        descriptor = os.dup(self._protocol.transport.get_extra_info("socket").fileno())
        try:
            while count and not self.disconnected:
                try:
                    if in_memory:
                        sent = os.sendfile(descriptor, file, offset, count)
                    else:
                        sent = await in_thread(os.sendfile, descriptor, file, offset, count)
                except BlockingIOError:
                    await self._room(descriptor, count)
                    continue
                except (BrokenPipeError, ConnectionError):
                    return
                if not sent:
                    raise RuntimeError("the file became shorter")
                offset, count = offset + sent, count - sent
        finally:
            os.close(descriptor)

    async def send_rest(self, descriptor: int, offset: int, count: int) -> None:
        """Send the rest of a body whose headers are out, and close the file."""
        self.response_started = True
        self.expected_content_length = count
        try:
            await self._file(descriptor, offset, count, in_memory=True)
            self._end()
        except (OSError, RuntimeError):  # the client learns by the missing bytes that this is not all
            self.transport.close()
            _log.warning("a response broke off", exc_info=True)
        finally:
            os.close(descriptor)

    async def _room(self, descriptor: int, unsent_bytes: int) -> None:
        """Return when the client takes more, or is gone."""
        if self.disconnected:
            return  # while a thread waited for the disk: who is told of it was asked before
        loop = asyncio.get_running_loop()
        self._writable, self.unsent_bytes = loop.create_future(), unsent_bytes
        self._protocol.reader_wait.begin()
        loop.add_writer(descriptor, self._writable.set_result, None)
        try:
            await self._writable
        finally:
            loop.remove_writer(descriptor)
            self._writable, self.unsent_bytes = None, 0
