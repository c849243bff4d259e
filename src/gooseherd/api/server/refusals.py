"""Why a request is refused before a route sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gooseherd.domain import errors


class SentAhead(Exception):
    """More requests wait for their turn than may."""


@dataclass(eq=False)
class MalformedRequest(errors.Rejected):
    """A request line or header block that no honest client sends."""

    problem: str

    def __str__(self) -> str:
        return self.problem


@dataclass(eq=False)
class HeadersTooLarge(errors.Rejected):
    """The header block is longer than any client of ours needs."""

    limit_bytes: int

    def __str__(self) -> str:
        return f"request headers are limited to {self.limit_bytes} bytes"


@dataclass(eq=False)
class TargetTooLong(errors.Rejected):
    """The request line names more than any address of ours has."""

    limit_bytes: int

    def __str__(self) -> str:
        return f"paths with their query are limited to {self.limit_bytes} bytes"


@dataclass(eq=False)
class UnknownTransferCoding(errors.Rejected):
    """The body is framed by something other than a length or chunks."""

    def __str__(self) -> str:
        return "of transfer codings only chunked is known here"


@dataclass(eq=False)
class RequestTooSlow(errors.Rejected):
    """Headers or body did not arrive in the time there is for them."""

    what: str
    limit_seconds: float

    def __str__(self) -> str:
        return f"{self.what} took longer than {self.limit_seconds:g} seconds"


@dataclass(eq=False)
class TooManyConnections(errors.Unavailable):
    """This client, or all of them, hold as many connections as there may be."""

    limit: int

    def __str__(self) -> str:
        return "too many connections are open; finish with some, then ask again"


@dataclass(eq=False)
class BodyTooLarge(errors.Rejected):
    """The body of a request is longer than the call takes."""

    limit_bytes: int

    def __str__(self) -> str:
        return f"request bodies are limited to {self.limit_bytes} bytes; /files/import takes the most"


NOT_HTTP: Final = "this is not HTTP/1.1"
WHILE_PARSING: Final = (BodyTooLarge, HeadersTooLarge, MalformedRequest, TargetTooLong, UnknownTransferCoding)
"""What is raised while a request is parsed."""
