"""What can be said of a store to whoever runs it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_NOT_VERIFIED: Final = "whoever stands between could pose as the database and read its password"
_UNVERIFIED_OPTIONS: Final = ("tlsAllowInvalidCertificates", "tlsAllowInvalidHostnames", "tlsInsecure")
"""Of MongoDB's URLs, whose names have no case."""
_TRUE: Final = "true"


@dataclass(frozen=True, slots=True)
class Danger:
    """A setting of the store that may lose what it acknowledged, or stop it soon."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class StoreReport:
    """Which store it is. Without host names, users or passwords."""

    product: str
    version: str
    details: tuple[str, ...] = ()
    dangers: tuple[Danger, ...] = ()

    def __str__(self) -> str:
        return ", ".join((f"{self.product} {self.version}", *self.details))


def url_dangers(url: str) -> tuple[Danger, ...]:
    """What a DATABASE_URL endangers by itself: a server elsewhere that is not verified. Repeats no secret."""
    parts = urlsplit(url)
    options = {name.lower(): value for name, value in parse_qsl(parts.query, keep_blank_values=True)}
    hosts = list(_hosts(parts.netloc, options.get("host", "")))
    if parts.scheme.startswith("postgres"):
        mode = options.get("sslmode", "prefer")
        if mode != "verify-full" and not all(map(_is_here, hosts)):
            return (Danger(f"sslmode={mode}: {_NOT_VERIFIED}", "sslmode=verify-full&sslrootcert=FILE"),)
    elif parts.scheme.startswith("mongodb"):
        chosen = [name for name in _UNVERIFIED_OPTIONS if options.get(name.lower()) == _TRUE]
        encrypted = options.get("tls", options.get("ssl", _TRUE if "+srv" in parts.scheme else ""))
        if chosen:
            return (Danger(f"{chosen[0]}: {_NOT_VERIFIED}", "tls=true&tlsCAFile=FILE in its place"),)
        if encrypted != _TRUE and not all(map(_is_here, hosts)):
            return (Danger(f"without TLS: {_NOT_VERIFIED}", "tls=true&tlsCAFile=FILE"),)
    return ()


def _hosts(place: str, option: str) -> Iterator[str]:
    """Of both forms: before the path, and PostgreSQL's option; empty or a path for a socket."""
    for one in (option or place.rpartition("@")[2]).split(","):
        yield one.partition("]")[0].lstrip("[") if one.startswith("[") else one.partition(":")[0]


def _is_here(host: str) -> bool:
    if host in {"", "localhost"} or host.startswith(("/", "@")):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
