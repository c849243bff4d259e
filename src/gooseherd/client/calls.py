"""How the service is called: JSON, pages, streams of events, records that are followed to their end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, TypeVar

import httpx

from gooseherd.client.deadline import Deadline
from gooseherd.client.endpoint import Endpoint
from gooseherd.client.errors import Busy, Missing, NotReachable, UnexpectedResponse
from gooseherd.client.models import Model, NotThisRecord
from gooseherd.client.models.display import Live
from gooseherd.client.responses import check, json_object, reaching
from gooseherd.client.sse import EventParser, ServerEvent
from gooseherd.client.transports import Transport
from gooseherd.domain.foreign_json import read_json

M = TypeVar("M", bound=Model)
L = TypeVar("L", bound=Live)

POLL_SECONDS: Final = (0.2, 2.0)
"""First and longest wait between two looks at a record when its events cannot be had."""
OUTAGE_SECONDS: Final = 60.0
"""How long a service that was there may be gone while something is waited for: a restart takes seconds."""
PAUSE_SECONDS: Final = 1.0
"""Between two tries of what the service did not answer."""
QUIET_SECONDS: Final = 30.0
"""A stream of events that sends nothing for so long is given up for polling."""
EVENTS: Final = {"Accept": "text/event-stream"}
PAGE_ITEMS: Final = 200


class Calls:
    """One service.

    Every call may raise NotReachable, and Refused (Missing, Denied, Busy) for an error response.
    """

    def __init__(self, endpoint: Endpoint, transport: Transport) -> None:
        self.endpoint = endpoint
        self.transport = transport

    async def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        return json_object(await self._send(method, path, **options))

    async def _record(self, model: type[M], method: str, path: str, **options: Any) -> M:
        return self._model(model, await self._json(method, path, **options), path)

    async def _text(self, path: str, **options: Any) -> str:
        return (await self._send("GET", path, **options)).text

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        url = self.endpoint.url(path)
        with reaching(url):
            response = await self.transport.send(method, url, **options)
        return check(response)

    def _model(self, model: type[M], raw: Mapping[str, Any], url: str) -> M:
        try:
            return model.of(raw, self.endpoint)
        except NotThisRecord as error:
            raise UnexpectedResponse(self.endpoint.url(url), f"no {model.__name__}: {error}") from None

    async def _pages(
        self, model: type[M], path: str, name: str, query: Mapping[str, str | None], limit: int | None
    ) -> AsyncGenerator[M, None]:
        """A page behind the first is asked for again when the service is gone for a moment."""
        wanted: dict[str, Any] = given(query)
        remaining, outage = limit, Outage()
        while remaining is None or remaining > 0:
            asked = {**wanted, "limit": min(remaining or PAGE_ITEMS, PAGE_ITEMS)}
            try:
                page = await self._json("GET", path, params=asked)
            except (NotReachable, Busy) as error:
                if "after" not in wanted:
                    raise
                await self.transport.sleep(outage.pause(error))
                continue
            outage.is_over()
            items = page.get(name, [])
            for item in items[:remaining]:
                yield self._model(model, item, path)
            remaining = None if remaining is None else remaining - len(items)
            after = page.get("next")
            if after is None or not items:
                return
            wanted["after"] = after

    async def _events(
        self, path: str, quiet_seconds: float
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """(event name, data) of the stream at `path`, to its end."""
        async with contextlib.aclosing(self._stream(path, quiet_seconds)) as events:
            async for event, data in events:
                yield event.event, data

    async def _stream(
        self, path: str, quiet_seconds: float, last_event_id: str | None = None, **options: Any
    ) -> AsyncGenerator[tuple[ServerEvent, dict[str, Any]], None]:
        """Each event of the stream at `path` with its data, to the stream's end."""
        headers = {**EVENTS, **given({"Last-Event-ID": last_event_id})}
        url = self.endpoint.url(path)
        wait = httpx.Timeout(self.endpoint.timeout_seconds, read=quiet_seconds)
        parser = EventParser()
        with reaching(url):
            async with self.transport.stream(
                "GET", url, headers=headers, timeout=wait, **options
            ) as response:
                check(response)
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise UnexpectedResponse(url, "the response is no stream of events")
                async for line in self.transport.lines(response):
                    event = parser.feed(line)
                    data = _event_data(event.data) if event else None
                    if event is not None and data is not None:
                        yield event, data

    async def _follow(
        self, model: type[L], path: str, id_name: str, deadline: Deadline
    ) -> AsyncGenerator[L, None]:
        """The record at `path` now and at each change, to its end: by events, by polling when those fail."""
        record = await self._record(model, "GET", path)
        yield record
        if not record.ended:
            with contextlib.suppress(NotReachable, UnexpectedResponse, Busy, Missing):
                # Polling shows whether the service is gone or only its events.
                events = self._events(f"{path}/events", deadline.at_most(QUIET_SECONDS))
                async with contextlib.aclosing(events):
                    async for _, data in events:
                        deadline.check()
                        if "status" in data and data.get(id_name) == record.get(id_name):
                            record = self._model(model, data, path)
                            yield record
        pause, outage = POLL_SECONDS[0], Outage()
        while not record.ended:
            deadline.check()
            await self.transport.sleep(deadline.at_most(pause))
            pause = min(pause * 1.3, POLL_SECONDS[1])
            try:
                now = await self._record(model, "GET", path)
            except (NotReachable, Busy) as error:
                pause = outage.pause(error)
                continue
            outage.is_over()
            if now != record:
                record = now
                yield record


class Outage:
    """For how long a service that was there has been gone, from the first failure on."""

    def __init__(self) -> None:
        self._began_at: float | None = None

    def is_over(self) -> None:
        """What is waited for went on. Another call that was answered ends no outage."""
        self._began_at = None

    def pause(self, error: NotReachable | Busy) -> float:
        """Seconds until it is asked again: what the service said (Retry-After), else a moment.

        Raises:
            NotReachable, Busy: `error`, when that has gone on for too long.
        """
        now = time.monotonic()
        if self._began_at is None:
            self._began_at = now
        if now - self._began_at > OUTAGE_SECONDS:
            raise error
        wished = error.retry_after_seconds if isinstance(error, Busy) else None
        return POLL_SECONDS[1] if wished is None else min(wished, OUTAGE_SECONDS)


def given(query: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is None."""
    return {name: value for name, value in query.items() if value is not None}


def _event_data(text: str) -> dict[str, Any] | None:
    """The JSON object of an event; None: it is none."""
    try:
        data = read_json(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
