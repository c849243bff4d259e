"""Addresses in what is copied into viewers, with what opens them: a viewer sends no key of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gooseherd.api.callers import Callers
from gooseherd.api.request_context import RequestContext
from gooseherd.domain.caller import Credential, Scope
from gooseherd.domain.errors import InvalidCredential
from gooseherd.domain.source import AccessLevel, SourceFile

Link = Callable[[str], str]


@dataclass(slots=True)
class Linking:
    """Makes them for one request. What is not public has a token of its file, as in tickets of htsget.

    A token in the request's own address goes along to all of them.
    """

    context: RequestContext
    callers: Callers
    until: datetime | None = field(default=None, init=False)
    """When the tokens end that were given out."""

    async def of(self, entry: SourceFile) -> Link:
        """For addresses of this entry."""
        caller = self.context.caller
        if (
            entry.access_level is AccessLevel.PUBLIC
            or caller.credential is Credential.TOKEN
            or not caller.may(Scope.READ)
        ):
            return self.context.link
        try:
            token, ends = await self.callers.token_for(caller, entry.dcc, entry.local_id)
        except InvalidCredential:  # there are no tokens where there is no store of keys
            return self.context.link
        self.until = datetime.fromtimestamp(ends, UTC)
        return lambda path: self.context.address_of(f"{path}{'&' if '?' in path else '?'}token={token}")

    async def of_several(self, entries: Sequence[SourceFile]) -> tuple[Sequence[SourceFile], Link]:
        """Those of them that one address can be for, and its link: a token opens one file."""
        hidden = [entry for entry in entries if entry.access_level is not AccessLevel.PUBLIC]
        if not hidden or self.context.url_token:
            return entries, self.context.link
        opened = [entry for entry in entries if entry not in hidden or entry is hidden[0]]
        return opened, await self.of(hidden[0])
