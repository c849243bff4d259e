"""What crosses the wire between the control loop and a worker: the order, and the events back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Self

from gooseherd.domain.failures import Failure, Reason
from gooseherd.domain.formats import resolve
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import Recipe
from gooseherd.domain.source import SourceFile
from gooseherd.domain.traceparent import read_traceparent


class AttemptId(NamedTuple):
    """The n-th try of a job; everything a worker does is idempotent by it."""

    job_id: JobId
    number: int

    def __str__(self) -> str:
        return f"{self.job_id}.{self.number}"


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """Bounds of one attempt, enforced on the worker. Bytes and seconds; sizes are of real bytes."""

    source_bytes: int
    scratch_bytes: int
    wall_seconds: float


@dataclass(frozen=True, slots=True)
class TemporaryCredentials:
    """What an attempt signs with where its artifact is stored; good for that artifact and for a time."""

    key_id: str
    secret: str = field(repr=False)
    token: str = field(repr=False)
    expires_at: float
    """Unix seconds, by the clock of whoever issued them."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for the wire and for the attempt process."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises ValueError, TypeError or KeyError for anything else."""
        words = {name: data[name] for name in ("key_id", "secret", "token")}
        if not all(isinstance(word, str) and word.isprintable() for word in words.values()):
            raise ValueError("credentials are words")
        return cls(**words, expires_at=float(data["expires_at"]))


@dataclass(frozen=True, slots=True)
class SourceAccess:
    """What opens the source of one attempt, where not everybody may read it."""

    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """By origin (`https://host:port`): sent there and nowhere else."""
    signed: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By the catalog's URL, or the s3 URL that its DRS server names, one that opens it for a while."""
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """By bucket, of those that are in another S3 than the rest: the address that the configuration names."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for the wire and for the attempt process."""
        return {
            "headers": {origin: dict(found) for origin, found in self.headers.items()},
            "signed": dict(self.signed),
            "endpoints": dict(self.endpoints),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            {origin: dict(found) for origin, found in data["headers"].items()},
            dict(data["signed"]),
            dict(data.get("endpoints", {})),
        )


@dataclass(frozen=True, slots=True)
class AttemptSpec:
    """The whole order for one attempt; a worker needs nothing else but its own settings."""

    attempt: AttemptId
    source: SourceFile
    recipe: Recipe
    limits: AttemptLimits
    build: str
    """Build id of the sender; a worker of another build refuses (Reason.MISCONFIGURED)."""
    credentials: TemporaryCredentials | None = None
    """For where the artifact goes; None: the worker has some of its own, or needs none."""
    traceparent: str | None = None
    """The attempt's own span, if its job is traced (traceparent.py)."""
    source_access: SourceAccess | None = None
    """For where the source is; None: everybody may read it."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for the wire and for the attempt process."""
        credentials = {} if self.credentials is None else {"credentials": self.credentials.to_json()}
        access = {} if self.source_access is None else {"source_access": self.source_access.to_json()}
        traced = {} if self.traceparent is None else {"traceparent": self.traceparent}
        return {
            **credentials,
            **access,
            **traced,
            "job_id": self.attempt.job_id,
            "number": self.attempt.number,
            "source": self.source.to_json(),
            "recipe": {
                "processor": self.recipe.processor,
                "processor_version": self.recipe.processor_version,
                "source_format": self.recipe.source_format.name,
            },
            "limits": asdict(self.limits),
            "build": self.build,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        recipe = data["recipe"]
        source_format = resolve(recipe["source_format"])
        if source_format is None:
            raise ValueError(f"unknown format {recipe['source_format']!r}")
        return cls(
            attempt=AttemptId(JobId(data["job_id"]), data["number"]),
            source=SourceFile.from_json(data["source"]),
            recipe=Recipe(recipe["processor"], recipe["processor_version"], source_format),
            limits=AttemptLimits(**data["limits"]),
            build=data["build"],
            credentials=TemporaryCredentials.from_json(data["credentials"])
            if "credentials" in data
            else None,
            traceparent=read_traceparent(str(data.get("traceparent", ""))),
            source_access=SourceAccess.from_json(data["source_access"]) if "source_access" in data else None,
        )


class EventKind(StrEnum):
    """What an attempt says of itself."""

    ACCEPTED = "accepted"
    STEP = "step"
    """A step began; `step` names it."""
    PROGRESS = "progress"
    """`percent` of the whole attempt, `bytes_in`, `bytes_out`, `eta_seconds`; with a `detail`: what it
    waits for before it goes on, to be tried again at `until`."""
    HEARTBEAT = "heartbeat"
    SPAN = "span"
    """Something began, or has ended, that took a time: `span` (tracing.py), of a traced attempt."""
    STEP_COMPLETE = "step_complete"
    """A step's parts and receipt are stored; `parts` lists them (Part as plain data)."""
    DONE = "done"
    """All parts and the manifest are stored; `manifest_digest`. Last event."""
    FAILED = "failed"
    """`reason` and `detail`. Last event."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of an attempt's journal.

    `seq` starts at 1 and has no gaps; `at` is Unix seconds by the worker's clock.
    """

    seq: int
    kind: EventKind
    at: float
    step: str = ""
    percent: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    eta_seconds: float | None = None
    parts: tuple[Mapping[str, Any], ...] = ()
    manifest_digest: str | None = None
    reason: Reason | None = None
    detail: str = ""
    until: float | None = None
    span: Mapping[str, Any] | None = None

    @property
    def last(self) -> bool:
        """Whether nothing follows."""
        return self.kind in (EventKind.DONE, EventKind.FAILED)

    @property
    def failure(self) -> Failure | None:
        """How it failed, if it did."""
        return Failure(self.reason, self.detail) if self.reason is not None else None

    def to_json(self) -> dict[str, Any]:
        """Plain data, defaults left out."""
        found = {k: v for k, v in asdict(self).items() if v not in ("", None, ()) or k == "seq"}
        # Of the enumerations only the words: what crosses the wire names no class of ours.
        return found | {k: str(found[k]) for k in ("kind", "reason") if k in found}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        known = dict(data)
        known["kind"] = EventKind(known["kind"])
        known["parts"] = tuple(known.get("parts", ()))
        if known.get("reason") is not None:
            known["reason"] = Reason(known["reason"])
        return cls(**known)
