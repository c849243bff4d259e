"""Server-sent events, as the HTML standard frames them, from the lines of a streamed response."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One dispatched event. `id` is the last id the stream has named, this event or earlier."""

    data: str
    event: str = "message"
    id: str = ""


class EventParser:
    """Takes a stream line by line, without their ends.

    An event that the end of the stream cuts off is not dispatched (HTML, 9.2.6).
    """

    def __init__(self) -> None:
        self._data: list[str] = []
        self._event, self._last_id = "", ""

    def feed(self, line: str) -> ServerEvent | None:
        """The event that this line completes, if it does."""
        if not line:
            data, event = self._data, self._event
            self._data, self._event = [], ""
            return ServerEvent("\n".join(data), event or "message", self._last_id) if data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._last_id = value
        return None


def parse_events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """The events of a stream, given its lines."""
    parser = EventParser()
    for line in lines:
        event = parser.feed(line)
        if event is not None:
            yield event
