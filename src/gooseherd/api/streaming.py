"""Bodies to clients: one chunk in flight, and nothing kept open for a client that has disconnected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.types import Receive, Send

from gooseherd.api.problems import Pairs
from gooseherd.api.server.exchange import IN_MEMORY, ZERO_COPY
from gooseherd.domain.ports.cache import FileSpan

T = TypeVar("T")


class ClientDisconnected(Exception):
    """The client closed the connection before its response began."""


@asynccontextmanager
async def closing(stream: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close `stream` at the end of the block, if it can be closed."""
    try:
        yield stream
    finally:
        close: Callable[[], Awaitable[None]] | None = getattr(stream, "aclose", None)
        if close is not None:
            await close()


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has closed the connection; what it still sends is read and dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def hold(receive: Receive, seconds: float, *until: asyncio.Future[Any]) -> None:
    """Return when one of the futures is done, or after `seconds`; the futures go on.

    Raises:
        ClientDisconnected: it did, before that.
    """
    watching = asyncio.ensure_future(wait_for_disconnect(receive))
    try:
        await asyncio.wait({watching, *until}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if watching.done() and not any(future.done() for future in until):
            raise ClientDisconnected
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def until(stop: asyncio.Future[Any], items: AsyncIterator[T]) -> AsyncIterator[T]:
    """The items up to the moment when `stop` is done."""
    async with closing(items):
        while True:
            following = asyncio.ensure_future(anext(items))
            try:
                await asyncio.wait({following, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    return
                item = following.result()
            except StopAsyncIteration:
                return
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            yield item


Chunk = bytes | FileSpan


async def relay(
    status: int,
    headers: Pairs,
    body: AsyncIterator[bytes] | AsyncIterator[Chunk] | None,
    *,
    receive: Receive,
    send: Send,
) -> int:
    """Send a response, chunk by chunk as fast as the client reads; returns how many bytes of body went out.

    The first chunk is read before the first byte is sent, so that an error there can still become
    a problem response. The body is closed on every path.
    """
    start = {"type": "http.response.start", "status": status, "headers": headers}
    if body is None:
        await send(start)
        await send({"type": "http.response.body", "body": b""})
        return 0
    chunks: AsyncIterator[Chunk] = body
    async with closing(chunks):
        chunk = await anext(chunks, b"")
        await send(start)
        length = next((int(value) for name, value in headers if name == b"content-length"), None)
        if length == _length(chunk):
            # Most ranges of a genome browser fit one chunk: no watcher for those.
            await send(_message(chunk, more=False))
            return length
        return await _stream(chunk, chunks, length, receive, send)


def _length(chunk: Chunk) -> int:
    return len(chunk) if isinstance(chunk, bytes) else chunk.count


def _message(chunk: Chunk, *, more: bool) -> dict[str, Any]:
    if isinstance(chunk, bytes):
        return {"type": "http.response.body", "body": chunk, "more_body": more}
    return {
        "type": ZERO_COPY,
        "file": chunk.descriptor,
        "offset": chunk.offset,
        "count": chunk.count,
        IN_MEMORY: chunk.in_memory,
        "more_body": more,
    }


async def _stream(
    first: Chunk, body: AsyncIterator[Chunk], length: int | None, receive: Receive, send: Send
) -> int:
    watching = asyncio.ensure_future(wait_for_disconnect(receive))
    sent = _length(first)
    try:
        await send(_message(first, more=True))
        async for chunk in body:
            if watching.done():
                return sent
            await send(_message(chunk, more=True))
            sent += _length(chunk)
        if length is None or sent == length:
            await send({"type": "http.response.body", "body": b""})
        # Too short: left unfinished, the server breaks the connection and the client knows.
        return sent
    except OSError:  # how servers of ASGI 2.4 report a disconnect
        return sent
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
