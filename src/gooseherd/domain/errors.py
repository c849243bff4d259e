"""What can go wrong, without HTTP, Mongo or ECS; the edge maps it to responses.

Three kinds, by who can do something about it: `Rejected` (the caller can fix it), `Conflict` (the world moved
under the caller), `Unavailable` (a dependency; try again). Leaves carry fields, no host names or paths.
"""

from __future__ import annotations

from dataclasses import dataclass


class GooseherdError(Exception):
    """Root of everything gooseherd raises on purpose."""


class Rejected(GooseherdError):
    """The caller can fix it: the same call again fails the same way."""


class Conflict(GooseherdError):
    """The state changed meanwhile: read it again before deciding what to do."""


class Unavailable(GooseherdError):
    """A dependency did not answer: the same call may work later."""


# -- Rejected ------------------------------------------------------------------------------


@dataclass(eq=False)
class NotFound(Rejected):
    """Nothing by that name; `what` is the word users know: file, job, artifact, index, density, worker."""

    what: str
    name: str

    def __str__(self) -> str:
        return f"no {self.what} {self.name!r}"


@dataclass(eq=False)
class NoSuchPart(NotFound):
    """The file is known, and its artifact has, or would have, no part of this kind; `what` is the kind."""

    def __str__(self) -> str:
        return f"the artifact of {self.name!r} has no {self.what}"


@dataclass(eq=False)
class NoVisibleFile(NotFound):
    """There is no such entry, or the caller may not see it: `hidden` is for the audit log alone."""

    hidden: bool = False

    def __str__(self) -> str:
        return f"no {self.what} {self.name!r} that this caller may see"


@dataclass(eq=False)
class Gone(Rejected):
    """The catalog knows the file and says that it was taken back; it will not return."""

    name: str
    status: str

    def __str__(self) -> str:
        return f"{self.name} is {self.status}"


@dataclass(eq=False)
class AccessDenied(Rejected):
    """A source's host refuses to hand it out, or an entry's level is none that may be worked on."""

    name: str
    access_level: str

    def __str__(self) -> str:
        return f"{self.name} is {self.access_level}"


@dataclass(eq=False)
class AdminKeyRequired(Rejected):
    """The call changes the catalog or other people's jobs and came without the key."""

    def __str__(self) -> str:
        return "this call needs the admin key in the X-API-Key header"


@dataclass(eq=False)
class KeyRequired(Rejected):
    """The call came without a credential, and needs one with this scope."""

    scope: str

    def __str__(self) -> str:
        return (
            f"this call needs a key with the scope {str(self.scope)!r}, as Authorization: Bearer or X-API-Key"
        )


@dataclass(eq=False)
class ScopeRequired(Rejected):
    """The credential is good, and not for this call."""

    scope: str

    def __str__(self) -> str:
        return f"this call needs the scope {str(self.scope)!r}, which this credential has not"


@dataclass(eq=False)
class TokenOnlyReads(ScopeRequired):
    """A token in the URL, which whoever sees the URL has, does nothing but read."""

    def __str__(self) -> str:
        return "a token in the URL is for reading: show a key in a header"


@dataclass(eq=False)
class InvalidCredential(Rejected):
    """A key or token that is none, has expired or was revoked; `problem` says no more than that."""

    problem: str

    def __str__(self) -> str:
        return self.problem


@dataclass(eq=False)
class InvalidInput(Rejected):
    """A field of a request or catalog entry that cannot be used; `problem` says what would be right."""

    field: str
    problem: str

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


@dataclass(eq=False)
class UnsupportedFormat(Rejected):
    """No processor makes artifacts of this kind from this format."""

    file_format: str
    supported: tuple[str, ...] = ()

    def __str__(self) -> str:
        known = f"; supported: {', '.join(self.supported)}" if self.supported else ""
        return f"no processor for format {self.file_format!r}{known}"


@dataclass(eq=False)
class SourceTooLarge(Rejected):
    """The file is larger than any that is fetched here."""

    limit_bytes: int

    def __str__(self) -> str:
        return f"sources are limited to {self.limit_bytes} bytes"


@dataclass(eq=False)
class MalformedRange(Rejected):
    """A Range header that is not RFC 9110 `bytes=`."""

    header: str

    def __str__(self) -> str:
        return f"malformed Range header {self.header[:80]!r}; expected bytes=FIRST-LAST"


@dataclass(eq=False)
class RangeNotSatisfiable(Rejected):
    """Every requested range starts past the end; `size` is the object's length in bytes."""

    size: int

    def __str__(self) -> str:
        return f"range starts past the end of the object ({self.size} bytes)"


@dataclass(eq=False)
class OutboundRefused(Rejected):
    """An outbound address the guard does not allow; `rule` names the rule, never what was resolved.

    `setting` is the environment variable that could allow it; None when nothing does.
    """

    url: str
    rule: str
    setting: str | None = None

    @property
    def advice(self) -> str:
        """The rule, and the setting to change where there is one."""
        return f"{self.rule} (see the setting {self.setting})" if self.setting else self.rule

    def __str__(self) -> str:
        return f"refusing to fetch {self.url}: {self.rule}"


