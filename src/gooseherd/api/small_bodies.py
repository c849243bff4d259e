"""Routes whose body is a few fields: the key is asked for first, then so many bytes are read and no more."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

from gooseherd.api.route_parameters import body_of, key_checks

SMALL_BODY_BYTES: Final = 64 * 1024
"""A key for 200 collections, the longest of these bodies, takes a third of it."""


class SmallBodyRoute(APIRoute):
    """The framework's route; alone it would read and parse any body before it asks for a key.

    A route without a body model reads its body itself, if it has one.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What serves one request."""
        serve = super().get_route_handler()
        if self.body_field is None:
            return serve
        checks = key_checks(self)

        async def serve_small(request: Request) -> Response:
            for check in checks:
                check(request)
            body: bytes | None = await body_of(request, SMALL_BODY_BYTES)

            async def receive() -> Message:
                nonlocal body
                if body is None:
                    return await request.receive()
                message, body = {"type": "http.request", "body": body, "more_body": False}, None
                return message

            return await serve(Request(request.scope, receive))

        return serve_small
