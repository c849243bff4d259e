"""The life of a job: five edges' worth of states, and no edge that is not in the table.

    submit            lease               all parts published       manifest verified
∅ ──────────▶ pending ──────▶ running ──────────────────▶ finalizing ──────────────▶ completed
                ▲ │             │ │ ▲ adopt (same state, new fence)  │ │
                │ │   requeue   │ │                        requeue   │ │
                └─┼─────────────┘─┼──────────────────────────────────┘ │
                  │               └──────────────▶ failed ◀────────────┘
                  └─▶ cancelled ◀─ running (never from finalizing)
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where a job stands; lowercase on the wire. `pending` means waiting in the queue."""

    PENDING = "pending"
    RUNNING = "running"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Terminal is terminal: nothing leads out of it."""
        return self in TERMINAL


ACTIVE: Final = frozenset({Status.PENDING, Status.RUNNING, Status.FINALIZING})
TERMINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

EDGES: Final[frozenset[tuple[Status, Status]]] = frozenset(
    {
        (Status.PENDING, Status.RUNNING),
        (Status.RUNNING, Status.RUNNING),
        (Status.RUNNING, Status.FINALIZING),
        (Status.FINALIZING, Status.FINALIZING),
        (Status.FINALIZING, Status.COMPLETED),
        (Status.RUNNING, Status.PENDING),
        (Status.FINALIZING, Status.PENDING),
        (Status.PENDING, Status.FAILED),
        (Status.RUNNING, Status.FAILED),
        (Status.FINALIZING, Status.FAILED),
        (Status.PENDING, Status.CANCELLED),
        (Status.RUNNING, Status.CANCELLED),
    }
)
"""Same-state edges are adoptions: the fence grows, the attempt stays."""


def may(source: Status, target: Status) -> bool:
    """Whether the table has this edge."""
    return (source, target) in EDGES