@dataclass(eq=False)
class LimitReached(Rejected):
    """A limit with its numbers; waiting helps, asking for less too."""

    limit: str
    allowed: int
    current: int
    retry_after_seconds: int = 30
    window_seconds: int | None = None
    """Of a limit on what is done within a time; None: on what there is at a time."""
    unit: str = "request"
    """What is counted, as the registry of quota units names it (draft-ietf-httpapi-ratelimit-headers-10)."""

    def __str__(self) -> str:
        return f"{self.limit}: {self.current} of {self.allowed}"


@dataclass(eq=False)
class BudgetSpent(LimitReached):
    """A requester has used what it may in a day or a month; `frees_at` is when there is more."""

    period: str = ""
    budget: float = 0.0
    spent: float = 0.0
    currency: str = ""
    frees_at: str = ""

    def __str__(self) -> str:
        used = f"{self.spent:.4g} of {self.budget:.4g} {self.currency}"
        return f"{self.limit}: {used} is used up; there is more from {self.frees_at} on"


@dataclass(eq=False)
class AlreadyFailed(Rejected):
    """The last job for this content failed, and the same again would; `job_id` has the whole story."""

    job_id: str
    reason: str
    detail: str

    def __str__(self) -> str:
        why = f"{self.reason}: {self.detail}" if self.detail else self.reason
        return f"{why} (job {self.job_id}; ask with ?retry=true to try again)"


# -- Conflict ------------------------------------------------------------------------------


@dataclass(eq=False)
class StillWanted(Conflict):
    """The job was to be cancelled, and somebody wants it (again): put it back."""

    job_id: str

    def __str__(self) -> str:
        return f"job {self.job_id} is wanted"


class NewerJob(Conflict):
    """Another job on the same content has begun, or ended, since the caller looked: look again."""


@dataclass(eq=False)
class LeaseLost(Conflict):
    """A newer fence exists or the job ended: stop, publish nothing, write nothing more."""

    job_id: str
    fence: int

    def __str__(self) -> str:
        return f"job {self.job_id}: fence {self.fence} is no longer the holder's"


@dataclass(eq=False)
class NotCancellable(Conflict):
    """The job is finalizing or has ended; cancelling it now would change nothing."""

    job_id: str
    status: str

    def __str__(self) -> str:
        return f"job {self.job_id} is {self.status} and can no longer be cancelled"


@dataclass(eq=False)
class WorkerInUse(Conflict):
    """A job works on it, so it is not stopped without insisting."""

    worker_id: str
    job_id: str

    def __str__(self) -> str:
        return f"worker {self.worker_id} works on job {self.job_id}"


# -- Unavailable ---------------------------------------------------------------------------


@dataclass(eq=False)
class StoreUnavailable(Unavailable):
    """The store did not answer; the outcome of a write is unknown."""

    operation: str

    def __str__(self) -> str:
        return f"store unavailable during {self.operation}"


@dataclass(eq=False)
class CacheUnavailable(Unavailable):
    """The artifact cache did not answer or has no room."""

    operation: str

    def __str__(self) -> str:
        return f"artifact cache unavailable during {self.operation}"


@dataclass(eq=False)
class UpstreamUnavailable(Unavailable):
    """The host that holds a source did not answer as it should; `status` is its HTTP status if any."""

    url: str
    status: int | None = None

    def __str__(self) -> str:
        outcome = f"answered {self.status}" if self.status is not None else "did not answer"
        return f"upstream {outcome} for {self.url}"


@dataclass(eq=False)
class ProcessingDisabled(Unavailable):
    """No place for artifacts is configured: only upstream bytes can be served."""

    def __str__(self) -> str:
        return "processing is off: set SYNC_DATA_DIR or WORKFLOW_S3_BUCKET"


@dataclass(eq=False)
class NoCapacity(Unavailable):
    """The fleet cannot give a worker now; the job stays queued."""

    detail: str = ""

    def __str__(self) -> str:
        return f"no worker capacity {self.detail}".rstrip()


@dataclass(eq=False)
class LaunchFailed(Unavailable):
    """A worker was started and did not become healthy."""

    detail: str

    def __str__(self) -> str:
        return f"worker did not start: {self.detail}"


@dataclass(eq=False)
class WorkerLost(Unavailable):
    """The worker stopped answering; whatever it ran must be looked up or done again."""

    detail: str

    def __str__(self) -> str:
        return f"worker lost: {self.detail}"


@dataclass(eq=False)
class AttemptLost(WorkerLost):
    """The attempt's process ended without a last word; its worker lives."""

    def __str__(self) -> str:
        return WorkerLost.__str__(self)


@dataclass(eq=False)
class WorkerBusy(Unavailable):
    """The worker runs another attempt: one at a time."""

    running: str

    def __str__(self) -> str:
        return f"worker is busy with {self.running}"


@dataclass(eq=False)
class Misconfigured(GooseherdError):
    """No retry heals it: an operator must change `setting`. `of_request`: others' requests may be taken."""

    setting: str
    problem: str
    of_request: bool = False

    def __str__(self) -> str:
        return f"{self.setting}: {self.problem}"
