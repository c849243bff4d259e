"""A worker reserved before there is work for it: a slot of the warm floor, or a requester's session.

    reserve           launch             it answers           a reason           its worker is gone
∅ ─────────▶ reserving ───────▶ starting ──────────▶ ready ──────────▶ ending ───────────────▶ ended
                 │                │  ▲                │ │                ▲                       ▲
                 │                │  └── replaced ────┘ └── taken ───────┼───────────────────────┘
                 └────────────────┴──────────────────────────────────────┘

The reason is written with the state `ending` (or `ended`), and no later write changes it: each write demands
the version that its writer has seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, NewType

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.job import JobId, Requester, WorkerId

ReservationId = NewType("ReservationId", str)

KEEP_SECONDS: Final = 600.0
"""A reserved worker that no API process has spoken to for so long ends itself."""


class Purpose(StrEnum):
    """What a worker is reserved for."""

    FLOOR = "floor"
    """Whoever's small file comes next."""
    SESSION = "session"
    """The jobs of one requester."""


class ReservationState(StrEnum):
    """Where a reservation stands; on the wire too."""

    RESERVING = "reserving"
    STARTING = "starting"
    READY = "ready"
    ENDING = "ending"
    """It takes no more work; what is in flight goes on, then the worker is stopped."""
    ENDED = "ended"


class EndReason(StrEnum):
    """Why a reservation ended. Closed: metrics and clients rely on the list."""

    IDLE_TIMEOUT = "idle_timeout"
    EXPLICIT = "explicit"
    WORKER_UNHEALTHY = "worker_unhealthy"
    LAUNCH_FAILED = "launch_failed"
    RECONCILE_STALE = "reconcile_stale"
    """Too old, or nobody looks after it."""
    WORKER_MISSING = "worker_missing"
    TAKEN = "taken"
    """Of the floor: a job has the worker now."""
    SURPLUS = "surplus"
    """Of the floor: fewer are wanted."""


EDGES: Final[frozenset[tuple[ReservationState, ReservationState]]] = frozenset(
    {
        (ReservationState.RESERVING, ReservationState.STARTING),
        (ReservationState.RESERVING, ReservationState.ENDING),
        (ReservationState.STARTING, ReservationState.STARTING),
        (ReservationState.STARTING, ReservationState.READY),
        (ReservationState.STARTING, ReservationState.ENDING),
        (ReservationState.READY, ReservationState.STARTING),
        (ReservationState.READY, ReservationState.ENDING),
        (ReservationState.READY, ReservationState.ENDED),
        (ReservationState.ENDING, ReservationState.ENDED),
    }
)
"""→starting from there or later replaces the worker; ready→ended hands it over to a job."""


class ReservedSize(StrEnum):
    """How large the worker is; which vCPUs and memory that means is the fleet's to say."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation as the store has it. Times are UTC, by the store's clock."""

    reservation_id: ReservationId
    purpose: Purpose
    owner: Requester
    """Whose session; of the floor the name of the slot. At most one live reservation each."""
    slot: int
    """Which of as many as may live at a time."""
    state: ReservationState
    build: str
    """Of the API process that reserved, and so of the worker."""
    deployed_at: datetime
    """When that process started: of two builds the one that started later is the newer deployment."""
    created_at: datetime
    changed_at: datetime
    version: int = 1
    """Grows with each write."""
    size: ReservedSize = ReservedSize.SMALL
    idle_seconds: float = 0.0
    """How long it may have nothing in flight; 0: any time."""
    max_age_seconds: float = 0.0
    """0: any age."""
    launches: int = 0
    """Workers asked for so far, those that replace others included."""
    lost: int = 0
    """Workers that ended by themselves."""
    worker_id: WorkerId | None = None
    address: str = ""
    """Of that worker, host:port."""
    kept_at: datetime | None = None
    """When its launch was last seen under way, or its worker last answered."""
    ready_at: datetime | None = None
    idle_since: datetime | None = None
    """Since when nothing is in flight; None: something is."""
    ended_at: datetime | None = None
    reason: EndReason | None = None
    detail: str = ""

    @property
    def live(self) -> bool:
        """It holds its owner and its slot."""
        return self.state is not ReservationState.ENDED

    @property
    def launch(self) -> AttemptId:
        """The name under which its worker was launched last, in place of an attempt's."""
        return AttemptId(JobId(f"{self.purpose}-{self.reservation_id}"), self.launches)

    @property
    def names(self) -> frozenset[str]:
        """The names by which its worker may be known."""
        return frozenset({str(self.launch), *([self.worker_id] if self.worker_id else ())})

    def to(self, state: ReservationState, **fields: object) -> Reservation:
        """It in another state, with other fields.

        Raises:
            ValueError: there is no such edge.
        """
        if (self.state, state) not in EDGES:
            raise ValueError(f"a reservation does not go from {self.state} to {state}")
        return replace(self, state=state, **fields)  # type: ignore[arg-type]
