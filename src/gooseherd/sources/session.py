"""What of GuardedHttp needs aiohttp, which is imported with the first request to upstream."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from socket import AI_NUMERICHOST, AI_NUMERICSERV, AddressFamily
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gooseherd.sources.resolver import Resolver
from gooseherd.sources.retry_policy import RetryPolicy
from gooseherd.sources.urlguard import UrlGuard

ClientError: Final = aiohttp.ClientError
CertificateError: Final = aiohttp.ClientConnectorCertificateError
UnknownHostError: Final = aiohttp.ClientConnectorDNSError

_READ_BUFFER: Final = 256 << 10
"""Bytes; twice as many may be buffered, and are lost when the connection breaks."""
_MAX_HEADER_LINE: Final = 32 << 10  # signed URLs in Location are long


def open_session(
    guard: UrlGuard, patience: RetryPolicy, tls: ssl.SSLContext | None, endpoints: Sequence[URL]
) -> aiohttp.ClientSession:
    """A session that connects to addresses which the guard allows, and to the `endpoints`."""
    connector = aiohttp.TCPConnector(
        resolver=_GuardedResolver(guard, endpoints), limit=0, ssl=tls if tls is not None else True
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        read_bufsize=_READ_BUFFER,
        max_line_size=_MAX_HEADER_LINE,
        max_field_size=_MAX_HEADER_LINE,
        headers={"User-Agent": "gooseherd"},
        timeout=aiohttp.ClientTimeout(
            total=None, connect=patience.connect_seconds, sock_read=patience.read_seconds
        ),
    )


class AddressRefusedError(Exception):
    """Not an OSError: aiohttp would take that for a name that does not resolve."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class _GuardedResolver(AbstractResolver):
    """Answers with addresses that were judged, and aiohttp connects to these and no others."""

    def __init__(self, guard: UrlGuard, endpoints: Sequence[URL]) -> None:
        self._guard = guard
        self._named = {(endpoint.host, endpoint.port) for endpoint in endpoints}
        self._resolver = Resolver()

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_INET
    ) -> list[ResolveResult]:
        """All addresses of the host; one that is refused refuses them all."""
        found = [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=of,
                proto=protocol,
                flags=AI_NUMERICHOST | AI_NUMERICSERV,
            )
            for of, _, protocol, _, address in await self._resolver.addresses(host, port, family)
            if of in (AddressFamily.AF_INET, AddressFamily.AF_INET6)
        ]
        if (host, port) in self._named:
            return found
        for one in found:
            rule = self._guard.refusal(ip_address(one["host"]))
            if rule is not None:
                raise AddressRefusedError(rule)
        return found

    async def close(self) -> None:
        """Nothing to free."""
