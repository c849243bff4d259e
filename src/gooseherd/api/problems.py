"""Errors as responses: one table from error to status, one shape (RFC 9457 problem+json).

Only the fields that the table names are shown to clients; everything else an error knows
(addresses, worker names) stays in the log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gooseherd.api.address_redaction import without_paths
from gooseherd.api.allowances import limit_field, policy_field
from gooseherd.api.server.refusals import (
    BodyTooLarge,
    HeadersTooLarge,
    MalformedRequest,
    RequestTooSlow,
    TargetTooLong,
    TooManyConnections,
    UnknownTransferCoding,
)
from gooseherd.domain import errors, upload
from gooseherd.domain.failures import Reason, retryable
from gooseherd.domain.ports.cache import StorageRefused
from gooseherd.domain.ports.store import StoreRefused

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 5
"""What a dependency that did not answer is given to come back."""
REMEMBERED_SECONDS: Final = 30
"""How long a passing failure is remembered (domain.failures), so how long a retry should wait."""


@dataclass(eq=False)
class MethodNotAllowed(errors.Rejected):
    """The resource exists and does not know the method; `allow` is the header's value."""

    allow: str

    def __str__(self) -> str:
        return f"allowed here: {self.allow}" if self.allow else "this method is not allowed here"


@dataclass(eq=False)
class OriginRefused(errors.Rejected):
    """A page of another origin asks for what only pages of this machine, or those let in, may have."""

    origin: str

    def __str__(self) -> str:
        return f"pages of {self.origin} may read public files that are elsewhere, and nothing else here"


@dataclass(eq=False)
class ForeignHost(errors.Rejected):
    """The Host header names another service: DNS rebinding, or a proxy that nobody has told of."""

    host: str

    def __str__(self) -> str:
        return f"this service is not called {self.host}"


@dataclass(eq=False)
class PreconditionFailed(errors.Rejected):
    """If-Match names another version than the one there is."""

    etag: str

    def __str__(self) -> str:
        return f"the current version is {self.etag}"


@dataclass(eq=False)
class InvalidRequest(errors.InvalidInput):
    """Several values that cannot be used; `field` and `problem` are the first's."""

    errors: tuple[Mapping[str, str], ...] = ()


@dataclass(eq=False)
class NotYetPublished(errors.NotFound):
    """Nobody asked for the artifact yet, or it is still being made."""

    def __str__(self) -> str:
        return f"{self.what} of {self.name!r}: not published yet, GET /data/{self.name} starts the workflow"


@dataclass(eq=False)
class NotReady(errors.Unavailable):
    """The file is being made, and the client takes no other answer than its bytes."""

    job_id: str
    retry_after_seconds: int

    def __str__(self) -> str:
        return "the file is being made; ask again after Retry-After seconds"


class Stopping(errors.Unavailable):
    """This process ends before it could answer."""

    def __str__(self) -> str:
        return "the service is being restarted"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """What clients see of one class of errors."""

    status: int
    slug: str
    title: str
    retryable: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)
    """The error's field to the problem's member; what is not listed is not shown."""
    detail: str | None = None
    """Instead of the error's own words, where those are not for clients."""


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


