"""Workers, sessions, the service itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from gooseherd.client.models.model import Model


@dataclass(frozen=True, eq=False)
class FleetMember(Model):
    """A worker of the fleet."""

    worker_id: str
    health: str = ""
    job_id: str | None = None
    job_url: str | None = None
    attempt: str | None = None
    launched_for: str | None = None
    warm: bool = False
    started_at: datetime | None = None
    age_seconds: float | None = None
    size: str = ""
    detail: str = ""
    diagnosis: str | None = None


@dataclass(frozen=True, eq=False)
class Fleet(Model):
    """Workers that live, those that `ended` lately, and how many may still be started."""

    slots: int
    workers: tuple[FleetMember, ...] = ()
    ended: tuple[FleetMember, ...] = ()


@dataclass(frozen=True, eq=False)
class Session(Model):
    """A worker that is kept for one requester."""

    session_id: str
    state: str = ""
    owner: str = ""
    size: str = ""
    idle_seconds: float = 0.0
    max_age_seconds: float = 0.0
    created_at: datetime | None = None
    ready_at: datetime | None = None
    idle_since: datetime | None = None
    ended_at: datetime | None = None
    worker_id: str | None = None
    workers_launched: int = 0
    workers_lost: int = 0
    reason: str | None = None
    detail: str = ""
    session_url: str = ""


@dataclass(frozen=True, eq=False)
class Sessions(Model):
    """Sessions, the oldest first."""

    sessions: tuple[Session, ...]


@dataclass(frozen=True, eq=False)
class Health(Model):
    """That the process answers, and which version it is."""

    status: str
    version: str = ""
    build: str = ""


@dataclass(frozen=True, eq=False)
class Readiness(Model):
    """Whether the service and what it depends on are ready."""

    status: str
    dependencies: Mapping[str, str] | None = None
