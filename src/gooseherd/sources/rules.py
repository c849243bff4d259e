"""What may be fetched and from where, as configuration says it; the API and the worker share the rules."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from gooseherd.domain.errors import Misconfigured

if TYPE_CHECKING:
    from gooseherd.sources.http import HttpSources


# The words of pydantic, which reads the same variables for the API.
_YES: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
_NO: Final = frozenset({"", "0", "false", "f", "no", "n", "off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundRules:
    """Each field is the variable of that name after `SOURCE_`; nothing set: public https only."""

    allow_http: bool = False
    allow_hosts: tuple[str, ...] = ()
    allow_networks: tuple[str, ...] = ()
    """CIDR."""
    file_roots: tuple[Path, ...] = ()
    drs_prefixes: tuple[str, ...] = ()
    """`prefix=https://host/path/{id}`, for compact DRS ids."""
    s3_endpoint: str | None = None
    s3_region: str | None = None

    def sources(self) -> HttpSources:
        """Sources that keep to the rules; the caller closes them.

        Raises:
            Misconfigured: naming the variable.
        """
        # Late: who only passes the rules on need not wait for an HTTP client's imports.
        from gooseherd.sources.http import HttpSources
        from gooseherd.sources.urlguard import UrlGuard

        guard = UrlGuard(
            schemes=frozenset({"https", "http"} if self.allow_http else {"https"}),
            allow_hosts=self.allow_hosts,
            allow_networks=self.networks(),
            file_roots=self.file_roots,
        )
        return HttpSources(
            guard, drs_prefixes=self._prefixes(), s3_endpoint=self._endpoint(), s3_region=self.s3_region
        )

    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Raises Misconfigured for what is no CIDR."""
        try:
            return tuple(ip_network(text) for text in self.allow_networks)
        except ValueError:
            raise Misconfigured(
                "SOURCE_ALLOW_NETWORKS", "networks such as 10.0.0.0/8, comma-separated"
            ) from None

    def _endpoint(self) -> str | None:
        if self.s3_endpoint is None:
            return None
        parts = urlsplit(self.s3_endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise Misconfigured("SOURCE_S3_ENDPOINT", "http(s)://host[:port]")
        return self.s3_endpoint

    def _prefixes(self) -> Mapping[str, str]:
        pairs = [word.partition("=") for word in self.drs_prefixes]
        if any(not prefix or "{id}" not in pattern for prefix, _, pattern in pairs):
            raise Misconfigured("SOURCE_DRS_PREFIXES", "prefix=https://host/path/{id}, comma-separated")
        return {prefix: pattern for prefix, _, pattern in pairs}

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self:
        """What `to_env` wrote, or an operator."""

        def words(name: str, separator: str) -> tuple[str, ...]:
            parts = (part.strip() for part in environment.get(name, "").split(separator))
            return tuple(part for part in parts if part)

        return cls(
            allow_http=_flag(environment, "SOURCE_ALLOW_HTTP"),
            allow_hosts=words("SOURCE_ALLOW_HOSTS", ","),
            allow_networks=words("SOURCE_ALLOW_NETWORKS", ","),
            file_roots=tuple(Path(word) for word in words("SOURCE_FILE_ROOTS", os.pathsep)),
            drs_prefixes=words("SOURCE_DRS_PREFIXES", ","),
            s3_endpoint=environment.get("SOURCE_S3_ENDPOINT") or None,
            s3_region=environment.get("SOURCE_S3_REGION") or None,
        )

    def to_env(self) -> dict[str, str]:
        """The variables that make `from_env` give these rules again."""
        return {
            "SOURCE_ALLOW_HTTP": "true" if self.allow_http else "false",
            "SOURCE_ALLOW_HOSTS": ",".join(self.allow_hosts),
            "SOURCE_ALLOW_NETWORKS": ",".join(self.allow_networks),
            "SOURCE_FILE_ROOTS": os.pathsep.join(str(root) for root in self.file_roots),
            "SOURCE_DRS_PREFIXES": ",".join(self.drs_prefixes),
            "SOURCE_S3_ENDPOINT": self.s3_endpoint or "",
            "SOURCE_S3_REGION": self.s3_region or "",
        }


def _flag(environment: Mapping[str, str], name: str) -> bool:
    word = environment.get(name, "").strip().lower()
    if word not in _YES and word not in _NO:
        raise Misconfigured(name, "true or false")
    return word in _YES
