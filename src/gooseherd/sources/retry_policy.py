"""How long and how often upstream is waited for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gooseherd.domain.errors import UpstreamUnavailable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of one conversation with upstream; seconds, and failures in a row."""

    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    """Nothing received for so long is a stall."""
    floor_bytes: int = 16 * 1024
    """Per second, on average over `floor_seconds`: slower than this never ends, and may be meant not to."""
    floor_seconds: float = 60.0
    """Of waiting for upstream; what we take to write does not count."""
    slow_tries: int = 2
    """Slow connections, however much came through them, until a download is given up: each holds a worker."""
    tries: int = 6
    """Failures without progress, in a row, until a download is given up."""
    open_tries: int = 2
    """The same for a pass-through, where a person waits."""
    backoff_seconds: float = 0.5
    """Before the second try; doubles with each."""
    max_wait_seconds: float = 30.0
    """No wait is longer. Upstream that asks for more is given up: the job's own retry is the longer wait."""

    def wait(self, failures: int, asked: float | None, random: float) -> float | None:
        """Seconds until the next try after `failures` in a row; None: more than we wait.

        `asked` is upstream's Retry-After; `random` in 0..1 spreads clients that failed together.
        """
        backoff = min(self.backoff_seconds * 2.0 ** (failures - 1), self.max_wait_seconds)
        backoff *= 0.5 + 0.5 * random
        if asked is None:
            return backoff
        return max(asked, backoff) if asked <= self.max_wait_seconds else None


@dataclass(eq=False)
class TransientFailure(UpstreamUnavailable):
    """Upstream did not give what it should have; inside of this room only."""

    problem: str = "did not answer"
    retry_after: float | None = None
    again: bool = True
    """Whether the same request may work in a moment."""
    slow: bool = False
    """Bytes came, and too few."""

    def __str__(self) -> str:
        return f"upstream {self.problem} for {self.url}"

    def plain(self) -> UpstreamUnavailable:
        """What the port promises to raise."""
        return UpstreamUnavailable(self.url, self.status)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds upstream asks us to wait (RFC 9110 §10.2.3), None when it says nothing readable."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
