"""The identity provider that the environment names, if it names one."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gooseherd.domain.errors import Misconfigured
from gooseherd.settings import Settings
from gooseherd.sources.rules import OutboundRules

if TYPE_CHECKING:
    from gooseherd.api.oidc import OidcProvider

_log = logging.getLogger(__name__)


def open_identity_provider(settings: Settings) -> tuple[OidcProvider, Callable[[], Awaitable[None]]] | None:
    """The provider and what closes its connections; asks it nothing yet. None: none is named.

    Raises:
        Misconfigured: naming the variable.
    """
    issuer = settings.oidc_issuer
    if issuer is None:
        return None
    try:
        from gooseherd.api.oidc import OidcProvider, OidcRules, parse_grants
    except ImportError:
        raise Misconfigured("OIDC_ISSUER", "needs the extra: pip install 'gooseherd[oidc]'") from None
    from gooseherd.sources.guarded import GuardedHttp
    from gooseherd.sources.retry_policy import RetryPolicy

    if settings.oidc_audience is None:
        raise Misconfigured(
            "OIDC_AUDIENCE", "name what tokens must be for, or others' tokens open this service"
        )
    parts = urlsplit(issuer)
    # Plain http is for an issuer on a network that was named, as on this machine.
    plain = parts.scheme == "http" and bool(settings.oidc_allow_networks)
    if not (parts.scheme == "https" or plain) or not parts.hostname or parts.query or parts.fragment:
        raise Misconfigured("OIDC_ISSUER", "https://host/path, as the provider writes itself")
    rules = OutboundRules(
        allow_http=plain,
        allow_hosts=(parts.hostname, *settings.oidc_allow_hosts),
        allow_networks=settings.oidc_allow_networks,
    )
    try:
        http = GuardedHttp(rules.guard(), RetryPolicy(connect_seconds=3, read_seconds=3, tries=1))
    except Misconfigured as error:
        raise Misconfigured("OIDC_ALLOW_NETWORKS", error.problem) from None

    if settings.oidc_owner_claim != "sub":
        # What a provider never gives to two is `sub` alone (OpenID Connect Core 1.0 §5.7).
        _log.warning(
            "users with the same value in OIDC_OWNER_CLAIM share jobs, batches and sessions; the provider "
            "has to keep it unique, and never give it to another user",
            extra={"claim": settings.oidc_owner_claim},
        )

    async def fetch(url: str) -> Any:
        return await http.get_json(url, {"Accept": "application/json"})

    provider = OidcProvider(
        OidcRules(
            issuer=issuer,
            audience=settings.oidc_audience,
            grants=parse_grants(settings.oidc_grants),
            owner_claim=settings.oidc_owner_claim,
        ),
        fetch,
        clock=time.monotonic,
        wall_clock=lambda: datetime.now(UTC),
    )
    return provider, http.close