ERROR_STATUS: Final[dict[type[Exception], ProblemType]] = {
    MalformedRequest: ProblemType(400, "malformed-request", "The request is malformed"),
    errors.MalformedRange: ProblemType(400, "malformed-range", "The Range header is malformed"),
    errors.AdminKeyRequired: ProblemType(401, "admin-key-required", "The admin key is required"),
    errors.KeyRequired: ProblemType(401, "key-required", "A key is required", fields=_same("scope")),
    errors.InvalidCredential: ProblemType(401, "invalid-credential", "The key or token cannot be used"),
    errors.ScopeRequired: ProblemType(
        403, "scope-required", "The key or token is not for this", fields=_same("scope")
    ),
    upload.UploadsDisabled: ProblemType(403, "uploads-disabled", "No uploads are taken"),
    OriginRefused: ProblemType(
        403, "origin-refused", "The page may not ask for this", fields=_same("origin")
    ),
    errors.NotFound: ProblemType(404, "not-found", "Not found", fields=_same("what", "name")),
    errors.NoSuchPart: ProblemType(
        404, "no-such-part", "The artifact has no such part", fields=_same("what", "name")
    ),
    NotYetPublished: ProblemType(
        404, "not-yet-published", "Not published yet", retryable=True, fields=_same("what", "name")
    ),
    MethodNotAllowed: ProblemType(405, "method-not-allowed", "Method not allowed"),
    RequestTooSlow: ProblemType(
        408,
        "request-too-slow",
        "The request did not arrive in time",
        retryable=True,
        fields=_same("limit_seconds"),
    ),
    errors.NotCancellable: ProblemType(
        409,
        "not-cancellable",
        "The job can no longer be cancelled",
        fields={"job_id": "job_id", "status": "job_status"},
    ),
    errors.WorkerInUse: ProblemType(
        409, "worker-in-use", "A job works on the worker", fields=_same("worker_id", "job_id")
    ),
    errors.Conflict: ProblemType(
        409, "conflict", "The state has changed meanwhile", retryable=True, detail="look again, then decide"
    ),
    errors.Gone: ProblemType(
        410, "gone", "The file was taken back", fields={"name": "name", "status": "file_status"}
    ),
    upload.UploadVersion: ProblemType(412, "upload-version", "Uploads are by tus 1.0.0"),
    PreconditionFailed: ProblemType(412, "precondition-failed", "If-Match names another version"),
    BodyTooLarge: ProblemType(413, "body-too-large", "The body is too large", fields=_same("limit_bytes")),
    TargetTooLong: ProblemType(
        414, "target-too-long", "The address is too long", fields=_same("limit_bytes")
    ),
    errors.RangeNotSatisfiable: ProblemType(
        416, "range-not-satisfiable", "The range starts past the end", fields=_same("size")
    ),
    ForeignHost: ProblemType(421, "foreign-host", "The request is for another host", fields=_same("host")),
    errors.InvalidInput: ProblemType(
        422, "invalid-input", "A value cannot be used", fields=_same("field", "problem")
    ),
    InvalidRequest: ProblemType(
        422, "invalid-input", "A value cannot be used", fields=_same("field", "problem", "errors")
    ),
    errors.SourceTooLarge: ProblemType(
        422, "source-too-large", "The file is too large", fields=_same("limit_bytes")
    ),
    errors.UnsupportedFormat: ProblemType(
        422, "unsupported-format", "No processor reads this format", fields=_same("file_format", "supported")
    ),
    errors.AlreadyFailed: ProblemType(
        422,
        "already-failed",
        "The artifact could not be made",
        fields={"job_id": "job_id", "reason": "reason", "detail": "reason_detail"},
    ),
    errors.LimitReached: ProblemType(
        429,
        "limit-reached",
        "A limit is reached",
        retryable=True,
        fields={**_same("limit", "allowed", "current"), "retry_after_seconds": "retry_after"},
    ),
    errors.BudgetSpent: ProblemType(
        429,
        "budget-spent",
        "The budget is used up",
        retryable=True,
        fields={
            **_same("period", "budget", "spent", "currency", "frees_at"),
            "retry_after_seconds": "retry_after",
        },
    ),
    HeadersTooLarge: ProblemType(
        431, "headers-too-large", "The headers are too large", fields=_same("limit_bytes")
    ),
    UnknownTransferCoding: ProblemType(501, "unknown-transfer-coding", "The transfer coding is unknown"),
    errors.OutboundRefused: ProblemType(
        502,
        "source-refused",
        "The catalog entry's address may not be fetched",
        fields=_same("rule"),
        detail="the address in the catalog entry is not one that this service may fetch from",
    ),
    errors.UpstreamUnavailable: ProblemType(
        502,
        "upstream-unavailable",
        "The source's host did not answer as it should",
        retryable=True,
        fields={"status": "upstream_status"},
        detail="the address in the catalog entry did not answer as it should",
    ),
    errors.ProcessingDisabled: ProblemType(503, "processing-disabled", "Processing is off"),
    errors.StoreUnavailable: ProblemType(
        503, "store-unavailable", "The store did not answer", retryable=True, fields=_same("operation")
    ),
    errors.CacheUnavailable: ProblemType(
        503,
        "cache-unavailable",
        "The artifact cache did not answer",
        retryable=True,
        fields=_same("operation"),
    ),
    TooManyConnections: ProblemType(
        503, "too-many-connections", "Too many connections", retryable=True, fields=_same("limit")
    ),
    NotReady: ProblemType(503, "not-ready", "The file is being made", retryable=True, fields=_same("job_id")),
    Stopping: ProblemType(503, "stopping", "The service is being restarted", retryable=True),
    upload.UploadStorageFull: ProblemType(507, "upload-storage-full", "There is no room", retryable=True),
    errors.Unavailable: ProblemType(
        503,
        "unavailable",
        "A dependency did not answer",
        retryable=True,
        detail="the same call may work later",
    ),
    errors.Misconfigured: ProblemType(
        503,
        "misconfigured",
        "The service is not set up for this",
        detail="whoever runs it finds in its log, under this request id, what to change",
    ),
    errors.Rejected: ProblemType(
        400, "rejected", "The request cannot be served", detail="the same call fails the same way"
    ),
}
"""Looked up along the error's ancestors, nearest first."""

