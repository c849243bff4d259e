"""One guarded GET or HEAD: each hop is judged, and the connection goes to the addresses that were judged."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from gooseherd.domain.errors import AccessDenied, NotFound, OutboundRefused
from gooseherd.domain.foreign_json import read_json
from gooseherd.sources.retry_policy import RetryPolicy, TransientFailure, retry_after
from gooseherd.sources.urlguard import UrlGuard, parse, safe_url, setting_of

if TYPE_CHECKING:
    import aiohttp

    from gooseherd.sources.private import PrivateAccess

Headers = Mapping[str, str]
"""By name, whatever the case of its letters."""

MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_USABLE_STATUSES: Final = frozenset({200, 206, 304, 416})
_AGAIN: Final = frozenset({408, 425, 429})
_TRAVELLING: Final = frozenset(
    {"accept", "accept-encoding", "range", "if-range", "if-none-match", "if-modified-since"}
)
"""Request headers that may follow a redirect to another origin; what opens a door may not."""
_MAX_JSON: Final = 1 << 20


class GuardedHttp:
    """An HTTP client that goes nowhere the guard does not allow. `tls` adds certificates of one's own.

    `endpoint` is a URL that the configuration names, as those of `access` are: its host may have any
    address, at its port.
    No cookies, no proxies from the environment, no decoding of bodies.
    """

    def __init__(
        self,
        guard: UrlGuard,
        patience: RetryPolicy,
        tls: ssl.SSLContext | None = None,
        endpoint: str | None = None,
        access: PrivateAccess | None = None,
    ) -> None:
        self._guard = guard
        self._access = access
        self._patience = patience
        self._tls = tls
        named = (endpoint, *(() if access is None else access.endpoints()))
        self._endpoints = tuple(URL(one) for one in named if one)
        self._session: aiohttp.ClientSession | None = None

    async def get(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        display_url: str | None = None,
        ours: bool = False,
        is_opened: bool = True,
    ) -> aiohttp.ClientResponse:
        """Upstream's answer: 200, 206, 304 or 416, body unread; the caller releases it.

        `display_url` stands for the URL in errors; None: `safe_url` of it. `ours`: the URL is of an
        endpoint that the configuration names, so the rules do not apply to it; they do
        apply to what it redirects to. `is_opened`: what opens the host, by the configuration, is sent;
        not where another server named the URL.

        Raises:
            OutboundRefused: the guard does not allow the URL, an address or a redirect.
            NotFound, AccessDenied: upstream said so.
            TransientFailure: anything else.
        """
        display_url = display_url or safe_url(url)
        response = await self._follow(url, headers, display_url, ours=ours, is_opened=is_opened)
        if response.status in _USABLE_STATUSES:
            return response
        response.close()
        raise _as_error(response, display_url)

    async def head(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        display_url: str | None = None,
        ours: bool = False,
        is_opened: bool = True,
    ) -> Headers:
        """The headers of a 200 to a HEAD; arguments and errors as of `get`, for every other answer too."""
        display_url = display_url or safe_url(url)
        response = await self._follow(
            url, headers, display_url, method="HEAD", ours=ours, is_opened=is_opened
        )
        response.close()
        if response.status != 200:
            raise _as_error(response, display_url)
        return response.headers

    async def get_json(self, url: str, headers: Mapping[str, str]) -> Any:
        """A small JSON document. Raises as `get` does; TransientFailure also for what is no JSON."""
        display_url = safe_url(url)
        response = await self._follow(url, {"accept": "application/json", **headers}, display_url)
        try:
            if response.status != 200:
                raise _as_error(response, display_url)
            body = bytearray()
            async for chunk in self.chunks(response, display_url):
                body += chunk
                if len(body) > _MAX_JSON:
                    raise TransientFailure(display_url, 200, "sent too long a document", again=False)
            return read_json(body)
        except ValueError:
            raise TransientFailure(display_url, 200, "sent no JSON", again=False) from None
        finally:
            response.release()

    async def chunks(self, response: aiohttp.ClientResponse, display_url: str) -> AsyncIterator[bytes]:
        """The body as it arrives.

        Raises:
            TransientFailure: naming `display_url`, when it stalls, crawls or breaks off.
        """
        from gooseherd.sources.session import ClientError

        clock = asyncio.get_running_loop().time
        waited, received = 0.0, 0
        try:
            while True:
                since = clock()
                if not (chunk := await response.content.readany()):
                    return
                # Only time spent waiting counts: a slow reader of ours is not upstream's fault.
                waited += clock() - since
                received += len(chunk)
                yield chunk
                if waited > self._patience.floor_seconds:
                    if received < waited * self._patience.floor_bytes:
                        problem = f"sends too slowly: {received / waited / 1024:.1f} KiB/s"
                        raise TransientFailure(display_url, response.status, problem, slow=True)
                    waited, received = 0.0, 0
        except (ClientError, OSError) as error:
            raise TransientFailure(display_url, response.status, _words(error, "broke off")) from error

    async def close(self) -> None:
        """Idempotent."""
        if self._session is not None:
            await self._session.close()

    async def _follow(
        self,
        url: str,
        headers: Mapping[str, str],
        display_url: str,
        *,
        method: str = "GET",
        ours: bool = False,
        is_opened: bool = True,
    ) -> aiohttp.ClientResponse:
        sent = {**headers, "accept-encoding": "identity"}
        target, hop = parse(url) if ours else self._guard.check(url), ""
        opening = await self._opening(target) if is_opened else {}
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._once(method, target, {**sent, **opening}, display_url, hop)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            hop = "redirect: "
            try:
                # Servers send spaces; the rest of a Location stays as it is, signatures live there.
                following = self._guard.check(str(target.join(parse(location.replace(" ", "%20")))))
            except OutboundRefused as refused:
                # The catalog's URL is named, not what it led to: that may be a map of somebody's network.
                raise OutboundRefused(display_url, hop + refused.rule, refused.setting) from None
            if following.origin() != target.origin():
                # Nor does it come back: who is led here from elsewhere gets what is for everybody.
                opening = {}
                sent = {name: value for name, value in sent.items() if name.lower() in _TRAVELLING}
            target = following
        raise TransientFailure(display_url, None, f"redirects more than {MAX_REDIRECTS} times", again=False)

    async def _opening(self, target: URL) -> Mapping[str, str]:
        """What opens that very origin, and goes nowhere else."""
        if self._access is None or target.scheme != "https":
            return {}
        return await self._access.headers_for(f"https://{(target.host or '').lower()}:{target.port}")

    async def _once(
        self, method: str, target: URL, headers: Mapping[str, str], display_url: str, hop: str
    ) -> aiohttp.ClientResponse:
        session = await self._opened()
        from gooseherd.sources.session import AddressRefusedError, CertificateError, ClientError

        try:
            # Over all, because one byte of header now and then would reset the timer between reads.
            async with asyncio.timeout(self._patience.connect_seconds + self._patience.read_seconds):
                return await session.request(method, target, headers=headers, allow_redirects=False)
        except AddressRefusedError as refused:
            raise OutboundRefused(display_url, hop + refused.rule, setting_of(refused.rule)) from None
        except CertificateError as error:
            raise TransientFailure(
                display_url, None, "has a certificate we do not trust", again=False
            ) from error
        except (ClientError, OSError, ValueError) as error:
            raise TransientFailure(display_url, None, _words(error, "cannot be reached", hop)) from error

    async def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # aiohttp is for those who read upstream, and takes a sixth of a second: other requests go on.
            session = await asyncio.to_thread(importlib.import_module, "gooseherd.sources.session")
            if self._session is None:
                self._session = session.open_session(self._guard, self._patience, self._tls, self._endpoints)
        return self._session


def _as_error(response: aiohttp.ClientResponse, display_url: str) -> Exception:
    """What an answer that is not the file means."""
    status = response.status
    if status in {404, 410}:
        return NotFound("source", display_url)
    if status in {401, 403, 407, 451}:
        return AccessDenied(display_url, "forbidden upstream")
    later = retry_after(response.headers)
    # 202: a DRS server is fetching the object from its archive, and says when to ask again.
    again = status >= 500 or status in _AGAIN or (status == 202 and later is not None)
    return TransientFailure(display_url, status, f"answered {status}", later, again)


def _words(error: Exception, default: str, hop: str = "") -> str:
    from gooseherd.sources.session import UnknownHostError

    # Never str(error): it names resolved addresses, and where a redirect led.
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, UnknownHostError):
        return "redirects to a host whose name does not resolve" if hop else "host name does not resolve"
    return default
