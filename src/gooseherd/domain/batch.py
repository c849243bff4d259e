"""A batch: many files asked for as one thing, and what became of each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NewType

from gooseherd.domain.failures import Reason
from gooseherd.domain.job import JobId, Owner, Requester
from gooseherd.domain.source import Dcc, LocalId
from gooseherd.domain.states import Status
from gooseherd.domain.visibility import PUBLIC_ONLY, Visibility

BatchId = NewType("BatchId", str)

MOST_FILES: Final = 10_000
"""Of one batch."""
MOST_FILES_WITHOUT_KEY: Final = 50


class MemberState(StrEnum):
    """Where one file of a batch stands; lowercase on the wire."""

    WAITING = "waiting"
    """It has no job yet: a batch puts only so many of a requester's jobs into the queue at a time."""
    PENDING = "pending"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Nothing changes any more."""
        return self in ENDED


IN_FLIGHT: Final = frozenset({MemberState.PENDING, MemberState.RUNNING})
"""A job is on it."""
ENDED: Final = frozenset({MemberState.READY, MemberState.FAILED, MemberState.CANCELLED})


class BatchStatus(StrEnum):
    """Where a batch stands; lowercase on the wire."""

    ACTIVE = "active"
    COMPLETED = "completed"
    """Every file is ready."""
    PARTIAL = "partial"
    """All have ended, some of them not ready."""
    FAILED = "failed"
    """All have ended, none is ready."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a batch. `number` counts from 0 in the order of asking."""

    number: int
    dcc: Dcc
    local_id: LocalId
    state: MemberState = MemberState.WAITING
    job_id: JobId | None = None
    reason: Reason | None = None
    """Why it is not ready; None while it may become so."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MemberChange:
    """What became of a member that was in the state `seen`."""

    number: int
    seen: MemberState
    state: MemberState
    job_id: JobId | None = None
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """All it takes to store a batch. `files` has each name once."""

    batch_id: BatchId
    requester: Requester
    files: tuple[tuple[Dcc, LocalId], ...]
    request_digest: str
    """Of what was asked for: the same idempotency key with another one is refused."""
    idempotency_key: str | None = None
    retry: bool = False
    """Ask for new jobs where the last one failed a moment ago."""
    visible: Visibility = PUBLIC_ONLY
    """What its requester could see when it was asked for."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the store has it. Times are UTC, by the store's clock."""

    batch_id: BatchId
    requester: Requester
    total: int
    created_at: datetime
    counts: Mapping[MemberState, int]
    """Members by state; a state without members may be missing."""
    retry: bool = False
    cancel_requested: bool = False
    ended_at: datetime | None = None
    held_by: Owner | None = None
    held_until: datetime | None = None
    """Until then that process submits its files, and no other does."""
    visible: Visibility = PUBLIC_ONLY
    """What its requester could see when it was asked for: other files are not there for it."""

    def count(self, *states: MemberState) -> int:
        """How many members are in one of these states."""
        return sum(self.counts.get(state, 0) for state in states)

    @property
    def open(self) -> bool:
        """Some member has not ended."""
        return self.count(*ENDED) < self.total

    @property
    def status(self) -> BatchStatus:
        """One word for the counts."""
        if self.open:
            return BatchStatus.ACTIVE
        if self.count(MemberState.READY) == self.total:
            return BatchStatus.COMPLETED
        if self.cancel_requested:
            return BatchStatus.CANCELLED
        return BatchStatus.PARTIAL if self.count(MemberState.READY) else BatchStatus.FAILED

    @property
    def percent(self) -> float:
        """Of the files that have ended."""
        return 100.0 * self.count(*ENDED) / self.total if self.total else 100.0


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a member's job stands; `status` None: there is no such job any more."""

    status: Status | None
    reason: Reason | None = None
    detail: str = ""


def member_change(member: Member, outcome: JobOutcome) -> MemberChange | None:
    """What a member in flight becomes when its job stands so; None: it stays.

    A job that waited too long in the queue, or whose record is gone, is asked for again.
    """

    def becomes(state: MemberState, reason: Reason | None = None) -> MemberChange | None:
        if state is member.state:
            return None
        job_id = None if state is MemberState.WAITING else member.job_id
        return MemberChange(
            member.number, member.state, state, job_id, reason, outcome.detail if reason else ""
        )

    match outcome.status:
        case Status.PENDING:
            return becomes(MemberState.PENDING)
        case Status.RUNNING | Status.FINALIZING:
            return becomes(MemberState.RUNNING)
        case Status.COMPLETED:
            return becomes(MemberState.READY)
        case Status.CANCELLED:
            return becomes(MemberState.CANCELLED, outcome.reason or Reason.CANCELLED)
        case Status.FAILED if outcome.reason is not Reason.QUEUE_EXPIRED:
            return becomes(MemberState.FAILED, outcome.reason or Reason.TOOL_FAILED)
        case _:
            return becomes(MemberState.WAITING)
