"""The calls about keys and tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from gooseherd.client.batches import BatchCalls
from gooseherd.client.calls import Record


class AccessCalls(BatchCalls):
    """The calls under /keys, /tokens and /caller. Keys are made and ended by the admin."""

    def caller(self) -> Record:
        """Who we are to the service: `credential`, `owner`, `scopes`, `collections`."""
        return self._json("GET", "/caller")

    def create_key(
        self,
        owner: str,
        *,
        scopes: Iterable[str] = ("read", "submit"),
        collections: Iterable[str] = (),
        label: str = "",
        expires_in_seconds: int | None = None,
    ) -> Record:
        """Make a key. Its text is the member `key`, which cannot be had again."""
        body: dict[str, Any] = {
            "owner": owner,
            "scopes": list(scopes),
            "collections": list(collections),
            "label": label,
        }
        if expires_in_seconds is not None:
            body["expires_in_seconds"] = expires_in_seconds
        return self._json("POST", "/keys", json=body)

    def api_keys(self) -> list[Record]:
        """All keys without their secrets, the oldest first."""
        found: list[Record] = self._json("GET", "/keys")["keys"]
        return found

    def revoke_key(self, key_id: str) -> Record:
        """End a key and its tokens for good. Raises Missing."""
        return self._json("DELETE", f"/keys/{quote(key_id, safe='')}")

    def rotate_key(self, key_id: str, *, overlap_seconds: int = 86400) -> Record:
        """Make a key that may do the same (its text: `key`); the old one ends after the overlap."""
        body = {"overlap_seconds": overlap_seconds}
        return self._json("POST", f"/keys/{quote(key_id, safe='')}/rotate", json=body)

    def token(self, file: str | None = None, *, collection: str | None = None) -> Record:
        """A token for URLs of one file (DCC/ID), or of a collection (DCC): `token`, `expires_at`, `url`."""
        return self._json("POST", "/tokens", json=_resource(file, collection))

    def revoke_tokens(
        self, file: str | None = None, *, collection: str | None = None, token: str | None = None
    ) -> Record:
        """Revoke our own tokens for that, or those that a token is one of."""
        wanted = {"token": token} if token is not None else _resource(file, collection)
        return self._json("POST", "/tokens/revoke", json=wanted)


def _resource(file: str | None, collection: str | None) -> dict[str, str]:
    given = {"file": file, "collection": collection}
    return {name: value for name, value in given.items() if value is not None}
