"""How the clients call the service: connections, JSON, pages, streams of events."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Self
from urllib.parse import urljoin, urlsplit

import httpx

from gooseherd import __version__
from gooseherd.client.deadline import Deadline
from gooseherd.client.errors import Busy, Missing, NotReachable, UnexpectedResponse
from gooseherd.client.responses import check, json_object, reaching
from gooseherd.client.sse import parse_events

Record = dict[str, Any]
"""A job's or a batch's record, as the service sends it."""

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
POLL_SECONDS: Final = (0.2, 2.0)
"""First and longest wait between two looks at a record when its events cannot be had."""
OUTAGE_SECONDS: Final = 60.0
"""How long a service that was there may be gone while a record is followed: a restart takes seconds."""
QUIET_SECONDS: Final = 30.0
"""A stream of events that sends nothing for so long is given up for polling."""
EVENTS: Final = {"Accept": "text/event-stream"}


def connection_options(base_url: str, api_key: str | None, timeout_seconds: float) -> dict[str, Any]:
    """What an httpx client is made with."""
    where = urlsplit(base_url)
    headers = {"User-Agent": f"gooseherd/{__version__}"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    return {
        "base_url": base_url,
        "headers": headers,
        "timeout": timeout_seconds,
        # A proxy of the environment cannot reach this machine's loopback.
        "trust_env": where.hostname not in _LOOPBACK,
        # Loading the certificates takes longer than a local call; redirects are never followed.
        "verify": where.scheme == "https",
        "limits": httpx.Limits(max_connections=64, max_keepalive_connections=32),
    }


def absolute(base_url: str, path: str) -> str:
    """`path` as a URL of the service."""
    return urljoin(base_url + "/", path.lstrip("/")) if "://" not in path else path


def event_data(text: str) -> Record | None:
    """The JSON object of an event; None: it is none."""
    try:
        data = json.loads(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


class HttpCalls:
    """One service. Safe to share between threads; `close()` or `with` frees its connections.

    Every call may raise NotReachable, and Refused (Missing, Denied, Busy) for an error response.
    """

    def __init__(self, base_url: str, api_key: str | None = None, *, timeout_seconds: float = 30.0) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self.http = httpx.Client(**connection_options(self.base_url, api_key, timeout_seconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the connections; idempotent."""
        self.http.close()

    def url(self, path: str) -> str:
        """`path` as an absolute URL."""
        return absolute(self.base_url, path)

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        url = self.url(path)
        with reaching(url):
            response = self.http.request(method, url, **options)
        return json_object(check(response))

    def _pages(
        self, path: str, name: str, query: Mapping[str, str | None], limit: int | None
    ) -> Iterator[dict[str, Any]]:
        wanted = {key: value for key, value in query.items() if value is not None}
        remaining = limit
        while remaining is None or remaining > 0:
            page = self._json("GET", path, params={**wanted, "limit": min(remaining or 200, 200)})
            items = page.get(name, [])
            yield from items[:remaining]
            remaining = None if remaining is None else remaining - len(items)
            after = page.get("next")
            if after is None or not items:
                return
            wanted["after"] = after

    def _events(self, path: str, quiet_seconds: float) -> Iterator[tuple[str, Record]]:
        """(event name, data) of the stream below `path`, to its end."""
        url = self.url(f"{path}/events")
        wait = httpx.Timeout(self._timeout_seconds, read=quiet_seconds)
        with reaching(url), self.http.stream("GET", url, headers=EVENTS, timeout=wait) as response:
            check(response)
            must_be_events(url, response)
            for event in parse_events(response.iter_lines()):
                data = event_data(event.data)
                if data is not None:
                    yield event.event, data

    def _follow(
        self, path: str, *, id_name: str, ended: Callable[[Mapping[str, Any]], bool], deadline: Deadline
    ) -> Iterator[Record]:
        """The record at `path` now and at each change, to its end: by events, by polling when those fail."""
        record = self._json("GET", path)
        yield record
        if not ended(record):
            with contextlib.suppress(NotReachable, UnexpectedResponse, Busy, Missing):
                # Polling shows whether the service is gone or only its events.
                for _, data in self._events(path, deadline.at_most(QUIET_SECONDS)):
                    deadline.check()
                    if "status" in data and data.get(id_name) == record.get(id_name):
                        record = data
                        yield record
        pause, seen_at = POLL_SECONDS[0], time.monotonic()
        while not ended(record):
            deadline.check()
            time.sleep(deadline.at_most(pause))
            pause = min(pause * 1.3, POLL_SECONDS[1])
            try:
                now, seen_at = self._json("GET", path), time.monotonic()
            except (NotReachable, Busy):
                if time.monotonic() - seen_at > OUTAGE_SECONDS:
                    raise
                continue
            if now != record:
                record = now
                yield record


def must_be_events(url: str, response: httpx.Response) -> None:
    """Raises UnexpectedResponse."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        raise UnexpectedResponse(url, "the response is no stream of events")
