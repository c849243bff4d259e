"""Whom a network address stands for."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

_WITH_PORT = re.compile(r"\[(?P<bracketed>[^\]]*)\](?::\d{1,5})?|(?P<plain>[^:]*):\d{1,5}")
"""As some proxies write it; more than one colon is an IPv6 address without brackets."""

_LONGEST_HOP = 80
"""An IPv6 address has 45 characters at most; with brackets, a zone that is an interface, and a port."""


def without_port(hop: str) -> str:
    """The address of one hop of X-Forwarded-For.

    Raises:
        ValueError: it is none.
    """
    word = hop.strip().strip('"')
    if len(word) > _LONGEST_HOP:
        raise ValueError("longer than an address")
    found = _WITH_PORT.fullmatch(word)
    if found:
        word = found["bracketed"] if found["bracketed"] is not None else found["plain"]
    return str(ip_address(word))


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that one customer of IPv6 gets."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and not parsed.is_loopback:
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> 64 << 64)) + "/64"
    return str(parsed)
