"""How a reservation looks in every store: what is asked for has a field, the rest is one document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gooseherd.domain.job import Requester, WorkerId
from gooseherd.domain.reservation import (
    EndReason,
    Purpose,
    Reservation,
    ReservationId,
    ReservationState,
    ReservedSize,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def details_of(reservation: Reservation) -> dict[str, Any]:
    """What has no field of its own, as plain data."""
    return {
        "build": reservation.build,
        "deployed_at": _from_moment(reservation.deployed_at),
        "size": reservation.size.value,
        "idle_seconds": reservation.idle_seconds,
        "max_age_seconds": reservation.max_age_seconds,
        "launches": reservation.launches,
        "lost": reservation.lost,
        "worker_id": reservation.worker_id,
        "address": reservation.address,
        "kept_at": _from_moment(reservation.kept_at),
        "ready_at": _from_moment(reservation.ready_at),
        "idle_since": _from_moment(reservation.idle_since),
        "reason": None if reservation.reason is None else reservation.reason.value,
        "detail": reservation.detail,
    }


def reservation_from(fields: Mapping[str, Any]) -> Reservation:
    """The inverse, from all fields; the document is under `details`, times are datetimes."""
    details = fields["details"]
    deployed_at = _to_moment(details["deployed_at"])
    return Reservation(
        reservation_id=ReservationId(fields["id"]),
        purpose=Purpose(fields["purpose"]),
        owner=Requester(fields["owner"]),
        slot=fields["slot"],
        state=ReservationState(fields["state"]),
        build=details["build"],
        deployed_at=fields["created_at"] if deployed_at is None else deployed_at,
        created_at=fields["created_at"],
        changed_at=fields["changed_at"],
        version=fields["version"],
        size=ReservedSize(details["size"]),
        idle_seconds=details["idle_seconds"],
        max_age_seconds=details["max_age_seconds"],
        launches=details["launches"],
        lost=details["lost"],
        worker_id=None if details["worker_id"] is None else WorkerId(details["worker_id"]),
        address=details["address"],
        kept_at=_to_moment(details["kept_at"]),
        ready_at=_to_moment(details["ready_at"]),
        idle_since=_to_moment(details["idle_since"]),
        ended_at=fields["ended_at"],
        reason=None if details["reason"] is None else EndReason(details["reason"]),
        detail=details["detail"],
    )


def _from_moment(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // _MILLISECOND


def _to_moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)
