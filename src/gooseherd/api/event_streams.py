"""How many streams of events a requester may have open: each looks at its job whenever that changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from fastapi import Request

from gooseherd.api.allowances import Concurrent
from gooseherd.api.dependencies import Dependencies
from gooseherd.api.request_context import context_of
from gooseherd.telemetry import EVENT_STREAMS

_RETRY_AFTER_SECONDS: Final = 30
"""A browser connects again by itself, and a stream lasts as long as its job."""


class EventStreams:
    """Counts those of jobs and of batches together; the admin's too, for they cost as much."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._open = Concurrent(
            "streams of events",
            per_requester=dependencies.event_streams_per_requester,
            total=dependencies.event_streams,
            retry_after_seconds=_RETRY_AFTER_SECONDS,
            on_change=EVENT_STREAMS.set,
        )

    async def place(self, request: Request) -> AsyncIterator[None]:
        """A dependency of routes that stream: until the response has ended. Raises LimitReached."""
        with self._open.place(context_of(request.scope).requester):
            yield
