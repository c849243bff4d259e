"""What opens private sources, from settings: for the API's own reads, and for orders to workers."""

from __future__ import annotations

import logging
from contextlib import suppress

from gooseherd.domain.attempt import SourceAccess
from gooseherd.domain.errors import AccessDenied, InvalidInput, NotFound, OutboundRefused
from gooseherd.domain.source import SourceFile
from gooseherd.settings import Settings
from gooseherd.sources.http import HttpSources
from gooseherd.sources.private import ConfiguredAccess
from gooseherd.sources.private_rules import origin_of, parse_buckets, parse_headers
from gooseherd.sources.retry_policy import TransientFailure

log = logging.getLogger(__name__)


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
        asked: list[str] = []
        named: dict[str, str] = {}
        for url in source.addresses:
            with suppress(InvalidInput):
                if (object_url := self._sources.asked_first(url)) is not None:
                    asked.append(object_url)
            named |= await self._named(url)
        return await self._access.for_attempt(source, asked, named)

    async def _named(self, url: str) -> dict[str, str]:
        """The s3 URL that a drs URL leads to, where the bucket may be opened for it."""
        try:
            object_url = self._sources.asked_first(url)
            if object_url is None or not self._access.opens_for(origin_of(object_url)):
                return {}
            found = await self._sources.s3_url_of(url)
        except TransientFailure as faltered:
            raise faltered.plain() from faltered
        except (InvalidInput, NotFound, AccessDenied, OutboundRefused) as error:
            # The worker asks the same server, and says what is wrong.
            log.info("a DRS server does not say where an object is: %s", error)
            return {}
        return {} if found is None else {found[0]: found[1]}
