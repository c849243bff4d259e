"""The one kind of write that changes a job somebody holds: conditional on the fence and the status."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from gooseherd.domain.errors import LeaseLost
from gooseherd.domain.job import Fence, Job, JobId
from gooseherd.domain.states import Status
from gooseherd.store.edges import Edge
from gooseherd.store.mongo.connect import Document
from gooseherd.store.mongo.documents import to_job
from gooseherd.store.mongo.reading import JobReads, any_of

_log = logging.getLogger(__name__)

OPEN_ATTEMPT: Final[Mapping[str, Any]] = {"attempts": {"$elemMatch": {"ended_at": None}}}
"""Matches while an attempt is under way, and makes `attempts.$` its record."""


NOT_HELD: Final[Mapping[str, Any]] = {
    "lease": None,
    "running_slot": None,
    "holds_slot": False,
    "holds_permit": False,
}
"""What a job without a holder has."""


class FencedWrites(JobReads):
    """What the writers of leases and of ends share."""

    async def _fenced(
        self,
        edge: Edge,
        job_id: JobId,
        fence: Fence,
        update: Document,
        also: Mapping[str, Any] | None = None,
    ) -> bool:
        """Whether the job was as the edge and `also` demand, and was changed."""
        wanted = {"_id": job_id, "fence": fence, "status": any_of(edge.sources), **(also or {})}
        if edge.unwanted:
            wanted["cancel_requested"] = True
        return (await self._jobs.update_one(wanted, update)).matched_count == 1

    def _ended(self, status: Status, now: datetime) -> Document:
        """Fields of a job that has just ended: it holds neither the mutex nor a lease, and goes some day."""
        return {
            "status": status.value,
            "active": False,
            "finished_at": now,
            "updated_at": now,
            "expires_at": None if self._keep_ended is None else now + self._keep_ended,
            **NOT_HELD,
        }

    async def _same(self, job_id: JobId, fence: Fence, operation: str, already: Callable[[Job], bool]) -> Job:
        """The job, if what stands in the way of the write is the write itself."""
        job = await self._load(job_id)
        if job is None or job.fence != fence or not already(job):
            raise lost(job_id, fence, operation)
        return job

    async def _load(self, job_id: JobId) -> Job | None:
        document = await self._jobs.find_one({"_id": job_id})
        return to_job(document) if document else None


def lost(job_id: JobId, fence: Fence, operation: str) -> LeaseLost:
    """The error of a write that came too late, which is logged."""
    _log.warning("late write refused", extra={"job_id": job_id, "fence": fence, "operation": operation})
    return LeaseLost(job_id, fence)
