"""Every write that changes a job and what its filter demands: the table that adapters are checked against.

`leased` is running or finalizing. A fenced write demands the fence that the caller knows; for
`lease`, `adopt` and `shorten lease` that is the fence the caller has seen.

| edge | statuses | fenced | lease | status after |
| --- | --- | --- | --- | --- |
| attach | pending, leased | no | any | same |
| lease | pending, and due | yes | any | running, fence + 1 |
| adopt | leased | yes | over | same, fence + 1 |
| renew | leased | yes | held | same |
| shorten lease | running | yes | fresh | same |
| assign worker | running | yes | any | same |
| progress | leased | yes | any | same |
| step complete | leased | yes | any | same |
| begin finalize | running | yes | any | finalizing |
| finalize | finalizing | yes | any | completed |
| fail | leased | yes | any | failed |
| cancel | running, and unwanted | yes | any | cancelled |
| requeue | leased | yes | any | pending |
| withdraw | pending, running | no | any | same |
| cancel pending | pending | no | any | cancelled |
| expire | pending | no | any | failed |
| hand over | leased | no | held | same |

The insert of a job (∅→pending) has no filter: the unique index on the workflow key of active
jobs refuses a second one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from gooseherd.domain.states import ACTIVE, Status


class LeaseState(Enum):
    """What a write demands of the job's lease, by the store's clock."""

    ANY = "any"
    HELD = "held"
    """It has an owner, expired or not."""
    FRESH = "fresh"
    """It has an owner and has not expired."""
    OVER = "over"
    """It has expired or was handed over."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One row of the table. `target` None: the status stays."""

    name: str
    sources: frozenset[Status]
    target: Status | None = None
    fenced: bool = True
    lease: LeaseState = LeaseState.ANY
    due: bool = False
    """The job's time must have come."""
    unwanted: bool = False
    """Its cancellation must have been asked for, and not taken back."""
    new_fence: bool = False
    """The caller becomes the holder: the fence grows by one."""


LEASED: Final = frozenset({Status.RUNNING, Status.FINALIZING})
"""States in which somebody should be at work."""

_PENDING: Final = frozenset({Status.PENDING})
_RUNNING: Final = frozenset({Status.RUNNING})

ATTACH: Final = Edge("attach", ACTIVE, fenced=False)
LEASE: Final = Edge("lease", _PENDING, Status.RUNNING, due=True, new_fence=True)
ADOPT: Final = Edge("adopt", LEASED, lease=LeaseState.OVER, new_fence=True)
RENEW: Final = Edge("renew", LEASED, lease=LeaseState.HELD)
SHORTEN_LEASE: Final = Edge("shorten lease", _RUNNING, lease=LeaseState.FRESH)
ASSIGN_WORKER: Final = Edge("assign worker", _RUNNING)
PROGRESS: Final = Edge("progress", LEASED)
STEP_COMPLETE: Final = Edge("step complete", LEASED)
BEGIN_FINALIZE: Final = Edge("begin finalize", _RUNNING, Status.FINALIZING)
FINALIZE: Final = Edge("finalize", frozenset({Status.FINALIZING}), Status.COMPLETED)
FAIL: Final = Edge("fail", LEASED, Status.FAILED)
CANCEL: Final = Edge("cancel", _RUNNING, Status.CANCELLED, unwanted=True)
REQUEUE: Final = Edge("requeue", LEASED, Status.PENDING)
WITHDRAW: Final = Edge("withdraw", _PENDING | _RUNNING, fenced=False)
CANCEL_PENDING: Final = Edge("cancel pending", _PENDING, Status.CANCELLED, fenced=False)
EXPIRE: Final = Edge("expire", _PENDING, Status.FAILED, fenced=False)
HAND_OVER: Final = Edge("hand over", LEASED, fenced=False, lease=LeaseState.HELD)

ALL: Final[tuple[Edge, ...]] = (
    ATTACH, LEASE, ADOPT, RENEW, SHORTEN_LEASE, ASSIGN_WORKER, PROGRESS, STEP_COMPLETE, BEGIN_FINALIZE,
    FINALIZE, FAIL, CANCEL, REQUEUE, WITHDRAW, CANCEL_PENDING, EXPIRE, HAND_OVER,
)  # fmt: skip
