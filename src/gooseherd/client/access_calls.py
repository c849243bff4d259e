"""The calls about keys and tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from gooseherd.client.calls import Calls, given
from gooseherd.client.models import Caller, Key, NewKey, RevokedTokens, Token


class AccessCalls(Calls):
    """The calls under /keys, /tokens and /caller. Keys are made and ended by the admin."""

    async def caller(self) -> Caller:
        """Who we are to the service: `credential`, `owner`, `scopes`, `collections`."""
        return await self._record(Caller, "GET", "/caller")

    async def create_key(
        self,
        owner: str,
        *,
        scopes: Iterable[str] = ("read", "submit"),
        collections: Iterable[str] = (),
        label: str = "",
        expires_in_seconds: int | None = None,
        budget_per_day: float | None = None,
        budget_per_month: float | None = None,
    ) -> NewKey:
        """Make a key. Its text is the attribute `key`, which cannot be had again."""
        body: dict[str, Any] = {
            "owner": owner,
            "scopes": list(scopes),
            "collections": list(collections),
            "label": label,
            "expires_in_seconds": expires_in_seconds,
            "budget_per_day": budget_per_day,
            "budget_per_month": budget_per_month,
        }
        return await self._record(NewKey, "POST", "/keys", json=given(body))

    async def api_keys(self) -> list[Key]:
        """All keys without their secrets, the oldest first."""
        found = await self._json("GET", "/keys")
        return [self._model(Key, key, "/keys") for key in found.get("keys", [])]

    async def revoke_key(self, key_id: str) -> Key:
        """End a key and its tokens for good. Raises Missing."""
        return await self._record(Key, "DELETE", f"/keys/{quote(key_id, safe='')}")

    async def rotate_key(self, key_id: str, *, overlap_seconds: int = 86400) -> NewKey:
        """Make a key that may do the same (its text: `key`); the old one ends after the overlap."""
        path, body = f"/keys/{quote(key_id, safe='')}/rotate", {"overlap_seconds": overlap_seconds}
        return await self._record(NewKey, "POST", path, json=body)

    async def token(self, file: str | None = None, *, collection: str | None = None) -> Token:
        """A token for URLs of one file (DCC/ID), or of a collection (DCC): `token`, `expires_at`, `url`."""
        body = given({"file": file, "collection": collection})
        return await self._record(Token, "POST", "/tokens", json=body)

    async def revoke_tokens(
        self, file: str | None = None, *, collection: str | None = None, token: str | None = None
    ) -> RevokedTokens:
        """Revoke our own tokens for that, or those that a token is one of."""
        wanted = {"token": token} if token is not None else {"file": file, "collection": collection}
        return await self._record(RevokedTokens, "POST", "/tokens/revoke", json=given(wanted))
