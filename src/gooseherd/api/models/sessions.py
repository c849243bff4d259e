"""Sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gooseherd.api.models.response import Link, ResponseModel
from gooseherd.domain.reservation import Reservation

SessionStateWord = Literal["reserving", "starting", "ready", "ending", "ended"]
SizeWord = Literal["small", "medium", "large"]
EndWord = Literal[
    "idle_timeout", "explicit", "worker_unhealthy", "launch_failed", "reconcile_stale", "worker_missing"
]

_DAY_SECONDS = 86400.0


class SessionRequest(BaseModel):
    """A worker to be kept for somebody."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"size": "medium"}})

    owner: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Whose jobs run on it, as GET /jobs shows requesters: an address, admin. Unset: yours.",
    )
    size: SizeWord = Field(
        default="small", description="On ECS 1, 2 or 4 vCPU; a worker on this machine has no size."
    )
    idle_seconds: float | None = Field(
        default=None,
        strict=True,
        ge=1,
        le=_DAY_SECONDS,
        description="It ends when nothing was in flight for so long. Unset: as the service is set up.",
    )
    max_age_seconds: float = Field(
        default=_DAY_SECONDS, strict=True, ge=1, le=_DAY_SECONDS, description="It ends when it is so old."
    )


class DispatchRequest(BaseModel):
    """A file for a session."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"file": "4dn/4dnfi1"}})

    file: str = Field(max_length=400, description="DCC/ID.")


class SessionView(ResponseModel):
    """A session as the admin sees it. Times are UTC, by the store's clock."""

    session_id: str
    state: SessionStateWord
    owner: str
    size: SizeWord
    idle_seconds: float
    max_age_seconds: float
    created_at: datetime
    ready_at: datetime | None = Field(description="When its worker answered; of a replaced one the newest.")
    idle_since: datetime | None = Field(description="Since when nothing is in flight; null: something is.")
    ended_at: datetime | None
    worker_id: str | None
    workers_launched: int = Field(description="The first one, and those that replaced others.")
    workers_lost: int = Field(description="Workers that ended by themselves; of two the session ends.")
    reason: EndWord | None = Field(description="Why it ends; the first reason stands.")
    detail: str
    session_url: str

    @classmethod
    def of(cls, session: Reservation, link: Link) -> SessionView:
        """The session as it is stored."""
        return cls.model_validate(
            {
                "session_id": session.reservation_id,
                "state": session.state.value,
                "owner": session.owner,
                "size": session.size.value,
                "idle_seconds": session.idle_seconds,
                "max_age_seconds": session.max_age_seconds,
                "created_at": session.created_at,
                "ready_at": session.ready_at,
                "idle_since": session.idle_since,
                "ended_at": session.ended_at,
                "worker_id": session.worker_id,
                "workers_launched": session.launches,
                "workers_lost": session.lost,
                "reason": None if session.reason is None else session.reason.value,
                "detail": session.detail,
                "session_url": link(f"/sessions/{session.reservation_id}"),
            }
        )


class SessionList(ResponseModel):
    """Sessions, the oldest first."""

    sessions: list[SessionView]
