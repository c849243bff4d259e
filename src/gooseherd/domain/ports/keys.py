"""What the API relies on of the store: keys, which tokens were revoked, the secret that signs them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from gooseherd.domain.apikey import ApiKey, KeyId, NewKey


class KeyStore(Protocol):
    """API keys. All methods raise StoreUnavailable; times are the store's clock."""

    async def add(self, key: NewKey) -> ApiKey:
        """Store a new key; of two with one id the first stays. Safe to call again."""
        ...

    async def restore(self, keys: Sequence[ApiKey]) -> int:
        """Store keys of a backup as they were, in the place of those with the same ids; how many were new.

        A key that was revoked here stays so, and one that ends sooner here (it was rotated) ends then. Safe
        to call again.
        """
        ...

    async def get(self, key_id: KeyId) -> ApiKey | None:
        """The key, or None."""
        ...

    async def keys(self) -> Sequence[ApiKey]:
        """All of them, the oldest first, those that have ended too."""
        ...

    async def revoke(self, key_id: KeyId) -> ApiKey | None:
        """End it now and for ever; the first time stands. None: no such key."""
        ...

    async def expire(self, key_id: KeyId, after: timedelta) -> ApiKey | None:
        """Let it expire so long from now, unless it does before. None: no such key."""
        ...

    async def note_use(self, key_id: KeyId, not_since: timedelta) -> bool:
        """It was used now. Written only if the last note is older than that; whether it was."""
        ...

    async def token_version(self, subject: str, resource: str) -> int:
        """How often the subject's tokens for the resource were revoked; those of other versions are none."""
        ...

    async def revoke_tokens(self, subject: str, resource: str) -> int:
        """Make all of them invalid; the version of those to come."""
        ...

    async def shared_secret(self, name: str, proposed: str) -> str:
        """The secret of that name, the same for all processes: the first that was proposed."""
        ...
