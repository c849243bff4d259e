"""The HTTP contract as calls for asyncio. GooseherdClient has the same ones, from here."""

from __future__ import annotations

from typing import Self

import httpx

from gooseherd.client.endpoint import Endpoint, endpoint_of
from gooseherd.client.fleet_calls import FleetCalls
from gooseherd.client.region_calls import RegionCalls
from gooseherd.client.transports import AsyncTransport, Transport
from gooseherd.client.upload_calls import UploadCalls


class AllCalls(RegionCalls, UploadCalls, FleetCalls):
    """The whole HTTP contract, on whichever transport."""

    def __init__(self, endpoint: Endpoint, transport: Transport) -> None:
        super().__init__(endpoint, transport)

    @property
    def base_url(self) -> str:
        """Of the service, without a trailing slash."""
        return self.endpoint.base_url


class AsyncGooseherdClient(AllCalls):
    """One service, for one event loop; `aclose()` or `async with` frees its connections.

    Without an address: GOOSEHERD_URL (with GOOSEHERD_API_KEY), else the service of this machine. Every call
    may raise NotReachable, and Refused (Missing, Denied, Busy) for an error response. Files are written and
    records taken apart in threads.
    """

    def __init__(
        self, base_url: str | None = None, api_key: str | None = None, *, timeout_seconds: float = 30.0
    ) -> None:
        endpoint = endpoint_of(base_url, api_key, timeout_seconds)
        transport = AsyncTransport(endpoint)
        super().__init__(endpoint, transport)
        self.http: httpx.AsyncClient = transport.http

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Free the connections; idempotent."""
        await self.transport.close()
