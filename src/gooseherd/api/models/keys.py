"""API keys and download tokens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gooseherd.api.models.response import ResponseModel
from gooseherd.domain.apikey import ApiKey

ScopeWord = Literal["read", "submit", "admin"]
KeyStateWord = Literal["active", "expired", "revoked"]
_YEARS_SECONDS = 10 * 366 * 86400
_MONTH_SECONDS = 31 * 86400


class KeyRequest(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"owner": "sequencing lab", "scopes": ["read", "submit"], "collections": ["4dn"]}
        },
    )

    owner: str = Field(
        min_length=1, max_length=200, description="Whose jobs, batches and sessions are the key's."
    )
    scopes: list[ScopeWord] = Field(min_length=1, max_length=3)
    collections: list[str] = Field(
        default=[],
        max_length=200,
        description="Collections (dcc) whose consortium and protected files it opens; `*`: all.",
    )
    label: str = Field(default="", max_length=200, description="What it is for.")
    expires_in_seconds: int | None = Field(
        default=None, strict=True, ge=1, le=_YEARS_SECONDS, description="Unset: never."
    )
    budget_per_day: float | None = Field(
        default=None,
        ge=0,
        le=1e9,
        allow_inf_nan=False,
        description="What the owner may use in a day (UTC), in the currency of the price table, instead of "
        "USAGE_BUDGET_PER_DAY; of several keys the largest counts.",
    )
    budget_per_month: float | None = Field(
        default=None, ge=0, le=1e9, allow_inf_nan=False, description="The same for a calendar month."
    )


class RotationRequest(BaseModel):
    """How a key is replaced."""

    model_config = ConfigDict(extra="forbid")

    overlap_seconds: int = Field(
        default=86400,
        strict=True,  # true is no number
        ge=0,
        le=_MONTH_SECONDS,
        description="For so long the old key goes on working.",
    )


class KeyView(ResponseModel):
    """A key, without its secret, which is kept nowhere. Times are UTC."""

    key_id: str = Field(description="The part of the key between its underscores.")
    state: KeyStateWord
    owner: str
    scopes: list[ScopeWord]
    collections: list[str]
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="Right to the hour.")
    budget_per_day: float | None
    budget_per_month: float | None

    @classmethod
    def of(cls, key: ApiKey, now: datetime) -> KeyView:
        """The key as the admin sees it."""
        return cls(
            key_id=key.key_id,
            state=key.state(now),
            owner=key.owner,
            scopes=sorted(scope.value for scope in key.scopes),
            collections=["*"] if key.all_collections else sorted(key.collections),
            label=key.label,
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            last_used_at=key.last_used_at,
            budget_per_day=key.budget_per_day,
            budget_per_month=key.budget_per_month,
        )


class NewKeyView(KeyView):
    """A key that was just made: the only time that its text is shown."""

    key: str


class KeyList(ResponseModel):
    """All keys, the oldest first."""

    keys: list[KeyView]


class CallerView(ResponseModel):
    """What a credential is good for."""

    credential: Literal["none", "admin key", "key", "token", "oidc"]
    owner: str | None = Field(description="Whose jobs are the caller's; null: its address stands for it.")
    scopes: list[ScopeWord]
    collections: list[str] = Field(description="Whose files are seen that are not public; `*`: all.")


class TokenRequest(BaseModel):
    """A file or a collection that a token is to open; one of the two."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"file": "4dn/4dnfi1"}})

    file: str | None = Field(default=None, max_length=400, description="DCC/ID.")
    collection: str | None = Field(default=None, max_length=64, description="DCC.")


class TokenRevocation(TokenRequest):
    """What is revoked: one's own tokens for a file or collection, or those that a token belongs to."""

    token: str | None = Field(default=None, max_length=2000)


class TokenView(ResponseModel):
    """A token; the same for the same caller for hours. `?token=` in the URL of a GET takes it."""

    token: str
    expires_at: datetime
    resource: str = Field(description="DCC/ID of a file, DCC/ of a collection.")
    url: str = Field(description="With the token: the file's data by name, or the collection's list.")

    @classmethod
    def of(cls, token: str, expires_at: int, resource: str, url: str) -> TokenView:
        """As clients see it."""
        return cls(
            token=token, expires_at=datetime.fromtimestamp(expires_at, UTC), resource=resource, url=url
        )


class TokensRevoked(ResponseModel):
    """No token that was made for this, by whoever made it, is good any more."""

    resource: str
