"""How long things may take, and what an attempt may use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gooseherd.domain.attempt import AttemptId, AttemptLimits, AttemptSpec
from gooseherd.domain.job import Job
from gooseherd.domain.traceparent import of_attempt


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take. `lease` is also the time after which a silent holder is replaced."""

    lease: timedelta
    heartbeat: timedelta
    attempt_cap: timedelta
    silence: timedelta
    """A worker that sends nothing for this long is lost."""
    backoff_scale: float = 1.0
    """Shortens the waits between attempts in tests."""


@dataclass(frozen=True, slots=True)
class AttemptBounds:
    """What an attempt may use, in bytes, and the build it must come from."""

    source_bytes: int
    scratch_bytes: int
    build: str


def attempt_spec(job: Job, timing: Timing, bounds: AttemptBounds) -> AttemptSpec:
    """What the worker of the job's attempt under way is sent."""
    return AttemptSpec(
        attempt=AttemptId(job.job_id, job.attempt),
        source=job.source,
        recipe=job.recipe,
        limits=AttemptLimits(
            source_bytes=bounds.source_bytes,
            scratch_bytes=bounds.scratch_bytes,
            wall_seconds=timing.attempt_cap.total_seconds(),
        ),
        build=bounds.build,
        traceparent=attempt_traceparent(job),
    )


def attempt_traceparent(job: Job) -> str | None:
    """The span of the job's attempt under way; None: the job is not traced."""
    if job.traceparent is None:
        return None
    return of_attempt(job.traceparent, str(AttemptId(job.job_id, job.attempt)))


def archived(job: Job, timing: Timing, bounds: AttemptBounds) -> dict[str, Any]:
    """What of that is kept with the attempt; the rest is the job's own."""
    sent = attempt_spec(job, timing, bounds).to_json()
    return {"build": sent["build"], "limits": sent["limits"], "session_id": job.session_id}
