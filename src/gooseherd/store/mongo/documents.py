"""How a job and a catalog entry look as documents: BSON dates, enums as wire words, priority as its number.

A `jobs` document has the job's id as `_id`, so its uniqueness is the collection's own.
Beside the fields of `Job` it keeps:

- `active`: true while the job holds its workflow key; what the mutex index looks at.
- `asked_by`: everybody who ever asked; `requesters` shrinks when somebody withdraws.
- `lease.token`: random, so that a writer whose answer got lost knows its own lease again.
- `running_slot`: which of the running limit's slots a leased job has; `holds_slot` tells whether it has one.
- `holds_permit`: it is leased for the session that `session_id` names.
- `not_before`: never missing; equal to `enqueued_at` it means "at once".
- `usage_due`: an attempt has ended whose usage is not among the rows of `usage` yet (store/mongo/usage.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from gooseherd.domain.artifact import Kind, Part
from gooseherd.domain.failures import Reason
from gooseherd.domain.formats import resolve
from gooseherd.domain.job import (
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
from gooseherd.domain.source import AccessLevel, SourceFile
from gooseherd.domain.states import Status
from gooseherd.domain.visibility import Visibility
from gooseherd.domain.worker_size import WorkerResources
from gooseherd.store.mongo.connect import Document


def new_job(submission: Submission, now: datetime, rank: int) -> Document:
    """The document that claims the mutex: pending, active, attempt 0, fence 0."""
    return {
        "_id": submission.job_id,
        "workflow_key": submission.workflow_key,
        "active": True,
        "status": Status.PENDING.value,
        "priority": int(submission.priority),
        "rank": rank,
        "queued_for": submission.requester,
        "running_slot": None,
        "holds_slot": False,
        "session_id": None,
        "holds_permit": False,
        "requesters": [submission.requester],
        "asked_by": [submission.requester],
        "source": submission.source.to_json(),
        "recipe": _from_recipe(submission.recipe),
        "created_at": now,
        "enqueued_at": now,
        "updated_at": now,
        "not_before": now,
        "started_at": None,
        "finished_at": None,
        "attempt": 0,
        "fence": 0,
        "lease": None,
        "cancel_requested": False,
        "steps_completed": [],
        "parts": [],
        "progress": asdict(Progress()),
        "attempts": [],
        "reason": None,
        "detail": "",
        "manifest_digest": None,
        **({"traceparent": submission.traceparent} if submission.traceparent else {}),
    }


def new_attempt(number: int, now: datetime) -> Document:
    """An attempt that has begun and has no worker yet."""
    return {
        "number": number,
        "worker_id": None,
        "started_at": now,
        "ended_at": None,
        "reason": None,
        "detail": "",
    }


def to_job(document: Mapping[str, Any]) -> Job:
    """The job a document says."""
    not_before = document["not_before"]
    return Job(
        job_id=JobId(document["_id"]),
        workflow_key=WorkflowKey(document["workflow_key"]),
        source=SourceFile.from_json(document["source"]),
        recipe=_to_recipe(document["recipe"]),
        status=Status(document["status"]),
        priority=Priority(document["priority"]),
        requesters=tuple(Requester(name) for name in document["requesters"]),
        created_at=document["created_at"],
        enqueued_at=document["enqueued_at"],
        updated_at=document["updated_at"],
        # Jobs of earlier versions have neither.
        queued_for=Requester(document.get("queued_for", "")),
        rank=document.get("rank", 0),
        session_id=document.get("session_id"),
        attempt=document["attempt"],
        fence=Fence(document["fence"]),
        lease=_to_lease(document["lease"]),
        not_before=None if not_before == document["enqueued_at"] else not_before,
        started_at=document["started_at"],
        finished_at=document["finished_at"],
        cancel_requested=document["cancel_requested"],
        steps_completed=tuple(document["steps_completed"]),
        parts=tuple(to_part(part) for part in document["parts"]),
        progress=Progress(**document["progress"]),
        attempts=tuple(to_attempt(attempt) for attempt in document["attempts"]),
        reason=_to_reason(document["reason"]),
        detail=document["detail"],
        manifest_digest=document["manifest_digest"],
        traceparent=document.get("traceparent"),
    )


def from_parts(parts: Sequence[Part]) -> list[Document]:
    """Parts as plain data."""
    return [{**asdict(part), "kind": part.kind.value} for part in parts]


def to_part(data: Mapping[str, Any]) -> Part:
    """The inverse of `from_parts`, for one."""
    return Part(**{**data, "kind": Kind(data["kind"]), "key": CacheKey(data["key"])})


def from_file(entry: SourceFile) -> Document:
    """A catalog entry. Its `_id` sorts as (dcc, local_id) does: a space sorts before all a dcc may hold."""
    return {
        "_id": file_id(entry.dcc, entry.local_id),
        **entry.to_json(),
        "words": search_words(entry),
        "identity": str(entry.identity),
        "of_package": entry.package is not None,
    }


def file_id(dcc: str, local_id: str) -> str:
    """The `_id` of a catalog entry."""
    return f"{dcc} {local_id}"


def only_visible(visible: Visibility, below: str = "") -> Document:
    """A filter of entries that are seen; `below`: where in a document the entry is."""
    if visible.everything:
        return {}
    public = {f"{below}data_access_level": AccessLevel.PUBLIC.value}
    others: list[Document] = []
    if visible.collections:
        others.append({f"{below}dcc": {"$in": sorted(visible.collections)}})
    if visible.file is not None:
        others.append({f"{below}dcc": visible.file[0], f"{below}local_id": visible.file[1]})
    return {"$or": [public, *others]} if others else public


_WORD = re.compile(r"[^\W_]+")


def search_words(entry: SourceFile) -> list[str]:
    """What a search prefix may match: the rest of local_id and filename from each word on, lowercase.

    >>> sorted(_tails("Sample_01.bam"))
    ['01.bam', 'bam', 'sample_01.bam']
    """
    return sorted(_tails(entry.local_id) | _tails(entry.filename))


def _tails(text: str) -> set[str]:
    word = text.lower()
    return {word[found.start() :] for found in _WORD.finditer(word)} | {word}


def _from_recipe(recipe: Recipe) -> Document:
    return {
        "processor": recipe.processor,
        "processor_version": recipe.processor_version,
        "source_format": recipe.source_format.name,
    }


def _to_recipe(data: Mapping[str, Any]) -> Recipe:
    source_format = resolve(data["source_format"])
    if source_format is None:
        raise ValueError(f"a stored job has the unknown format {data['source_format']!r}")
    return Recipe(data["processor"], data["processor_version"], source_format)


def _to_lease(data: Mapping[str, Any] | None) -> Lease | None:
    if data is None or data["owner"] is None:
        return None
    return Lease(Owner(data["owner"]), data["expires_at"])


def _to_reason(word: str | None) -> Reason | None:
    return None if word is None else Reason(word)


def to_attempt(data: Mapping[str, Any]) -> AttemptRecord:
    """One of the attempts of a job."""
    return AttemptRecord(
        number=data["number"],
        worker_id=None if data["worker_id"] is None else WorkerId(data["worker_id"]),
        started_at=data["started_at"],
        ended_at=data["ended_at"],
        reason=_to_reason(data["reason"]),
        detail=data["detail"],
        dispatched=data.get("dispatched"),
        # Attempts of earlier versions have none of these.
        assigned_at=data.get("assigned_at"),
        resources=None if data.get("resources") is None else WorkerResources.from_json(data["resources"]),
        worked_until=data.get("worked_until"),
        bytes_in=data.get("bytes_in", 0),
        bytes_out=data.get("bytes_out", 0),
    )
