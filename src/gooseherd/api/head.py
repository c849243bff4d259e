"""HEAD for every route that knows GET (RFC 9110 §9.1: the two that every server has)."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadByGet:
    """Serves HEAD as GET whose body is not sent; what would go on (a stream of events) is ended."""

    def __init__(self, inside: ASGIApp) -> None:
        self._inside = inside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._inside(scope, receive, send)
            return
        answered = asyncio.Event()

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                answered.set()

        async def no_body() -> Message:
            await answered.wait()
            return {"type": "http.disconnect"}

        # A copy that shares what is put into it: the middleware reads the route from the original.
        as_get = {**scope, "method": "GET"}
        await self._inside(as_get, no_body, send_head)
        if "route" in as_get:
            scope["route"] = as_get["route"]
