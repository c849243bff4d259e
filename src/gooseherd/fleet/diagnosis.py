"""Why a FleetTask stopped and what to do: the stopped task's payload in; summary, detail, remedy out.

Stop codes are a closed list of the ECS API (TaskStopCode); the texts behind them are those of
the developer guide, "Stopped tasks error messages", told apart by the name they begin with.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gooseherd.domain.errors import GooseherdError, LaunchFailed, Misconfigured, NoCapacity
from gooseherd.domain.failures import Reason

_DETAIL_LIMIT: Final = 300
_EXIT: Final[Mapping[int, str]] = {
    125: "the container runtime could not start the command",
    126: "the command in the image cannot be executed",
    127: "the command is not in the image",
}
_PERMANENT_PULL: Final = ("not found", "manifest unknown", "does not exist", "denied", "no basic auth")
"""Words of a registry that answered; without them the image may be pulled next time."""
_ARN_OR_HOST: Final = re.compile(
    # A name begins where none goes on: else a long one is read again from each of its letters.
    r"arn:aws[\w-]*:[^\s,;)]+|(?<![\w.-])[\w.-]+\.amazonaws\.com\S*|\b\d{12}\b"
)


class Cause(StrEnum):
    """What kind of end it was, by who can do something about it."""

    CAPACITY = "capacity"
    """There was none, or it was taken back: try again, or elsewhere."""
    PLATFORM = "platform"
    """The cloud failed to start or keep it: try again."""
    CONFIGURATION = "configuration"
    """No retry heals it."""
    MEMORY = "memory"
    KILLED = "killed"
    """By a signal that nobody of ours sent. ECS names a want of memory when it was that."""
    PROGRAM = "program"
    """The worker ended by itself, with a status."""
    STOPPED = "stopped"
    """Somebody asked for it."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`summary` is one clause, `detail` what ECS said (scrubbed, may be empty), `remedy` what to do."""

    cause: Cause
    summary: str
    detail: str = ""
    remedy: str = ""

    @property
    def reason(self) -> Reason:
        """What an attempt that was under way there ended with."""
        return Reason.OUT_OF_MEMORY if self.cause is Cause.MEMORY else Reason.WORKER_LOST

    def __str__(self) -> str:
        text = f"{self.summary} ({self.detail})" if self.detail else self.summary
        return f"{text}; {self.remedy}" if self.remedy else text


def diagnose(task: Mapping[str, Any]) -> Diagnosis:
    """The diagnosis of a task as DescribeTasks shows it. Missing members are fine."""
    code = task.get("stopCode") or ""
    reason = str(task.get("stoppedReason") or "")
    match code:
        case "SpotInterruption":
            return _diagnosis(
                Cause.CAPACITY,
                "Spot capacity was taken back",
                reason,
                "it is tried again; use on-demand capacity if it happens often",
            )
        case "TerminationNotice" | "InfrastructureHealth":
            return _diagnosis(Cause.PLATFORM, "the machine below the task was retired", reason, "")
        case "TaskFailedToStart":
            return _not_started(reason, task)
        case "UserInitiated" | "ServiceSchedulerInitiated" if not _is_health(reason):
            return _diagnosis(Cause.STOPPED, "the task was stopped on request", reason, "")
        case _ if _is_health(reason):
            return _diagnosis(
                Cause.PROGRAM, "the task failed its health checks", reason, "see the worker's log"
            )
        case _:
            return _exited(reason, task)


def starting_late(task: Mapping[str, Any], seconds: float) -> Diagnosis:
    """What to say of a task that lives but was not healthy in time."""
    status = str(task.get("lastStatus") or "unknown").lower()
    health = str(task.get("healthStatus") or "UNKNOWN")
    summary = f"not healthy after {seconds:g} seconds, status {status}"
    if health == "UNHEALTHY":
        return Diagnosis(
            Cause.PROGRAM,
            f"{summary}, health checks fail",
            remedy="see the worker's log and its health check",
        )
    if status == "running":
        # Nothing says which it is, and the next one may be well: no reason to give the job up.
        return Diagnosis(
            Cause.PROGRAM,
            f"{summary}, health unknown",
            remedy="see its log; the task definition needs a healthCheck on every essential container",
        )
    return Diagnosis(Cause.PLATFORM, summary, remedy="a smaller image or a longer ECS_START_TIMEOUT_SECONDS")


