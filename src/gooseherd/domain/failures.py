"""Why an attempt ended, and whether trying again can help: one closed list, one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why an attempt or a job ended. Closed: metrics and clients rely on the list."""

    PUBLISHED = "published"
    ADOPTED = "adopted"
    CANCELLED = "cancelled"
    SOURCE_MISSING = "source_missing"
    SOURCE_FORBIDDEN = "source_forbidden"
    SOURCE_CHANGED = "source_changed"
    SOURCE_INVALID = "source_invalid"
    SOURCE_TOO_LARGE = "source_too_large"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOOL_FAILED = "tool_failed"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    WORKER_LOST = "worker_lost"
    WORKER_DRAINED = "worker_drained"
    LEASE_EXPIRED = "lease_expired"
    NO_CAPACITY = "no_capacity"
    LAUNCH_FAILED = "launch_failed"
    STORE_UNAVAILABLE = "store_unavailable"
    MISCONFIGURED = "misconfigured"
    QUEUE_EXPIRED = "queue_expired"
    SOURCE_UNAVAILABLE = "source_unavailable"


@dataclass(frozen=True, slots=True)
class RetryRule:
    """`tries` counts attempts that end for the reason, the first included; `backoff` doubles with each.

    None: as many as fit into the queue's time to live. Such an attempt never began, so it says nothing of
    the job.

    Each reason has its own count: a job that waited long for capacity still has all the
    tries that a lost worker is worth.
    """

    tries: int | None
    backoff: timedelta = timedelta(seconds=5)


_FINAL = RetryRule(tries=1)

RETRY: Final[dict[Reason, RetryRule]] = {
    Reason.SOURCE_UNAVAILABLE: RetryRule(3, timedelta(seconds=30)),
    Reason.TOOL_FAILED: RetryRule(2),
    Reason.OUT_OF_MEMORY: RetryRule(2),
    Reason.OUT_OF_DISK: RetryRule(2),
    Reason.WORKER_LOST: RetryRule(3, timedelta(seconds=2)),
    Reason.WORKER_DRAINED: RetryRule(5, timedelta(seconds=1)),
    # Soon, for a deployment; ever later, for a launch that ends the API process each time.
    Reason.LEASE_EXPIRED: RetryRule(None, timedelta(seconds=1)),
    Reason.NO_CAPACITY: RetryRule(None, timedelta(seconds=10)),
    Reason.LAUNCH_FAILED: RetryRule(None, timedelta(seconds=10)),
    Reason.STORE_UNAVAILABLE: RetryRule(5),
}
"""Reasons that are not here are final: the same attempt would end the same way."""

_MEMORY: Final[dict[Reason, timedelta]] = {
    Reason.SOURCE_INVALID: timedelta(hours=1),
    Reason.SOURCE_CHANGED: timedelta(minutes=5),
    Reason.SOURCE_TOO_LARGE: timedelta(hours=1),
    Reason.UNSUPPORTED_FORMAT: timedelta(hours=1),
    Reason.DEADLINE_EXCEEDED: timedelta(hours=1),
    Reason.SOURCE_MISSING: timedelta(minutes=1),
    Reason.SOURCE_FORBIDDEN: timedelta(minutes=1),
    Reason.CANCELLED: timedelta(0),
}

MAX_BACKOFF: Final = timedelta(minutes=10)
_MOST_DOUBLINGS: Final = 20
_MOST_OF_HOST: Final = 3
"""A host that is back gives many files that wait; they should not wait much longer than it was away."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt ended badly; `detail` is one sentence for people, free of our paths and hosts."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Put the job back; due after `delay`."""

    delay: timedelta


def queue_expired_detail(tried: Sequence[tuple[str | None, str]]) -> str:
    """Why a job that waited too long was not started, by how its attempts ended (reason and detail)."""
    waited = "waited in the queue for too long"
    ended = [(reason, detail) for reason, detail in tried if reason is not None]
    if not ended:
        return waited
    reason, detail = ended[-1]
    return f"{waited}; its last try of {len(ended)} ended with {reason}" + (f": {detail}" if detail else "")


def retryable(reason: Reason) -> bool:
    """Whether any second attempt is ever made for this reason."""
    return reason in RETRY


def had_worker(reason: Reason) -> bool:
    """Whether an attempt that ended so had a worker. One that had none is a part of the job's wait for it."""
    return RETRY.get(reason, _FINAL).tries is not None


def next_try(reason: Reason, ended_so: int, scale: float = 1.0, *, of_host: int = 0) -> Retry | None:
    """What follows when `ended_so` attempts of a job, the last one included, ended with `reason`.

    None means the job fails with that reason. `scale` shortens the waits in tests. `of_host` attempts of
    all files of the source's host ended so in a row: the wait is as long as if they were this job's, up to
    eight times the first.
    """
    rule = RETRY.get(reason, _FINAL)
    if rule.tries is not None and ended_so >= rule.tries:
        return None
    doublings = min(max(ended_so - 1, min(of_host - 1, _MOST_OF_HOST), 0), _MOST_DOUBLINGS)
    delay: timedelta = min(rule.backoff * 2**doublings, MAX_BACKOFF)
    return Retry(delay * scale)


def remembered_for(reason: Reason) -> timedelta:
    """How long after a failure the same request is answered with it instead of a new job.

    Verdicts on the content last longer than trouble that may pass: a client that polls a
    broken file must not keep a worker busy.
    """
    return _MEMORY.get(reason, timedelta(seconds=30))
