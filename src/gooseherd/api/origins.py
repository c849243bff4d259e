"""Whose pages may read responses, and under which names this service may be called (CORS, DNS rebinding)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from gooseherd.api.catalog import Catalog
from gooseherd.api.problems import ForeignHost, OriginRefused, Pairs
from gooseherd.domain.artifact import OWN_ADDRESS
from gooseherd.domain.errors import GooseherdError
from gooseherd.domain.source import SourceFile
from gooseherd.domain.visibility import PUBLIC_ONLY

_log = logging.getLogger(__name__)

Headers = Mapping[bytes, bytes]

_LOOPBACK_ORIGIN: Final = re.compile(
    rb"https?://(?:(?:[a-z0-9-]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE
)
_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::\d*)?")
_OF_AN_ENTRY: Final = frozenset({*(kind.value for kind in OWN_ADDRESS), "contigs", "files"})
"""First words of paths that go on with an entry's dcc and local id."""
_LEAST_WORDS: Final = 4
_REMOTE: Final = frozenset({"http", "https", "drs", "s3"})
_READING: Final = frozenset({b"GET", b"HEAD"})
_LOGGED_AT_MOST: Final = 100
"""Refused names: each is logged once, and a flood of them not at all."""

_EXPOSED: Final = (
    b"Content-Range, Content-Length, Accept-Ranges, ETag, Location, Retry-After, "
    b"Preference-Applied, Content-Disposition, X-Request-Id, RateLimit, RateLimit-Policy"
)
_CROSS_ORIGIN: Final = (b"cross-origin-resource-policy", b"cross-origin")
_EMBEDDED_NEARBY: Final = (b"cross-origin-resource-policy", b"same-site")
_VARY: Final = (b"vary", b"Origin")


@dataclass(frozen=True, slots=True)
class OriginRules:
    """Whose pages may read what."""

    allowed: tuple[str, ...] = ("*",)
    """Pages that may read every response; `*`: all."""
    local: bool = False
    """Pages of this machine may, too, and those of other origins public entries of remote files alone: what a
    page elsewhere makes a visitor's browser ask for is refused else."""
    hosts: frozenset[str] | None = None
    """Names in Host, lowercase, beside addresses and localhost; None: any."""


class Cors:
    """CORS headers. No credentials are ever allowed, so `*` is safe."""

    def __init__(self, allowed: Iterable[str], *, local: bool = False) -> None:
        self._origins = frozenset(origin.rstrip("/").encode() for origin in allowed)
        self.is_open = b"*" in self._origins
        """All pages may read every response."""
        self._local = local and not self.is_open
        self.for_everybody: Pairs = [*_allowed(b"*"), _CROSS_ORIGIN]
        self._closed: Pairs = [_VARY, _EMBEDDED_NEARBY if self._local else _CROSS_ORIGIN]

    def headers(self, request: Headers) -> Pairs:
        """Those of the response to a request with these."""
        if self.is_open:
            return self.for_everybody
        origin = request.get(b"origin")
        if origin is None or not self.allows(origin):
            return self._closed
        return [_VARY, *_allowed(origin), _CROSS_ORIGIN]

    def allows(self, origin: bytes) -> bool:
        """Whether pages of this origin may read every response."""
        return (
            self.is_open
            or origin in self._origins
            or (self._local and _LOOPBACK_ORIGIN.fullmatch(origin) is not None)
        )


