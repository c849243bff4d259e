"""The dependencies and settings of the API, given once, when the application is made."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from gooseherd.api.artifact_delivery import ArtifactDelivery
from gooseherd.api.catalog import Catalog
from gooseherd.api.holding import Holds
from gooseherd.api.origins import OriginRules
from gooseherd.api.slow_responses import SlowResponses
from gooseherd.api.uploads import Uploads
from gooseherd.control.batches import Batches
from gooseherd.control.budgets import Budgets
from gooseherd.control.queue_statistics import QueueStatistics
from gooseherd.control.sessions import Sessions
from gooseherd.control.submission import Submissions
from gooseherd.control.usage import ServedBytes, UsageReports
from gooseherd.domain.caller import Caller
from gooseherd.domain.ports.cache import CacheBackend
from gooseherd.domain.ports.fleet import Fleet
from gooseherd.domain.ports.keys import KeyStore
from gooseherd.domain.ports.source import Sources
from gooseherd.domain.ports.store import FileStore, JobStore


class IdentityProvider(Protocol):
    """Tells callers by the tokens of an identity provider."""

    async def caller(self, text: str) -> Caller:
        """Who shows this token.

        Raises:
            InvalidCredential: it is none, for somebody else, or has expired.
            Unavailable: it cannot be judged now.
        """
        ...


def _holds() -> Holds:
    return Holds(per_requester=500, total=4000)


def _utc_now() -> datetime:
    return datetime.now(UTC)


_OF_THIS_PROCESS = secrets.token_hex(6)
_numbers = itertools.count(1)


def _new_request_id() -> str:
    # Unique and quick, and no secret: asking for random bytes costs as much as finding the file.
    return f"{_OF_THIS_PROCESS}{next(_numbers):x}"


async def _nothing() -> None:
    """There is nothing to refresh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """Dependencies and settings of the API.

    Without `cache` and `submissions` (both or neither) processing is off: /data answers upstream's
    bytes whatever the format, /index upstream's own index, and nothing starts a job.
    """

    files: FileStore
    jobs: JobStore
    sources: Sources
    readiness: Callable[[], Awaitable[Mapping[str, str]]]
    """Dependency name to "ok", "off: …" (on purpose), or a problem, without hosts and paths."""
    queue: QueueStatistics
    catalog: Catalog | None = None
    """The one that the batch loop writes through, so that what it learns is known at once. Unset: its own."""
    submissions: Submissions | None = None
    cache: CacheBackend | None = None
    batches: Batches | None = None
    """Unset: files are prepared one by one only."""
    sessions: Sessions | None = None
    """Unset: processing is off."""
    session_idle_seconds: float = 900.0
    """Of a session that does not say how long it may be idle."""
    uploads: Uploads | None = None
    """Unset: none are taken."""
    fleet: Fleet | None = None
    """Unset: there is nothing to show or stop."""
    admin_key: str | None = None
    """Unset: nobody is admin but by a key of the store."""
    keys: KeyStore | None = None
    """Unset: there are no keys but the admin's."""
    identity_provider: IdentityProvider | None = None
    """Unset: no bearer tokens of others are looked at."""
    usage: UsageReports | None = None
    """Unset: nothing is told of what was used."""
    budgets: Budgets | None = None
    served: ServedBytes | None = None
    """Counts what is sent, by whom it was asked for. Unset: nobody counts."""
    token_seconds: float = 12 * 3600.0
    """For so long a caller's download token stays the same; it ends after at most twice that."""
    public_url: str | None = None
    """How clients reach this API, path prefix included; unset: as the request says."""
    organization_name: str | None = None
    """Who runs this service, for GA4GH's service-info; unset: the host."""
    organization_url: str | None = None
    wait_max_seconds: float = 30.0
    """Longest hold of a request; keep it below the timeout of the proxy in front."""
    hold_viewers: bool = True
    """Hold what viewers ask for until it is made; else it is 202, or 503 by name."""
    holds: Holds = field(default_factory=_holds)
    origins: OriginRules = field(default_factory=OriginRules)
    trusted_proxies: int = 0
    """Proxies in front whose X-Forwarded-* headers are believed."""
    slow_responses: SlowResponses = field(default_factory=SlowResponses)
    """Of each requester, those that wait for it to read them."""
    source_max_bytes: int = 2**63 - 1
    """Largest file whose own bytes are passed on."""
    retries_per_requester: int = 20
    """Within ten minutes; each costs an attempt. The admin's are not counted."""
    raw_per_requester: int = 64
    """Responses at a time with upstream's own bytes; each holds a connection to the source's host."""
    tickets_per_requester: int = 16
    """Of htsget, that are being made at a time; each may take an index apart."""
    searches_per_requester: int = 8
    """By name, at a time; each may read megabytes of indexes."""
    event_streams_per_requester: int = 100
    event_streams: int = 2000
    """Of all requesters together."""
    bytes_per_minute: int = 0
    """Of one requester; 0: as many as it can take. The admin's are not counted."""
    delivery: ArtifactDelivery = field(default_factory=ArtifactDelivery)
    version: str = "0"
    build: str = "unknown"
    refresh_metrics: Callable[[], Awaitable[None]] = _nothing
    """Sets the gauges that are only looked at when somebody asks for them."""
    body_limit_bytes: int = 8 * 1024 * 1024
    """Largest body of a registration; 1000 entries of a portal's dump are about 2 MB."""
    new_request_id: Callable[[], str] = _new_request_id
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], datetime] = _utc_now
    """What expires is judged by it."""

    def __post_init__(self) -> None:
        if (self.cache is None) != (self.submissions is None):
            raise ValueError("cache and submissions come together or not at all")
