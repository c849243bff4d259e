"""Batches for asyncio: the same calls as GooseherdClient's, awaited."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

import httpx

from gooseherd.client.batches import PAUSE_SECONDS, TRIES, batch_body, batch_ended, batch_path
from gooseherd.client.calls import (
    EVENTS,
    OUTAGE_SECONDS,
    POLL_SECONDS,
    QUIET_SECONDS,
    Record,
    absolute,
    connection_options,
    event_data,
    must_be_events,
)
from gooseherd.client.deadline import Deadline
from gooseherd.client.errors import Busy, Missing, NotReachable, UnexpectedResponse
from gooseherd.client.responses import check, json_object, reaching
from gooseherd.client.sse import EventParser


class AsyncGooseherdClient:
    """One service, for one event loop; `aclose()` or `async with` frees its connections.

    Every call may raise NotReachable, and Refused (Missing, Denied, Busy) for an error response.
    """

    def __init__(self, base_url: str, api_key: str | None = None, *, timeout_seconds: float = 30.0) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self.http = httpx.AsyncClient(**connection_options(self.base_url, api_key, timeout_seconds))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Free the connections; idempotent."""
        await self.http.aclose()

    async def create_batch(
        self,
        files: Iterable[str] | None = None,
        *,
        text: str | None = None,
        dcc: str | None = None,
        file_format: str | None = None,
        retry: bool = False,
        idempotency_key: str | None = None,
    ) -> Record:
        """See BatchCalls.create_batch."""
        body = batch_body(files, text=text, dcc=dcc, file_format=file_format, retry=retry)
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        for again in range(TRIES):
            try:
                return await self._json("POST", "/batches", json=body, headers=headers)
            except NotReachable:
                if again == TRIES - 1:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")

    async def batch(self, batch_id: str) -> Record:
        """The batch as it stands. Raises Missing."""
        return await self._json("GET", batch_path(batch_id))

    async def batches(self, *, mine: bool = False, limit: int | None = None) -> AsyncIterator[Record]:
        """Batches, newest first, at most `limit`."""
        query = {"requester": "me"} if mine else {}
        async for item in self._pages("/batches", "batches", query, limit):
            yield item

    async def batch_files(
        self, batch_id: str, *, state: str | None = None, limit: int | None = None
    ) -> AsyncIterator[Record]:
        """What became of each file, in the order of asking."""
        query = {} if state is None else {"state": state}
        async for item in self._pages(f"{batch_path(batch_id)}/files", "files", query, limit):
            yield item

    async def follow_batch(
        self, batch_id: str, *, timeout_seconds: float | None = None
    ) -> AsyncIterator[Record]:
        """The batch now and after each change, until all its files have ended; as BatchCalls.follow_batch.

        Raises:
            TookTooLong: not at its end in time. The batch goes on.
        """
        deadline = Deadline(timeout_seconds, batch_id, what="batch")
        record = await self.batch(batch_id)
        yield record
        if not batch_ended(record):
            with contextlib.suppress(NotReachable, UnexpectedResponse, Busy, Missing):
                async for data in self._events(batch_path(batch_id), deadline.at_most(QUIET_SECONDS)):
                    deadline.check()
                    record = data
                    yield record
        pause, seen_at = POLL_SECONDS[0], time.monotonic()
        while not batch_ended(record):
            deadline.check()
            await asyncio.sleep(deadline.at_most(pause))
            pause = min(pause * 1.3, POLL_SECONDS[1])
            try:
                now, seen_at = await self.batch(batch_id), time.monotonic()
            except (NotReachable, Busy):
                if time.monotonic() - seen_at > OUTAGE_SECONDS:
                    raise
                continue
            if now != record:
                record = now
                yield record

    async def cancel_batch(self, batch_id: str) -> Record:
        """Cancel what has not ended, but for jobs that somebody else wants. What is ready stays."""
        return await self._json("DELETE", batch_path(batch_id))

    async def _json(self, method: str, path: str, **options: Any) -> Record:
        url = absolute(self.base_url, path)
        with reaching(url):
            response = await self.http.request(method, url, **options)
        return json_object(check(response))

    async def _pages(
        self, path: str, name: str, query: dict[str, Any], limit: int | None
    ) -> AsyncIterator[Record]:
        remaining = limit
        while remaining is None or remaining > 0:
            page = await self._json("GET", path, params={**query, "limit": min(remaining or 200, 200)})
            items = page.get(name, [])
            for item in items[:remaining]:
                yield item
            remaining = None if remaining is None else remaining - len(items)
            if page.get("next") is None or not items:
                return
            query = {**query, "after": page["next"]}

    async def _events(self, path: str, quiet_seconds: float) -> AsyncIterator[Record]:
        url = absolute(self.base_url, f"{path}/events")
        wait = httpx.Timeout(self._timeout_seconds, read=quiet_seconds)
        parser = EventParser()
        with reaching(url):
            async with self.http.stream("GET", url, headers=EVENTS, timeout=wait) as response:
                if response.status_code >= 400:
                    await response.aread()
                check(response)
                must_be_events(url, response)
                async for line in response.aiter_lines():
                    event = parser.feed(line)
                    data = event_data(event.data) if event else None
                    if data is not None and "status" in data:
                        yield data
