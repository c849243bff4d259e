"""Download tokens: what viewers that can send no headers put into the URL instead of a key.

A token is signed, not stored: it names whose it is, the one file or collection that it opens, and when it
ends. The same caller gets the same token for a while, so that URLs stay as they are and caches keep working.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import astuple, dataclass
from typing import Final

from gooseherd.domain.source import Dcc, LocalId
from gooseherd.domain.visibility import Visibility

PREFIX: Final = "ght_"
_MAC_BYTES: Final = 24
_MOST_CHARACTERS: Final = 1024


@dataclass(frozen=True, slots=True)
class DownloadToken:
    """What a token says, once its signature was found good."""

    subject: str
    """Whose credential it was made by: a key's id, `admin`, or a person of the identity provider."""
    owner: str
    """Whose jobs are theirs; empty where the key says it."""
    dcc: str
    local_id: str
    """Empty: the whole collection."""
    version: int
    """How many times the subject's tokens for this were revoked before."""
    expires_at: int
    """Unix seconds."""
    may_submit: bool
    """Whether a GET may start work."""

    @property
    def resource(self) -> str:
        """The file or collection, in one word."""
        return f"{self.dcc}/{self.local_id}"

    @property
    def visible(self) -> Visibility:
        """What it opens."""
        if self.local_id:
            return Visibility(file=(Dcc(self.dcc), LocalId(self.local_id)))
        return Visibility(collections=frozenset({Dcc(self.dcc)}))


def end_of_window(now: float, seconds: float) -> int:
    """When a token made now ends: after one to two windows, at the same moment for a whole window."""
    return int((now // seconds + 2) * seconds)


def signing_secret(shared: str, admin_key: str) -> bytes:
    """The key of the signature, out of one secret that the store has and one that it has not.

    Whoever reads the store alone, or a copy of it, can sign nothing, nor whoever guesses a weak admin key.
    """
    return hmac.digest(shared.encode(), b"gooseherd download tokens\0" + admin_key.encode(), "sha256")


def sign(token: DownloadToken, secret: bytes) -> str:
    """Its text."""
    payload = json.dumps(astuple(token), separators=(",", ":")).encode()
    return f"{PREFIX}{_encoded(payload)}.{_encoded(_mac(payload, secret))}"


def read(text: str, secret: bytes) -> DownloadToken | None:
    """The token, if the signature is good; None: it is none of ours."""
    if not text.startswith(PREFIX) or len(text) > _MOST_CHARACTERS:
        return None
    payload, _, mac = text.removeprefix(PREFIX).partition(".")
    try:
        signed = _decoded(payload)
        # As texts: of a last character not all bits count when it is decoded.
        if payload != _encoded(signed) or not hmac.compare_digest(mac, _encoded(_mac(signed, secret))):
            return None
        return DownloadToken(*json.loads(signed))
    except (binascii.Error, ValueError, TypeError):
        return None


def _mac(payload: bytes, secret: bytes) -> bytes:
    return hmac.new(secret, payload, hashlib.sha256).digest()[:_MAC_BYTES]


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    raw = text.encode("ascii")
    return base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
