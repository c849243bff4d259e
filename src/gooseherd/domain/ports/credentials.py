"""What control relies on for an attempt's access to where artifacts are stored."""

from __future__ import annotations

from typing import Protocol

from gooseherd.domain.attempt import AttemptId, SourceAccess, TemporaryCredentials
from gooseherd.domain.source import SourceFile


class CredentialIssuer(Protocol):
    """Makes credentials that are good for the objects of one artifact only."""

    async def issue(self, attempt: AttemptId, prefix: str) -> TemporaryCredentials:
        """For the keys below `prefix`: to read them and to add new ones, neither to replace nor to delete.

        Raises:
            CacheUnavailable: nobody answers who could make them; again later.
            Misconfigured: naming what does not allow it.
        """
        ...


class SourceAccessIssuer(Protocol):
    """Makes what opens the source of one attempt."""

    async def for_attempt(self, source: SourceFile) -> SourceAccess | None:
        """None: everybody may read it.

        Raises:
            UpstreamUnavailable: nobody answers who could make it; again later.
            Misconfigured: naming what does not allow it.
        """
        ...
