"""Responses that wait for their reader, when the reader goes."""

from __future__ import annotations

from typing import Any

from gooseherd.api.server.reader_wait import ReaderWait
from gooseherd.api.slow_responses import SlowResponses


class Connection:
    """What is asked of a protocol."""

    answering = request_cut = None
    client = ("192.0.2.1", 1)

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}


def test_a_response_that_begins_to_wait_when_its_reader_is_gone_is_not_counted() -> None:
    """As when a thread comes back from a slow disk to a connection that was lost meanwhile."""
    slow = SlowResponses(1)
    connection: Any = Connection()
    wait = ReaderWait(connection, slow)
    wait.begin()
    assert slow.full
    wait.close()
    assert not slow.full
    wait.begin()
    assert not slow.full
