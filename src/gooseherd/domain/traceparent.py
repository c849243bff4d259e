"""The position in a distributed trace as text (W3C Trace Context): what a job, an order and a journal carry.

A job keeps the traceparent of the request that made it. The span of an attempt has an id that follows from
job and number, so that whoever writes its end, and the worker that runs it, know it without being told.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_VERSION_0: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_LATER: Final = re.compile(
    r"(?!00|ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
SAMPLED: Final = 1


def read_traceparent(text: str) -> str | None:
    """As version 00, if it is one; a later version is read as far as that (W3C Trace Context §3.2.4)."""
    if _VERSION_0.fullmatch(text):
        return text
    return f"00{text[2:55]}" if _LATER.fullmatch(text) else None


def trace_id(traceparent: str) -> str:
    """32 hex digits."""
    return traceparent[3:35]


def span_id(traceparent: str) -> str:
    """16 hex digits."""
    return traceparent[36:52]


def is_sampled(traceparent: str) -> bool:
    """Whether spans below it are recorded."""
    return bool(int(traceparent[53:55], 16) & SAMPLED)


def of_attempt(job_traceparent: str, attempt: str) -> str:
    """The span of the attempt (AttemptId as text), in the trace of its job."""
    digest = hashlib.sha256(f"{trace_id(job_traceparent)} {attempt}".encode()).hexdigest()
    return f"{job_traceparent[:36]}{digest[:16]}{job_traceparent[52:]}"
