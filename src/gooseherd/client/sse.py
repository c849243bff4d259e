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


def parse_events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """The events of a stream, given its lines without their ends.

    An event that the end of the stream cuts off is not dispatched (HTML, 9.2.6).
    """
    data: list[str] = []
    event, last_id = "", ""
    for line in lines:
        if not line:
            if data:
                yield ServerEvent("\n".join(data), event or "message", last_id)
            data, event = [], ""
            continue
        if line.startswith(":"):
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            event = value
        elif name == "id" and "\0" not in value:
            last_id = value
