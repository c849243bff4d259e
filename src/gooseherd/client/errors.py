"""What can go wrong between a client and the service, as exceptions that a caller can act on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gooseherd.client.models import Job
from gooseherd.domain.errors import Conflict, GooseherdError, Rejected, Unavailable


@dataclass(eq=False)
class NotReachable(Unavailable):
    """No service could be reached at `url`, or the connection broke before a response came."""

    url: str
    problem: str

    def __str__(self) -> str:
        return f"no response from {self.url}: {self.problem}"


class NoService(Unavailable):
    """No service was named, and none runs on this machine."""

    def __str__(self) -> str:
        return "no service is running here: start one with `gooseherd up`, or name one (GOOSEHERD_URL)"


@dataclass(eq=False)
class Refused(Rejected):
    """The service responded with an error (problem+json, RFC 9457); `type` is stable, the text is not.

    `retry_after_seconds` is None when asking again does not help.
    """

    status: int
    title: str
    detail: str = ""
    type: str = ""
    retry_after_seconds: float | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        known = self.fields
        if self.kind == "already-failed" and known.get("reason"):
            # The detail says how to try again over HTTP.
            text = f"job {known.get('job_id')} failed before: {known['reason']}"
            # There is no detail for who may not see the entry whose job it was.
            return f"{text}: {known['reason_detail']}" if known.get("reason_detail") else text
        return self.detail or f"{self.title} (HTTP {self.status})"

    @property
    def kind(self) -> str:
        """The last word of the problem's type, such as `not-found`; empty when it has none."""
        return self.type.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]


class Missing(Refused):
    """404 or 410: nothing by that name, or no artifact of that kind."""


class Denied(Refused):
    """401 or 403: the call needs a key, the key is none (any more), or it has not the scope."""


class Busy(Refused):
    """429 or 503: full or not able now; waiting helps."""


@dataclass(eq=False)
class JobEnded(Rejected):
    """The job that should have made the artifact ended without it."""

    job: Job

    def __str__(self) -> str:
        text = f"job {self.job.job_id} {self.job.status}"
        why = ": ".join(part for part in (self.job.reason, self.job.detail) if part)
        return f"{text}: {why}" if why else text


@dataclass(eq=False)
class TookTooLong(Unavailable):
    """It was not ready in time; the job or batch (`what`) goes on."""

    seconds: float
    job_id: str | None = None
    what: str = "job"

    def __str__(self) -> str:
        return f"not ready after {self.seconds:g} s" + (
            f"; {self.what} {self.job_id} goes on" if self.job_id else ""
        )


@dataclass(eq=False)
class Damaged(Conflict):
    """The bytes that arrived are not those the service's ETag promises; nothing was kept."""

    name: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.name}: sha256 is {self.found}, the service promised {self.expected}"


@dataclass(eq=False)
class Changed(Conflict):
    """The object was replaced or removed while it was read in pieces; reading it again gives the new one."""

    url: str

    def __str__(self) -> str:
        return f"{self.url} changed while it was read; read it again"


@dataclass(eq=False)
class DownloadInProgress(Conflict):
    """Another process is writing the same partial file."""

    path: str

    def __str__(self) -> str:
        return f"{self.path} is being written by another download"


@dataclass(eq=False)
class UnexpectedResponse(GooseherdError):
    """The response is not one of gooseherd: another program listens there, or another version."""

    url: str
    problem: str

    def __str__(self) -> str:
        return f"{self.url}: {self.problem}"
