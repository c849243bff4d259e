"""What may be fetched and from where, as configuration says it; the API and the worker share the rules."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Self

from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.quantities import size_in_bytes
from gooseherd.environment import (
    MIN_BYTES_PER_SECOND,
    REFERENCES_MAX_BYTES,
    SLOW_SECONDS,
    read,
    switch,
    words,
)
from gooseherd.sources.private_rules import parse_endpoint
from gooseherd.sources.references import ReferenceSource, parse_references

if TYPE_CHECKING:
    from gooseherd.sources.http import HttpSources
    from gooseherd.sources.private import PrivateAccess
    from gooseherd.sources.urlguard import UrlGuard


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
    references: tuple[str, ...] = ()
    """`name=url`, for reference sequences that files leave out."""
    references_max_bytes: int = REFERENCES_MAX_BYTES
    references_dir: Path | None = None
    min_bytes_per_second: int = MIN_BYTES_PER_SECOND
    slow_seconds: float = SLOW_SECONDS

    def sources(self, access: PrivateAccess | None = None) -> HttpSources:
        """Sources that keep to the rules, with `access` to private ones; the caller closes them.

        Raises:
            Misconfigured: naming the variable.
        """
        # Late: who only passes the rules on need not wait for an HTTP client's imports.
        from gooseherd.sources.http import HttpSources
        from gooseherd.sources.retry_policy import RetryPolicy

        return HttpSources(
            self.guard(),
            patience=RetryPolicy(floor_bytes=self.min_bytes_per_second, floor_seconds=self.slow_seconds),
            drs_prefixes=self._prefixes(),
            s3_endpoint=self._endpoint(),
            s3_region=self.s3_region,
            access=access,
        )

    def guard(self) -> UrlGuard:
        """What judges each address. Raises Misconfigured naming the variable."""
        from gooseherd.sources.urlguard import UrlGuard

        return UrlGuard(
            schemes=frozenset({"https", "http"} if self.allow_http else {"https"}),
            allow_hosts=self.allow_hosts,
            allow_networks=self.networks(),
            file_roots=self.file_roots,
        )

    def reference_sources(self) -> tuple[ReferenceSource, ...]:
        """Raises Misconfigured naming the variable."""
        return parse_references(self.references)

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
        return parse_endpoint("SOURCE_S3_ENDPOINT", self.s3_endpoint)

    def _prefixes(self) -> Mapping[str, str]:
        pairs = [word.partition("=") for word in self.drs_prefixes]
        if any(not prefix or "{id}" not in pattern for prefix, _, pattern in pairs):
            raise Misconfigured("SOURCE_DRS_PREFIXES", "prefix=https://host/path/{id}, comma-separated")
        return {prefix: pattern for prefix, _, pattern in pairs}

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self:
        """What `to_env` wrote, or an operator."""
        return cls(
            allow_http=read(environment, "SOURCE_ALLOW_HTTP", switch, default=False),
            allow_hosts=read(environment, "SOURCE_ALLOW_HOSTS", words, ()),
            allow_networks=read(environment, "SOURCE_ALLOW_NETWORKS", words, ()),
            file_roots=tuple(map(Path, words(environment.get("SOURCE_FILE_ROOTS", ""), os.pathsep))),
            drs_prefixes=read(environment, "SOURCE_DRS_PREFIXES", words, ()),
            s3_endpoint=environment.get("SOURCE_S3_ENDPOINT") or None,
            s3_region=environment.get("SOURCE_S3_REGION") or None,
            references=read(environment, "SOURCE_REFERENCES", words, ()),
            references_max_bytes=read(
                environment, "SOURCE_REFERENCES_MAX_BYTES", size_in_bytes, REFERENCES_MAX_BYTES
            ),
            references_dir=Path(folder) if (folder := environment.get("SOURCE_REFERENCES_DIR")) else None,
            min_bytes_per_second=read(
                environment, "SOURCE_MIN_BYTES_PER_SECOND", size_in_bytes, MIN_BYTES_PER_SECOND
            ),
            slow_seconds=read(environment, "SOURCE_SLOW_SECONDS", float, SLOW_SECONDS),
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
            "SOURCE_REFERENCES": ",".join(self.references),
            "SOURCE_REFERENCES_MAX_BYTES": str(self.references_max_bytes),
            "SOURCE_REFERENCES_DIR": str(self.references_dir or ""),
            "SOURCE_MIN_BYTES_PER_SECOND": str(self.min_bytes_per_second),
            "SOURCE_SLOW_SECONDS": f"{self.slow_seconds:g}",
        }
