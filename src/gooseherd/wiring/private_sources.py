"""What opens private sources, from settings: for the API's own reads, and for orders to workers."""

from __future__ import annotations

from contextlib import suppress

from gooseherd.domain.attempt import SourceAccess
from gooseherd.domain.errors import InvalidInput
from gooseherd.domain.source import SourceFile
from gooseherd.settings import Settings
from gooseherd.sources.http import HttpSources
from gooseherd.sources.private import ConfiguredAccess, parse_buckets, parse_headers


def source_access(settings: Settings) -> ConfiguredAccess | None:
    """None: nothing private is configured.

    Raises:
        Misconfigured: naming the setting; a secret that is named is not there.
    """
    if not settings.source_headers and not settings.source_s3_buckets:
        return None
    access = ConfiguredAccess(
        parse_headers(settings.source_headers),
        parse_buckets(settings.source_s3_buckets),
        endpoint=settings.source_s3_endpoint,
        region=settings.source_s3_region or settings.aws_region,
        sts_endpoint=settings.aws_endpoint_url,
    )
    access.check()
    return access


class AttemptAccess:
    """The SourceAccessIssuer port."""

    def __init__(self, access: ConfiguredAccess, sources: HttpSources) -> None:
        self._access = access
        self._sources = sources

    async def for_attempt(self, source: SourceFile) -> SourceAccess | None:
        """As the port."""
        asked = None
        with suppress(InvalidInput):
            asked = self._sources.asked_first(source.access_url)
        return await self._access.for_attempt(source, asked)