class Origins:
    """The rules, applied to requests. Where everybody may read everything, nothing is looked up."""

    def __init__(self, rules: OriginRules, catalog: Catalog) -> None:
        self._cors = Cors(rules.allowed, local=rules.local)
        self._local = rules.local
        self._hosts = rules.hosts
        self._catalog = catalog
        self._known_hosts: set[bytes] = set()
        self._logged: set[str] = set()

    def cors(self, request: Headers) -> Pairs:
        """The CORS headers of the response, unless `opened` says more."""
        return self._cors.headers(request)

    def usual_cors(self, host: bytes | None) -> Pairs | None:
        """The CORS headers of the response to a request without an origin, or that everybody may read.

        None: the name in Host has to be looked at first.
        """
        if self._hosts is not None and host not in self._known_hosts:
            return None
        return self._cors.headers({})

    @property
    def are_alike(self) -> bool:
        """Whether the CORS headers are the same for all of them."""
        return self._cors.is_open

    def is_foreign(self, request: Headers) -> bool:
        """Whether a page asks that may not read everything, and what it asks for has to be looked at."""
        return self._local and b"origin" in request and not self._cors.allows(request[b"origin"])

    async def opened(self, scope: Mapping[str, Any], request: Headers) -> Pairs | None:
        """The CORS headers for a foreign page; None where it is refused, which is logged once.

        Only for reading of one public entry of a file that is elsewhere. What a preflight asks for
        is answered by its path alone; the request after it is looked at.
        """
        preflight = scope["method"] == "OPTIONS"
        method = request.get(b"access-control-request-method", b"") if preflight else scope["method"].encode()
        words = scope["path"].split("/")
        if method in _READING:
            # A digest is that of the bytes: whoever has it had them, or an answer about a public entry.
            if words[1:2] == ["artifacts"]:
                return self._cors.for_everybody
            of_an_entry = len(words) >= _LEAST_WORDS and words[1] in _OF_AN_ENTRY
            if of_an_entry and (preflight or await self._is_public_and_remote(words[2], words[3])):
                return self._cors.for_everybody
        origin = _shown(request[b"origin"])
        self._log_once(
            origin,
            "a page of another origin was refused; `gooseherd up --allow-origin %s` (API_ALLOW_ORIGINS), or "
            "API_CORS_ORIGINS for all that it may read, lets it in",
        )
        return None

    def refuse(self, request: Headers) -> OriginRefused:
        """The error for a page that is not let in."""
        return OriginRefused(_shown(request[b"origin"]))

    def check_host(self, request: Headers) -> None:
        """Whether the request is for this service, and not for a name that somebody made point here.

        A page whose own name begins to resolve to this machine (DNS rebinding) is of the same origin as
        this service, so CORS does not stop it; its Host header tells. Addresses cannot be rebound.

        Raises:
            ForeignHost: the name is none of ours.
        """
        host = request.get(b"host")
        if self._hosts is None or host is None or host in self._known_hosts:
            return
        found = _HOST.fullmatch(host.decode("latin-1"))
        name = found["name"].lower().rstrip(".") if found else ""
        if not (
            name == "localhost" or name.endswith(".localhost") or name in self._hosts or _is_address(name)
        ):
            self._log_once(
                _shown(host),
                "a request for another host was refused (DNS rebinding); API_ALLOW_HOSTS=%s lets it in",
            )
            raise ForeignHost(_shown(host))
        if len(self._known_hosts) < _LOGGED_AT_MOST:
            self._known_hosts.add(host)

    async def _is_public_and_remote(self, dcc: str, local_id: str) -> bool:
        try:
            entry = await self._catalog.entry(dcc, local_id, PUBLIC_ONLY)
        except GooseherdError:
            return False  # also what is not there: a page elsewhere learns nothing of local files
        return _is_remote(entry)

    def _log_once(self, name: str, message: str) -> None:
        if name not in self._logged and len(self._logged) < _LOGGED_AT_MOST:
            self._logged.add(name)
            _log.warning(message, name)


def _is_remote(entry: SourceFile) -> bool:
    return all(url.partition(":")[0].lower() in _REMOTE for url in entry.addresses)


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _shown(header: bytes) -> str:
    """As it may stand in a log and in a problem."""
    return "".join(c if c.isprintable() else "?" for c in header[:200].decode("latin-1"))


def _allowed(origin: bytes) -> Pairs:
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"timing-allow-origin", origin),
    ]
