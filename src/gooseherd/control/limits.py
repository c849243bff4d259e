"""How long things may take, and what an attempt may use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


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
