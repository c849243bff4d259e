"""How a job and a catalog entry look as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row

from gooseherd.domain.artifact import Kind, Part
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import ALL, Format, resolve
from gooseherd.domain.job import (
    AttemptEnd,
    AttemptRecord,
    Fence,
    Job,
    JobId,
    Lease,
    Owner,
    Progress,
    Requester,
    Submission,
    WorkerId,
)
from gooseherd.domain.keys import CacheKey, Recipe, WorkflowKey
from gooseherd.domain.queueing import Priority
from gooseherd.domain.source import AccessLevel, Dcc, LocalId, Sidecar, SidecarKind, SourceFile
from gooseherd.domain.states import Status
from gooseherd.domain.worker_size import WorkerResources
from gooseherd.store.sql.columns import from_milliseconds, to_milliseconds

Document = dict[str, Any]

_FORMATS: Final = {known.name: known for known in ALL}


def new_job(submission: Submission, now: datetime, rank: int) -> Document:
    """The row that claims the mutex: pending, active, attempt 0, fence 0."""
    return {
        "id": submission.job_id,
        "workflow_key": submission.workflow_key,
        "active": True,
        "status": Status.PENDING.value,
        "priority": int(submission.priority),
        "rank": rank,
        "queued_for": submission.requester,
        "requesters": [submission.requester],
        "dcc": submission.source.dcc,
        "local_id": submission.source.local_id,
        "public": submission.source.access_level is AccessLevel.PUBLIC,
        "source": submission.source.to_json(),
        "recipe": {
            "processor": submission.recipe.processor,
            "processor_version": submission.recipe.processor_version,
            "source_format": submission.recipe.source_format.name,
            # No column of its own: it is read with its job, and never looked for.
            **({"traceparent": submission.traceparent} if submission.traceparent else {}),
        },
        "created_at": now,
        "enqueued_at": now,
        "updated_at": now,
        "not_before": now,
        "attempt": 0,
        "fence": 0,
        "cancel_requested": False,
        "steps_completed": [],
        "parts": [],
        "percent": 0.0,
        "progress": from_progress(Progress()),
        "attempts": [],
        "detail": "",
    }


def to_job(row: Row[Any]) -> Job:
    """The job that a row of `jobs` holds."""
    return Job(
        job_id=JobId(row.id),
        workflow_key=WorkflowKey(row.workflow_key),
        source=to_file(row.source),
        recipe=_to_recipe(row.recipe),
        status=Status(row.status),
        priority=Priority(row.priority),
        requesters=tuple(Requester(name) for name in row.requesters),
        created_at=row.created_at,
        enqueued_at=row.enqueued_at,
        updated_at=row.updated_at,
        queued_for=Requester(row.queued_for),
        rank=row.rank,
        session_id=row.session_id,
        attempt=row.attempt,
        fence=Fence(row.fence),
        lease=None if row.lease_owner is None else Lease(Owner(row.lease_owner), row.lease_expires_at),
        not_before=None if row.not_before == row.enqueued_at else row.not_before,
        started_at=row.started_at,
        finished_at=row.finished_at,
        cancel_requested=row.cancel_requested,
        steps_completed=tuple(row.steps_completed),
        parts=tuple(map(_to_part, row.parts)),
        progress=Progress(percent=row.percent, **row.progress),
        attempts=tuple(map(to_attempt, row.attempts)),
        reason=None if row.reason is None else Reason(row.reason),
        detail=row.detail,
        manifest_digest=row.manifest_digest,
        traceparent=row.recipe.get("traceparent"),
    )


def to_file(data: Mapping[str, Any]) -> SourceFile:
    """The inverse of `SourceFile.to_json` for what was valid when it was stored: a tenth of `from_json`."""
    return SourceFile(
        dcc=Dcc(data["dcc"]),
        local_id=LocalId(data["local_id"]),
        filename=data["filename"],
        file_format=_format(data["file_format"]),
        access_url=data["access_url"],
        md5=data["md5"],
        sha256=data["sha256"],
        size_in_bytes=data["size_in_bytes"],
        version_tag=data["version_tag"],
        access_level=AccessLevel(data["data_access_level"]),
        status=data["status"],
        sidecars=tuple(
            Sidecar(SidecarKind(sidecar["kind"]), sidecar["access_url"], sidecar["size_in_bytes"])
            for sidecar in data["sidecars"]
        ),
        package=data.get("package"),
    )


def from_progress(progress: Progress) -> Document:
    """All of it but the percentage, which has a column."""
    data = asdict(progress)
    del data["percent"]
    return data


def from_parts(parts: Sequence[Part]) -> list[Document]:
    """Parts as plain data."""
    return [{**asdict(part), "kind": part.kind.value} for part in parts]


def new_attempt(number: int, now: datetime) -> Document:
    """An attempt that has begun and has no worker yet."""
    return {
        "number": number,
        "worker_id": None,
        "started_at": to_milliseconds(now),
        "ended_at": None,
        "reason": None,
        "detail": "",
    }


def open_attempt(attempts: Sequence[Document]) -> Document | None:
    """The attempt under way."""
    return next((attempt for attempt in attempts if attempt["ended_at"] is None), None)


def with_open_attempt(attempts: Sequence[Document], change: Mapping[str, Any]) -> list[Document]:
    """The attempts with that of the one under way changed."""
    current = open_attempt(attempts)
    return [{**attempt, **change} if attempt is current else attempt for attempt in attempts]


def attempt_end(reason: Reason, detail: str, now: datetime, end: AttemptEnd) -> Document:
    """What closes an attempt."""
    return {
        "reason": reason.value,
        "detail": detail,
        "ended_at": to_milliseconds(now),
        "worked_until": None if end.worked_until is None else to_milliseconds(end.worked_until),
        "bytes_in": end.bytes_in,
        "bytes_out": end.bytes_out,
    }


def assignment(
    worker_id: WorkerId,
    dispatched: Mapping[str, Any] | None,
    resources: WorkerResources | None,
    now: datetime,
) -> Document:
    """What an attempt gets with its worker."""
    return {
        "worker_id": worker_id,
        "dispatched": dispatched,
        "assigned_at": to_milliseconds(now),
        "resources": None if resources is None else resources.to_json(),
    }


def _to_recipe(data: Mapping[str, Any]) -> Recipe:
    return Recipe(data["processor"], data["processor_version"], _format(data["source_format"]))


def _format(name: str) -> Format:
    found = _FORMATS.get(name) or resolve(name)
    if found is None:
        raise ValueError(f"the unknown format {name!r} is stored")
    return found


def _to_part(data: Mapping[str, Any]) -> Part:
    return Part(**{**data, "kind": Kind(data["kind"]), "key": CacheKey(data["key"])})


def to_attempt(data: Mapping[str, Any]) -> AttemptRecord:
    """One of the attempts of a job."""
    return AttemptRecord(
        number=data["number"],
        worker_id=None if data["worker_id"] is None else WorkerId(data["worker_id"]),
        started_at=_to_moment(data["started_at"]),
        ended_at=_to_moment(data["ended_at"]),
        reason=None if data["reason"] is None else Reason(data["reason"]),
        detail=data["detail"],
        dispatched=data.get("dispatched"),
        # Attempts of earlier versions have none of these.
        assigned_at=_to_moment(data.get("assigned_at")),
        resources=None if data.get("resources") is None else WorkerResources.from_json(data["resources"]),
        worked_until=_to_moment(data.get("worked_until")),
        bytes_in=data.get("bytes_in", 0),
        bytes_out=data.get("bytes_out", 0),
    )


def _to_moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else from_milliseconds(milliseconds)
