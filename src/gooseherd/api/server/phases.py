"""How far a connection is with its request."""

from __future__ import annotations

from enum import Enum, auto


class RequestPhase(Enum):
    """What of a request is awaited."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    RESPONSE = auto()
    """Nothing: the request is complete, its response is under way."""
    ENDING = auto()
    """Nothing any more: what still comes is dropped."""
