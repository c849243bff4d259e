"""Heads of requests that were answered at once: the next request with the same one is not parsed again.

Whoever reads a file by ranges sends one head again and again, in which nothing but the range differs. What a
parser, the checks of the head and the application made of it is therefore the same, too.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from gooseherd.api.server.limits import HttpLimits
from gooseherd.api.server.scope import Prepare, Repeat

_MOST_HEADS: Final = 1024
_MOST_BYTES: Final = 2048
"""Of one head: two megabytes in all. A browser's has 500 to 900."""
_RANGE: Final = b"ange: bytes="
_RANGE_LINES: Final = (b"\r\nR", b"\r\nr")
"""What is in front of it in a header line of its own: clients write Range, those of Node.js range."""
_LONGEST_RANGE: Final = 40
"""Bytes: two numbers of up to 18 digits."""
_END: Final = b"\r\n\r\n"
_NEVER: Final = frozenset(
    (
        *(b"content-length", b"transfer-encoding", b"upgrade", b"expect"),
        *(b"authorization", b"x-api-key", b"cookie", b"proxy-authorization", b"x-request-id"),
    )
)
"""Headers of heads that are not kept: more follows, or they are one client's or one request's."""

Cut = tuple[bytes, bytes]
"""The head of a request without the value of its range, and that value."""


def cut(data: bytes) -> Cut | None:
    """Take the range out of what may be a whole request without a body; None: it is nothing of the kind.

    The place of the cut follows from what is left: behind the first `_RANGE`. So two requests that leave the
    same bytes differ in nothing but the range. A value that is no range is the business of who reads it.
    """
    start = data.find(_RANGE) + len(_RANGE)
    if start < len(_RANGE) or len(data) > _MOST_BYTES:
        return None
    stop = data.find(b"\r\n", start)
    if stop < 0 or stop - start > _LONGEST_RANGE or data.find(_END, stop) != len(data) - len(_END):
        return None
    return data[:start] + data[stop:], data[start:stop]


class KnownHeads:
    """How requests are answered by their heads; the head that was sent longest ago is forgotten first."""

    def __init__(self, prepare: Prepare, limits: HttpLimits) -> None:
        self._prepare = prepare
        self._most_bytes = min(_MOST_BYTES, limits.header_bytes) - _LONGEST_RANGE
        self._known: OrderedDict[bytes, Repeat] = OrderedDict()

    def find(self, head: bytes) -> Repeat | None:
        """What answers a request with this head."""
        repeat = self._known.get(head)
        if repeat is not None:
            self._known.move_to_end(head)
        return repeat

    def remember(self, request: Cut, scope: dict[str, Any]) -> None:
        """The request, of which this scope was made, was answered at once.

        Only if it was the one request in what came, with one line for each header.
        """
        head, wanted = request
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        place = head.find(_RANGE)
        if (
            len(head) > self._most_bytes
            or head.count(b"\n") != len(headers) + 2
            or head[place - 3 : place] not in _RANGE_LINES
            or [value for name, value in headers if name == b"range"] != [b"bytes=" + wanted]
            or not _NEVER.isdisjoint(name for name, _ in headers)
        ):
            return
        repeat = self._prepare(scope)
        if repeat is None:
            return
        self._known[head] = repeat
        if len(self._known) > _MOST_HEADS:
            self._known.popitem(last=False)
