"""Which job works with which worker; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.job import Job
from gooseherd.domain.ports.fleet import WorkerView
from gooseherd.domain.states import Status

AT_WORK = frozenset({Status.RUNNING, Status.FINALIZING})

Users = Mapping[str, Job]
"""Jobs at work by the name of their worker and by that of their attempt; the two are never alike."""


def attempt_of(job: Job) -> str:
    """The attempt under way, as workers name it."""
    return str(AttemptId(job.job_id, job.attempt))


def users_of(jobs: Iterable[Job]) -> Users:
    """Who uses what, fresh lease or not: a job whose lease ran out may well be alive on its worker."""
    users: dict[str, Job] = {}
    for job in jobs:
        if job.status in AT_WORK:
            users[attempt_of(job)] = job
            if job.worker_id is not None:
                users[job.worker_id] = job
    return users


def user_of(worker: WorkerView, users: Users) -> Job | None:
    """The job that works with it, or the one for whose attempt it was launched or taken."""
    names = (worker.worker_id, worker.attempt, worker.launched_for)
    return next((users[name] for name in names if name is not None and name in users), None)


def last_needed(worker: WorkerView, jobs: Iterable[Job]) -> datetime | None:
    """When the last attempt that had it ended, of those that ended; None: no such attempt here."""
    ends = [
        attempt.ended_at
        for job in jobs
        for attempt in job.attempts
        if attempt.ended_at is not None
        and (
            attempt.worker_id == worker.worker_id
            or str(AttemptId(job.job_id, attempt.number)) in (worker.attempt, worker.launched_for)
        )
    ]
    return max(ends, default=None)