INTERNAL: Final = ProblemType(
    500,
    "internal-error",
    "Something went wrong on our side",
    detail="the log has the details under this request id",
)

Pairs = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Problem:
    """An error ready for the wire; `headers` are complete but for the request id and CORS."""

    status: int
    headers: Pairs
    body: bytes
    title: str = ""
    detail: str = ""
    retryable: bool = False
    request_id: str = ""


def problem_type(error: BaseException) -> ProblemType:
    """What the table says of `error`; INTERNAL for what nobody foresaw."""
    return next((ERROR_STATUS[c] for c in type(error).__mro__ if c in ERROR_STATUS), INTERNAL)


def problem(error: BaseException, *, instance: str, request_id: str, admin: bool = False) -> Problem:
    """The response to `error`, as a client or the admin sees it."""
    kind = problem_type(error)
    extra: dict[str, Any] = {member: getattr(error, name) for name, member in kind.fields.items()}
    for member, value in extra.items():
        extra[member] = without_paths(value, admin=admin) if isinstance(value, str) else value
    # Rights may be given back to the same service; what else is set up wrongly needs another one.
    again = kind.retryable or isinstance(error, (StorageRefused, StoreRefused))
    headers: Pairs = []
    match error:
        case errors.BudgetSpent():
            # No RateLimit fields: they count in whole numbers of a registered unit.
            headers.append((b"retry-after", b"%d" % error.retry_after_seconds))
        case errors.LimitReached():
            headers += [
                (b"retry-after", b"%d" % error.retry_after_seconds),
                policy_field(error.limit, error.allowed, error.window_seconds, error.unit),
                limit_field(error.limit, 0, error.retry_after_seconds),
            ]
        case NotReady():
            headers.append((b"retry-after", b"%d" % error.retry_after_seconds))
        case errors.AlreadyFailed():
            again = _may_pass(error.reason)
            if again:
                headers.append((b"retry-after", b"%d" % REMEMBERED_SECONDS))
        case errors.RangeNotSatisfiable():
            headers += [(b"content-range", b"bytes */%d" % error.size), (b"accept-ranges", b"bytes")]
        case errors.AdminKeyRequired() | errors.KeyRequired():
            headers.append((b"www-authenticate", b'Bearer realm="gooseherd"'))
        case errors.InvalidCredential():
            headers.append((b"www-authenticate", b'Bearer realm="gooseherd", error="invalid_token"'))
        case errors.ScopeRequired():
            challenge = f'Bearer realm="gooseherd", error="insufficient_scope", scope="{error.scope}"'
            headers.append((b"www-authenticate", challenge.encode()))
        case MethodNotAllowed():
            headers.append((b"allow", error.allow.encode("latin-1", "replace")))
        case PreconditionFailed():
            headers.append((b"etag", error.etag.encode()))
        case NotYetPublished() | errors.Unavailable() | errors.Misconfigured() if again:
            headers.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
        case _:
            pass
    return render(
        kind,
        kind.detail or without_paths(str(error), admin=admin),
        again=again,
        extra=extra,
        headers=headers,
        instance=instance,
        request_id=request_id,
    )


def render(
    kind: ProblemType,
    detail: str,
    *,
    again: bool,
    extra: Mapping[str, Any],
    headers: Pairs,
    instance: str,
    request_id: str,
) -> Problem:
    """The wire form: the five standard members, `retryable`, `request_id`, then the error's own."""
    body = json.dumps(
        {
            "type": f"/problems/{kind.slug}",
            "title": kind.title,
            "status": kind.status,
            "detail": detail,
            "instance": instance,
            "retryable": again,
            "request_id": request_id,
            **extra,
        },
        ensure_ascii=False,
    ).encode("utf-8", "backslashreplace")
    always = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    return Problem(
        kind.status,
        always + headers,
        body,
        title=kind.title,
        detail=detail,
        retryable=again,
        request_id=request_id,
    )


def _may_pass(reason: str) -> bool:
    try:
        return retryable(Reason(reason))
    except ValueError:
        return False
