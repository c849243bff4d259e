"""Workers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from gooseherd.api.models.response import Link, ResponseModel
from gooseherd.control.assignments import attempt_of
from gooseherd.domain.job import Job
from gooseherd.domain.ports.fleet import WorkerHealth, WorkerView


class FleetMember(ResponseModel):
    """A worker. `attempt` and `job_id` are those that work with it now."""

    worker_id: str
    health: Literal["starting", "healthy", "unhealthy", "draining", "gone"]
    job_id: str | None
    job_url: str | None
    attempt: str | None = Field(description="JOB.NUMBER")
    launched_for: str | None = Field(description="The attempt it was launched for, if that is known.")
    warm: bool = Field(description="Idle, and kept for the next job by the process that answers.")
    started_at: datetime | None
    age_seconds: float | None
    size: str
    detail: str
    diagnosis: str | None = Field(description="Why it ended.")

    @classmethod
    def of(cls, worker: WorkerView, job: Job | None, link: Link, *, now: datetime) -> FleetMember:
        """The worker as the admin sees it; `job` works with it, `now` is by the store's clock."""
        started = datetime.fromtimestamp(worker.started_at, UTC) if worker.started_at else None
        gone = worker.health is WorkerHealth.GONE
        return cls(
            worker_id=worker.worker_id,
            health=worker.health.value,
            job_id=job.job_id if job else None,
            job_url=link(f"/jobs/{job.job_id}") if job else None,
            attempt=attempt_of(job) if job else worker.attempt,
            launched_for=worker.launched_for,
            warm=worker.warm,
            started_at=started,
            age_seconds=max(0.0, round((now - started).total_seconds(), 1)) if started and not gone else None,
            size=worker.size,
            detail="" if gone else worker.detail,
            diagnosis=worker.detail if gone else None,
        )


class FleetView(ResponseModel):
    """Live workers, the oldest first; then those that ended lately, the newest first."""

    slots: int = Field(ge=0, description="How many more workers could be had now.")
    workers: list[FleetMember]
    ended: list[FleetMember]
