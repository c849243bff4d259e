"""Keys and tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from gooseherd.client.models.model import Model


@dataclass(frozen=True, eq=False)
class Caller(Model):
    """Who we are to the service."""

    credential: str
    owner: str | None = None
    scopes: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Key(Model):
    """A key without its secret."""

    key_id: str
    state: str = ""
    owner: str = ""
    scopes: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    label: str = ""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    budget_per_day: float | None = None
    budget_per_month: float | None = None


@dataclass(frozen=True, eq=False)
class NewKey(Key):
    """A key that was just made: `key` is its text, which cannot be had again."""

    key: str = field(default="", repr=False)


@dataclass(frozen=True, eq=False)
class Token(Model):
    """For URLs of a file or a collection. `url` has the token in it."""

    token: str = field(repr=False)
    resource: str = ""
    expires_at: datetime | None = None
    url: str = field(default="", repr=False)


@dataclass(frozen=True, eq=False)
class RevokedTokens(Model):
    """What the tokens were for."""

    resource: str
