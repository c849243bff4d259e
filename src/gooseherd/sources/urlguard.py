"""Which addresses may be fetched: rules on a URL, and on what its host resolves to. Pure.

A URL is judged twice, because a public name can point at a private address: once as text
(`check`), once per resolved address (`refusal`), at the moment of connecting, so that
nothing can change in between.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final

from yarl import URL

from gooseherd.domain.errors import OutboundRefused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOSTNAME: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*$")
_ENDS_IN_NUMBER: Final = re.compile(r"(?:^|\.)(?:\d+|0x[0-9a-f]*)$")
"""What C libraries, and aiohttp, take for an IPv4 address in one of its old spellings (127.1)."""
_WEB_PORTS: Final = frozenset({80, 443})
_MAX_URL: Final = 8192

_SPECIAL: Final[tuple[tuple[Network, str], ...]] = (
    # ipaddress knows most of the special registries, but not the same ones in every Python version.
    (ip_network("100.64.0.0/10"), "private address"),  # RFC 6598, carrier NAT; some clouds' metadata
    (ip_network("192.0.0.0/24"), "reserved address"),  # RFC 6890
    (ip_network("192.88.99.0/24"), "reserved address"),  # RFC 7526, 6to4 relays
    (ip_network("198.18.0.0/15"), "reserved address"),  # RFC 2544
    (ip_network("240.0.0.0/4"), "reserved address"),
    (ip_network("fc00::/7"), "private address"),  # RFC 4193
    (ip_network("fec0::/10"), "private address"),  # RFC 3879, site-local
    (ip_network("2001::/32"), "tunnelled address"),  # RFC 4380, Teredo
    (ip_network("2001:db8::/32"), "reserved address"),
    (ip_network("3fff::/20"), "reserved address"),  # RFC 9637
)
_NOT_LISTED: Final = "host is not on the list of allowed hosts"
_CLASSES: Final = (
    *("unspecified address", "loopback address", "link-local address", "multicast address"),
    *("private address", "reserved address", "tunnelled address"),
)
_SETTINGS: Final = {_NOT_LISTED: "SOURCE_ALLOW_HOSTS", **dict.fromkeys(_CLASSES, "SOURCE_ALLOW_NETWORKS")}
"""The variable that can lift a rule, for the rules that have one."""
_GLOBAL_V6: Final = ip_network("2000::/3")
_NAT64: Final = ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_SIX_TO_FOUR: Final = ip_network("2002::/16")  # RFC 3056: so are the 32 after the first 16


@dataclass(frozen=True, slots=True)
class UrlGuard:
    """What may be fetched.

    `schemes`: https, and where wanted http; drs and s3 URLs become https ones and are judged
    as those, file URLs need `file_roots` and nothing else. `allow_hosts`: glob patterns (`*`
    also matches dots), empty for any public host. `allow_networks`: networks that are
    allowed although they are not public (tests, a local cloud). `file_roots`: folders that
    file URLs may read below.
    """

    schemes: frozenset[str] = frozenset({"https"})
    allow_hosts: tuple[str, ...] = ()
    allow_networks: tuple[Network, ...] = ()
    file_roots: tuple[Path, ...] = ()

    def check(self, text: str) -> URL:
        """The URL to connect to, exactly as it was judged.

        Raises:
            OutboundRefused: with the rule that does not allow it.
        """
        url = parse(text)
        if url.scheme not in self.schemes or url.scheme not in {"http", "https"}:
            rule = f"scheme {url.scheme or 'missing'!r} is not allowed"
            raise OutboundRefused(safe_url(text), rule, "SOURCE_ALLOW_HTTP" if url.scheme == "http" else None)
        if refused := self._host_refusal(url) or self._port_refusal(url.port):
            raise OutboundRefused(safe_url(text), refused, setting_of(refused))
        return url

    def _host_refusal(self, url: URL) -> str | None:
        if url.user is not None or url.password is not None:
            return "credentials in the URL"
        host = (url.raw_host or "").lower()
        address = _literal(host)
        name = host.removesuffix(".")
        if address is None and (_ENDS_IN_NUMBER.search(name) or not _HOSTNAME.match(name)):
            return "not a host name"
        if self.allow_hosts and not any(fnmatchcase(name, glob.lower()) for glob in self.allow_hosts):
            return _NOT_LISTED
        return self.refusal(address) if address is not None else None

    def _port_refusal(self, port: int | None) -> str | None:
        # Below 1024 live mail, ssh and the like, which a request can be made to talk to.
        return None if port in _WEB_PORTS or 1024 <= (port or 0) <= 65535 else "port is not allowed"

    def refusal(self, address: Address) -> str | None:
        """The rule that forbids connecting to `address`, None when it is public or allowed by name."""
        if any(address.version == net.version and address in net for net in self.allow_networks):
            return None
        if isinstance(address, IPv6Address):
            inner = _embedded(address)
            return self.refusal(inner) if inner is not None else _class_of(address)
        return _class_of(address)


def setting_of(rule: str) -> str | None:
    """The environment variable that can lift `rule`; None when nothing does."""
    return _SETTINGS.get(rule)


def parse(text: str) -> URL:
    """Read a URL once, so that what was judged is what is used; nothing in it is re-spelled.

    Raises:
        OutboundRefused: unreadable, or with characters that parsers read differently.
    """
    if len(text) > _MAX_URL or any(ord(c) < 33 or ord(c) == 127 or c == "\\" for c in text.strip(" ")):
        raise OutboundRefused(safe_url(text), "not a URL")
    try:
        # A signed URL must go out byte for byte; only one that is no URL yet (é) is quoted.
        url = URL(text.strip(" "), encoded=text.isascii())
        _ = url.port  # read now: it is parsed on first use, and may be none
    except (ValueError, UnicodeError):
        raise OutboundRefused(safe_url(text), "not a URL") from None
    return url


def safe_url(text: str) -> str:
    """The URL as it may stand in an error: no query, no credentials; of a file only its name."""
    scheme, colon, rest = text.partition("://")
    bare = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = bare.partition("/")
    authority = authority.rpartition("@")[2]
    if not colon or scheme == "file":
        return f"file:…/{path.rpartition('/')[2]}" if colon else "the given URL"
    # A key of S3 may have blanks; whoever cuts addresses out of texts takes them up to the next one.
    display_url = f"{scheme}://{authority}{slash}{path}".replace(" ", "%20")
    return "".join(c if c.isprintable() else "?" for c in display_url[:300])


def _literal(host: str) -> Address | None:
    try:
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address((int(address) >> 80) & 0xFFFF_FFFF)
    return None


def _class_of(address: Address) -> str | None:
    for holds, rule in (
        (address.is_unspecified, "unspecified address"),
        (address.is_loopback, "loopback address"),
        (address.is_link_local, "link-local address"),
        (address.is_multicast, "multicast address"),
    ):
        if holds:
            return rule
    for network, rule in _SPECIAL:
        if address.version == network.version and address in network:
            return rule
    if address.is_private:
        return "private address"
    if address.is_reserved or not address.is_global or (address.version == 6 and address not in _GLOBAL_V6):
        return "reserved address"
    return None
