"""Where a service is and who asks: what every client, and every display that stays live, is made of."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urljoin, urlsplit

import httpx

from gooseherd import __version__
from gooseherd.client.errors import NoService
from gooseherd.client.local_service import LocalService, default_state_dir, find_local, find_local_at

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class KeyOfLocalService(httpx.Auth):
    """A key for a service of this machine, shown as long as that service is at its address.

    Clients may live for days. Once the service has ended, any user of the machine may listen there.
    """

    def __init__(self, service: LocalService, key: str) -> None:
        self._service, self._key = service, key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Raises ConnectError: the service has ended, and none has begun at its address."""
        found = find_local_at(self._service.url, self._service.state_dir)
        if found is None or (self._service.admin_key and not found.admin_key):
            raise httpx.ConnectError("the service that ran here has ended", request=request)
        request.headers["Authorization"] = f"Bearer {self._key}"
        yield request


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address, a key, and how long a response may take. The key is in no repr."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    timeout_seconds: float = 30.0
    service: LocalService | None = field(default=None, repr=False)
    """The service of this machine that `base_url` is the address of: the key is for it alone."""

    @classmethod
    def of(cls, service: LocalService, api_key: str | None = None, timeout_seconds: float = 30.0) -> Self:
        """A service of this machine, with its admin key unless there is another."""
        return cls(service.url, api_key or service.admin_key, timeout_seconds, service)

    def options(self) -> dict[str, Any]:
        """What an httpx client is made with."""
        where = urlsplit(self.base_url)
        headers = {"User-Agent": f"gooseherd/{__version__}"}
        auth = KeyOfLocalService(self.service, self.api_key) if self.service and self.api_key else None
        if self.api_key and auth is None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return {
            "base_url": self.base_url,
            "headers": headers,
            "auth": auth,
            "timeout": self.timeout_seconds,
            # A proxy of the environment cannot reach this machine's loopback.
            "trust_env": where.hostname not in LOOPBACK,
            # Loading the certificates takes longer than a local call; redirects are never followed.
            "verify": where.scheme == "https",
            "limits": httpx.Limits(max_connections=64, max_keepalive_connections=32),
        }

    def url(self, path: str) -> str:
        """`path` as an absolute URL."""
        return urljoin(self.base_url + "/", path.lstrip("/")) if "://" not in path else path


def endpoint_of(
    base_url: str | None,
    api_key: str | None,
    timeout_seconds: float,
    environ: Mapping[str, str] = os.environ,
) -> Endpoint:
    """The service at `base_url`; unset, at GOOSEHERD_URL, else the one that `gooseherd up` runs here.

    The key is the given one or GOOSEHERD_API_KEY, else the admin key of the service that runs here: for that
    service only, found by its state folder or by GOOSEHERD_URL, never for `base_url`.

    Raises:
        NoService: none was named and none runs.
    """
    if base_url:
        return Endpoint(base_url.rstrip("/"), api_key, timeout_seconds)
    key = api_key or environ.get("GOOSEHERD_API_KEY") or None
    folder: Path = default_state_dir(environ)
    named = environ.get("GOOSEHERD_URL")
    found = find_local_at(named, folder) if named else find_local(folder)
    if named and (key or found is None or found.admin_key is None):
        return Endpoint(named.rstrip("/"), key, timeout_seconds)
    if found is None:
        raise NoService
    return Endpoint.of(found, key, timeout_seconds)
