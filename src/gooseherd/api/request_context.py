"""The context of one request: its headers, who makes it, and links as they reach this API."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from gooseherd.api.addresses import network_of, without_port
from gooseherd.api.dependencies import Dependencies
from gooseherd.domain.caller import ANONYMOUS, Caller, Scope
from gooseherd.domain.errors import AdminKeyRequired, InvalidCredential, KeyRequired, ScopeRequired
from gooseherd.domain.job import Requester
from gooseherd.domain.source import Dcc, SourceFile

Headers = Mapping[bytes, bytes]

SCOPE_KEY: Final = "gooseherd.request_context"

_HOP_CHARACTERS: Final = 100
"""More than any address has: what is cut to it is none."""
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")


def header_map(pairs: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Header lines by lowercase name; lines of one name are joined (RFC 9110 §5.2)."""
    found: dict[bytes, bytes] = {}
    for name, value in pairs:
        found[name] = found[name] + b", " + value if name in found else value
    return found


def client_address(peer: str, forwarded_for: str, proxies: int) -> str:
    """The client behind `proxies` proxies of ours, each of which added its peer to X-Forwarded-For.

    Counted from the right: what a client wrote there itself stays unread.
    """
    hops = last_hops(forwarded_for, proxies)
    try:
        return without_port(hops[0]) if hops else peer
    except ValueError:
        return peer


def last_hops(forwarded_for: str, proxies: int) -> tuple[str, ...]:
    """What `proxies` proxies of ours wrote into X-Forwarded-For, cut to what is told from an address."""
    if not proxies or not forwarded_for:
        return ()
    hops: list[str] = []
    while forwarded_for and len(hops) < proxies:
        forwarded_for, _, word = forwarded_for.rpartition(",")
        if word := word.strip():
            hops.append(word[:_HOP_CHARACTERS])
    return tuple(reversed(hops))


class RequestContext:
    """One request, as everything behind the middleware sees it."""

    __slots__ = (
        "_dependencies",
        "_scope",
        "affected",
        "caller",
        "collection",
        "error",
        "headers",
        "held",
        "identify",
        "request_id",
        "url_token",
        "used_admin",
    )

    def __init__(
        self, scope: Mapping[str, Any], headers: Headers, request_id: str, dependencies: Dependencies
    ) -> None:
        self._scope = scope
        self._dependencies = dependencies
        self.headers = headers
        self.request_id = request_id
        self.caller: Caller = ANONYMOUS
        """Set by the middleware before anything is looked up."""
        self.identify: Callable[[RequestContext], Awaitable[Caller]] | None = None
        """Tells who asks, once more. Set by the middleware."""
        self.affected = ""
        """What was made or changed, where the path does not name it: for the audit log."""
        self.collection: Dcc | None = None
        """Of the entry whose bytes are served, where the path does not name it: for the usage."""
        self.error: BaseException | None = None
        """What refused the request, if anything did."""
        self.held = False
        """It waited for a file to be made."""
        self.url_token = ""
        """The download token of the query, which every link in the answer has to have again."""
        self.used_admin = False
        """What was asked for is the admin's alone."""

    @property
    def method(self) -> str:
        """Of the request."""
        method: str = self._scope["method"]
        return method

    @property
    def path(self) -> str:
        """The decoded path, for problems and logs."""
        path: str = self._scope["path"]
        return path

    @property
    def target(self) -> str:
        """The path as it was sent, escapes included."""
        raw: bytes = self._scope.get("raw_path") or quote(self.path).encode()
        return raw.decode("latin-1")

    @property
    def query(self) -> bytes:
        """The query as it was sent."""
        query: bytes = self._scope["query_string"]
        return query

    @property
    def is_admin(self) -> bool:
        """Whether the caller may do everything."""
        return self.caller.is_admin

    async def is_still_known(self) -> bool:
        """Whether the credential is still good and sees the same, for responses that go on for long."""
        if self.caller.is_anonymous or self.identify is None:
            return True
        try:
            return (await self.identify(self)).visible == self.caller.visible
        except InvalidCredential:
            return False

    def require(self, scope: Scope) -> None:
        """Raises AdminKeyRequired or KeyRequired: nothing was shown; ScopeRequired: what was is less."""
        if self.caller.may(scope):
            return
        if not self.caller.is_anonymous:
            raise ScopeRequired(scope)
        raise AdminKeyRequired if scope is Scope.ADMIN else KeyRequired(scope)

    def require_work_on(self, entry: SourceFile) -> None:
        """Raises ScopeRequired: no job may be started on it. On a public entry anybody's may."""
        if not self.caller.may_start_work_on(entry):
            raise ScopeRequired(Scope.SUBMIT)

    def require_admin(self) -> None:
        """Raises AdminKeyRequired, ScopeRequired."""
        self.require(Scope.ADMIN)
        self.used_admin = True

    @property
    def requester(self) -> Requester:
        """The credential's owner, else the client's address, of IPv6 its /64, which is one customer's."""
        return self.caller.owner or Requester(self.network)

    @property
    def network(self) -> str:
        """What counts as one client."""
        return network_of(self.address)

    @property
    def address(self) -> str:
        """The client's, as far as proxies of ours tell it."""
        client = self._scope.get("client")
        peer = client[0] if client else "unknown"
        return client_address(peer, self._text(b"x-forwarded-for"), self._dependencies.trusted_proxies)

    @property
    def prefix(self) -> str:
        """The path under which a proxy shows this API, without a trailing slash."""
        public = self._dependencies.public_url
        return urlsplit(public).path.rstrip("/") if public else ""

    def location(self, path: str) -> str:
        """`path` as a redirect or Location has it, behind any proxy, with the token of the request's URL."""
        return self.prefix + self._with_token(path)

    def _with_token(self, path: str) -> str:
        if not self.url_token:
            return path
        return f"{path}{'&' if '?' in path else '?'}token={quote(self.url_token, safe='')}"

    def link(self, path: str) -> str:
        """An absolute URL of `path` (which starts with a slash), with the token of the request's URL."""
        return self.address_of(self._with_token(path))

    def path_link(self, path: str) -> str:
        """The same without scheme and host: right behind any proxy."""
        return self.prefix + self._with_token(path)

    def address_of(self, path: str) -> str:
        """An absolute URL of `path` as it is, which may have the token already."""
        if self._dependencies.public_url:
            return self._dependencies.public_url.rstrip("/") + path
        scheme, host = self._scope.get("scheme", "http"), self._text(b"host")
        if self._dependencies.trusted_proxies:
            scheme = _first(self._text(b"x-forwarded-proto")) or scheme
            host = _first(self._text(b"x-forwarded-host")) or host
        if not _HOST.fullmatch(host):
            server = self._scope.get("server") or ("localhost", None)
            host = server[0] if server[1] is None else f"{server[0]}:{server[1]}"
        return f"{'https' if scheme == 'https' else 'http'}://{host}{path}"

    def _text(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")


def context_of(scope: Mapping[str, Any]) -> RequestContext:
    """The context that the middleware put on the scope."""
    found: RequestContext = scope[SCOPE_KEY]
    return found


def _first(value: str) -> str:
    return value.split(",", maxsplit=1)[0].strip()