def as_error(diagnosis: Diagnosis) -> GooseherdError:
    """What to raise for a worker that ended, or will, before it was healthy."""
    match diagnosis.cause:
        case Cause.CAPACITY:
            return NoCapacity(f"({diagnosis})")
        case Cause.CONFIGURATION:
            return Misconfigured("ECS_WORKER_TASK_DEFINITION", str(diagnosis))
        case _:
            return LaunchFailed(str(diagnosis))


def _not_started(reason: str, task: Mapping[str, Any]) -> Diagnosis:
    name, words = _named(reason, task)
    match name:
        case "CannotPullContainerError" | "CannotPullECRContainerError" | "CannotPullImageManifestError":
            permanent = any(word in words.lower() for word in _PERMANENT_PULL)
            return _diagnosis(
                Cause.CONFIGURATION if permanent else Cause.PLATFORM,
                "the image could not be pulled",
                words,
                "check the task definition's image, its execution role and the subnets' way to the registry",
            )
        case "ResourceInitializationError":
            return _diagnosis(
                Cause.CONFIGURATION if _refused(words) else Cause.PLATFORM,
                "secrets, logs or network could not be set up",
                words,
                "check the execution role and the subnets' way to Secrets Manager, ECR and CloudWatch",
            )
        case "CannotStartContainerError" | "CannotCreateContainerError" | "ContainerRuntimeError":
            return _diagnosis(
                Cause.CONFIGURATION, "the container could not be started", words, "check the image's command"
            )
        case "OutOfMemoryError":
            return _diagnosis(
                Cause.MEMORY, "it ran out of memory while starting", words, "raise ECS_WORKER_MIN_MEMORY_MIB"
            )
    if reason.startswith("Capacity is unavailable"):
        return _diagnosis(Cause.CAPACITY, "no capacity", reason, "more subnets in other zones help")
    if reason.startswith("Timeout waiting for network interface provisioning"):
        return _diagnosis(
            Cause.PLATFORM,
            "no network interface in time",
            reason,
            "check that the subnets have free addresses",
        )
    return _diagnosis(Cause.PLATFORM, "the task did not start", reason, "")


def _exited(reason: str, task: Mapping[str, Any]) -> Diagnosis:
    for container in task.get("containers") or []:
        why = str(container.get("reason") or "")
        code = container.get("exitCode")
        name = str(container.get("name") or "container")
        if why.startswith("OutOfMemoryError"):
            return _diagnosis(
                Cause.MEMORY, f"{name} ran out of memory", why, "more memory: ECS_WORKER_MIN_MEMORY_MIB"
            )
        if code == 137:
            return _diagnosis(
                Cause.KILLED, f"{name} was killed (137, SIGKILL), and nothing says by whom", why, ""
            )
        if code == 78:  # sysexits.h, EX_CONFIG: what a worker ends with that cannot work as it is set up
            return _diagnosis(
                Cause.CONFIGURATION, f"{name} refused its settings (78)", why, "see the worker's log"
            )
        if code == 0:
            return _diagnosis(Cause.PROGRAM, f"{name} ended by itself", why, "")
        if code is not None:
            return _diagnosis(Cause.PROGRAM, f"{name} {_exit(code)}", why, "see the worker's log")
    return _diagnosis(Cause.UNKNOWN, "the task stopped", reason, "")


def _exit(code: int) -> str:
    if code in _EXIT:
        return f"exited with status {code}: {_EXIT[code]}"
    if code > 128:
        try:
            return f"was killed by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return f"exited with status {code}"


def _named(reason: str, task: Mapping[str, Any]) -> tuple[str, str]:
    """The error's name and its words, from the task's reason or the first container that has one."""
    reasons = [reason, *(str(item.get("reason") or "") for item in task.get("containers") or [])]
    for stated in reasons:
        name, colon, words = stated.partition(":")
        if colon and name.isidentifier():
            return name, words.strip()
    return "", reason


def _is_health(reason: str) -> bool:
    return "failed container health checks" in reason or "failed ELB health checks" in reason


def _refused(words: str) -> bool:
    return "AccessDenied" in words or "is not authorized" in words or "ResourceNotFoundException" in words


def scrubbed(text: str) -> str:
    """One line, bounded, without ARNs, account numbers and host names."""
    return " ".join(_ARN_OR_HOST.sub("…", text).split())[:_DETAIL_LIMIT].strip()


def _diagnosis(cause: Cause, summary: str, detail: str, remedy: str) -> Diagnosis:
    return Diagnosis(cause, summary, scrubbed(detail), remedy)
