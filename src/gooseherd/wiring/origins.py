"""Whose pages and which names the settings let in."""

from __future__ import annotations

from urllib.parse import urlsplit

from gooseherd.api.origins import OriginRules
from gooseherd.settings import Settings


def origin_rules(settings: Settings) -> OriginRules:
    """Where only this machine reaches the service, what its browsers may be made to ask for is limited."""
    local = settings.is_local
    allowed = [*settings.api_cors_origins, *settings.api_allow_origins]
    public = urlsplit(settings.api_public_url or "")
    if not settings.api_cors_origins:
        if not local:
            allowed = ["*"]
        elif public.netloc:
            allowed.append(f"{public.scheme}://{public.netloc.lower()}")
    return OriginRules(
        allowed=tuple(allowed),
        local=local and not settings.api_cors_origins,
        hosts=frozenset({name.lower() for name in (*settings.api_allow_hosts, public.hostname or "") if name})
        if local
        else None,
    )
