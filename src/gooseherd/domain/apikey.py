"""API keys: what is kept of them, and how their text is made and read.

A key reads `ghk_ID_SECRET`. The id finds it; the secret has 256 random bits, so its plain SHA-256 can be
kept: nobody tries 2^256 of them, and a slow hash, which protects what people choose, would only cost
each request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NewType

from gooseherd.domain.caller import Caller, Credential, Scope
from gooseherd.domain.job import Requester
from gooseherd.domain.source import Dcc
from gooseherd.domain.visibility import EVERYTHING, PUBLIC_ONLY, Visibility

KeyId = NewType("KeyId", str)
"""The public part of a key: finds it, is shown in lists and logs, and opens nothing."""

PREFIX: Final = "ghk_"
"""So that scanners for secrets that were committed somewhere can know one."""
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_TEXT: Final = re.compile(
    rf"{PREFIX}(?P<id>[0-9a-f]{{{2 * _ID_BYTES}}})_(?P<secret>[0-9a-f]{{{2 * _SECRET_BYTES}}})"
)


@dataclass(frozen=True, slots=True)
class NewKey:
    """All it takes to store a key."""

    key_id: KeyId
    digest: str
    """SHA-256 of the key's text, in hex."""
    owner: Requester
    scopes: frozenset[Scope]
    collections: frozenset[Dcc] = frozenset()
    all_collections: bool = False
    label: str = ""
    expires_at: datetime | None = None
    budget_per_day: float | None = None
    """What its owner may use, in the currency of the prices; None: what the settings say."""
    budget_per_month: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey(NewKey):
    """A key as the store has it. Times are UTC, by the store's clock."""

    created_at: datetime
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """Right to the hour."""

    def state(self, now: datetime) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    @property
    def visible(self) -> Visibility:
        """What the key may see beside public entries."""
        if Scope.ADMIN in self.scopes:
            return EVERYTHING
        if Scope.READ not in self.scopes:
            return PUBLIC_ONLY
        return EVERYTHING if self.all_collections else Visibility(collections=self.collections)

    @property
    def caller(self) -> Caller:
        """Who shows it."""
        return Caller(Credential.KEY, self.key_id, self.owner, self.scopes, self.visible)

    def opens_with(self, text: str) -> bool:
        """Whether that is its text; the time it takes tells nothing."""
        return hmac.compare_digest(digest_of(text), self.digest)


def make_text(random_bytes: Callable[[int], bytes]) -> tuple[KeyId, str]:
    """A new key's id and whole text. The text is shown once and kept nowhere."""
    key_id = KeyId(random_bytes(_ID_BYTES).hex())
    return key_id, f"{PREFIX}{key_id}_{random_bytes(_SECRET_BYTES).hex()}"


def id_in(text: str) -> KeyId | None:
    """The id in a key's text; None: it is no key's."""
    found = _TEXT.fullmatch(text)
    return KeyId(found["id"]) if found else None


def digest_of(text: str) -> str:
    """What is kept of a key's text."""
    return hashlib.sha256(text.encode()).hexdigest()
