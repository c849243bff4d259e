"""What routes take from a request: parameters for the framework's dependency injection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.routing import APIRoute

from gooseherd.api.problems import MEDIA_TYPE
from gooseherd.api.request_context import RequestContext, context_of
from gooseherd.api.server.refusals import BodyTooLarge
from gooseherd.domain.caller import Scope
from gooseherd.domain.errors import KeyRequired
from gooseherd.domain.job import Requester


def _context(request: Request) -> RequestContext:
    return context_of(request.scope)


CurrentRequest = Annotated[RequestContext, Depends(_context)]
"""Who asks."""


def _admin(request: Request) -> RequestContext:
    context = context_of(request.scope)
    context.require_admin()
    return context


Admin = Annotated[RequestContext, Depends(_admin)]
"""Raises AdminKeyRequired before the body is read."""


def _submitter(request: Request) -> RequestContext:
    context = context_of(request.scope)
    context.require(Scope.SUBMIT)
    return context


Submitter = Annotated[RequestContext, Depends(_submitter)]
"""Raises KeyRequired, ScopeRequired before the body is read."""


def _owner(request: Request) -> RequestContext:
    context = context_of(request.scope)
    if context.caller.owner is None:
        raise KeyRequired(Scope.READ)
    return context


KeyOwner = Annotated[RequestContext, Depends(_owner)]
"""Raises KeyRequired: any credential will do, and none will not."""
_WITH_KEY: Final = (_admin, _submitter, _owner)


def key_checks(route: APIRoute) -> list[Callable[[Request], RequestContext]]:
    """What refuses whoever shows no key, or one that is not enough; empty: the route is for everybody."""
    direct = list(route.dependant.dependencies)
    calls = [each.call for outer in direct for each in (outer, *outer.dependencies)]
    return [check for check in _WITH_KEY if check in calls]


def needs_key(route: APIRoute) -> bool:
    """Whether nothing of it is for who shows no key."""
    return bool(key_checks(route))


def whose(requester: str | None, context: RequestContext) -> Requester | None:
    """Of a filter: `me`, or for the admin anyone. Raises AdminKeyRequired."""
    if requester is None:
        return None
    if requester == "me":
        return context.requester
    context.require_admin()
    return Requester(requester)


async def body_of(request: Request, limit_bytes: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: more than `limit_bytes`; the rest stays unread.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
    return bytes(body)


_DESCRIPTIONS: Final = {
    400: "The request is malformed",
    401: "A key is required, or the one that was shown cannot be used",
    403: "The key or token has not the scope that this call needs",
    404: "Not found",
    405: "Method not allowed",
    409: "The job can no longer be cancelled, or the worker is in use",
    410: "The file was taken back",
    412: "If-Match names another version",
    413: "The body is too large",
    414: "The address is too long",
    416: "The range starts past the end; Content-Range has the size",
    422: "A value cannot be used, or the artifact could not be made",
    429: "A limit is reached; Retry-After says when to ask again",
    502: "The source's host did not answer as it should",
    503: "A dependency did not answer, or processing is off",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI of these refusals."""
    return {
        status: {
            "description": _DESCRIPTIONS[status],
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/ProblemView"},
                    "example": {
                        "type": "/problems/…",
                        "title": _DESCRIPTIONS[status].partition(";")[0],
                        "status": status,
                        "detail": "…",
                        "instance": "/data/4dn/4dnfi1",
                        "retryable": status in (429, 502, 503),
                        "request_id": "0c5b1fa2",
                    },
                }
            },
        }
        for status in statuses
    }
