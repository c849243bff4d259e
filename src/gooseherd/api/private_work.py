"""Jobs and batches on files that not everybody may see: who sees them, and what of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gooseherd.api.request_context import RequestContext
from gooseherd.domain.batch import Batch
from gooseherd.domain.caller import Caller, Credential
from gooseherd.domain.job import Job
from gooseherd.domain.source import Dcc, LocalId

_HIDDEN: Final = "hidden"
"""Stands for the names of a file that the caller may not see."""


def sees_job(context: RequestContext, job: Job) -> bool:
    """Whether the job is one for the caller: on a file they see, or on content that they asked for.

    The content of a public entry may be that of a hidden one too. They have one job between them, and
    whoever asks for the public one follows it, without learning the other's name (`as_seen`).
    """
    if context.caller.sees(job.source):
        return True
    return context.caller.credential is not Credential.TOKEN and context.requester in job.requesters


def as_seen(job: Job, caller: Caller) -> Job:
    """The job without what it says of a file that is hidden from the caller: its names, why it failed."""
    if caller.sees(job.source):
        return job
    masked = replace(job.source, dcc=Dcc(_HIDDEN), local_id=LocalId(_HIDDEN), filename=_HIDDEN, access_url="")
    return replace(
        job,
        source=masked,
        parts=tuple(replace(part, filename=_HIDDEN) for part in job.parts),
        detail=_masked(job.detail),
        attempts=tuple(replace(attempt, detail=_masked(attempt.detail)) for attempt in job.attempts),
        progress=replace(job.progress, waiting=_masked(job.progress.waiting)),
    )


def _masked(text: str) -> str:
    return _HIDDEN if text else ""


def sees_batch(context: RequestContext, batch: Batch) -> bool:
    """Whether the batch is one for the caller: of one that may hold hidden files its requester alone."""
    if batch.visible.public_only or context.is_admin:
        return True
    return context.requester == batch.requester and context.caller.visible.covers(batch.visible)
