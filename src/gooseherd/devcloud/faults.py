"""Fault injection: what the local cloud does wrong next, how often, and to which calls."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, Self

from gooseherd.domain.errors import InvalidInput


class Kind(StrEnum):
    """What goes wrong: to a call, or to a task from its RunTask on."""

    CAPACITY = "capacity"
    """RunTask answers 200 with `failures[]` and starts nothing."""
    THROTTLE = "throttle"
    """ECS: ThrottlingException. S3: 503 SlowDown."""
    ERROR = "error"
    """ECS: `code` and `message` with HTTP `status`. S3: HTTP `status` (500 by default)."""
    RESET = "reset"
    """The connection breaks; with `after_bytes` in the middle of the answer's body."""
    LATENCY = "latency"
    """The answer comes `seconds` later."""
    HIDDEN = "hidden"
    """New tasks are MISSING and not listed for `seconds`, as eventual consistency allows."""

    SLOW_START = "slow_start"
    """PENDING lasts `seconds` longer."""
    NEVER_HEALTHY = "never_healthy"
    """Every health check fails; those of the first `seconds` do not count (0: of the start period)."""
    DIES = "dies"
    """The container is killed as soon as it runs; it exits with `exit_code`."""
    CANNOT_PULL = "cannot_pull"
    """The image cannot be pulled."""
    NO_ADDRESS = "no_address"
    """No network interface can be provisioned."""


PER_CALL: Final = frozenset({Kind.THROTTLE, Kind.ERROR, Kind.RESET, Kind.LATENCY})
PER_REQUEST: Final = frozenset({Kind.CAPACITY})
PER_TASK: Final = frozenset(Kind) - PER_CALL - PER_REQUEST
CAPACITY_REASON: Final = (
    "Capacity is unavailable at this time. Please try again later or in a different availability zone"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault to inject. `times` counts down, `lasts` runs out in seconds; neither: until it is cleared.

    `operations` are the API's names (RunTask, GetObject, …), `services` ecs or s3; empty
    means those the kind is usual for. `share` is how many of the matching calls are hit.
    """

    kind: Kind
    operations: tuple[str, ...] = ()
    service: str = ""
    times: int | None = None
    share: float = 1.0
    lasts: float | None = None
    seconds: float = 0.0
    status: int = 0
    code: str = ""
    message: str = ""
    after_bytes: int | None = None
    exit_code: int = 1

    def __post_init__(self) -> None:
        if self.service not in {"", "ecs", "s3"}:
            raise InvalidInput("service", "ecs or s3")
        if self.kind in PER_CALL and not (self.service or self.operations):
            raise InvalidInput(
                "service", f"{self.kind} must say whose trouble it is: a service or operations"
            )
        if self.times is not None and self.times < 1:
            raise InvalidInput("times", "1 or more")
        if not 0 < self.share <= 1:
            raise InvalidInput("share", "more than 0, at most 1")
        if self.seconds < 0 or (self.lasts is not None and self.lasts < 0):
            raise InvalidInput("seconds", "0 or more")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises InvalidInput for a field or kind that does not exist."""
        unknown = set(data) - {field.name for field in fields(cls)}
        if unknown:
            raise InvalidInput(min(unknown), "no such field of a fault")
        try:
            kind = Kind(data["kind"])
            return cls(**{**data, "kind": kind, "operations": tuple(data.get("operations", ()))})
        except (KeyError, TypeError, ValueError):
            raise InvalidInput("kind", f"one of {', '.join(Kind)}; numbers as numbers") from None

    def to_json(self) -> dict[str, Any]:
        """The inverse, without what was left at its default."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["kind"] = self.kind.value
        return {
            field.name: values[field.name] for field in fields(self) if values[field.name] != field.default
        }

    def concerns(self, service: str, operation: str) -> bool:
        """Whether it may hit that call."""
        if self.service and self.service != service:
            return False
        if self.operations:
            return operation in self.operations
        return self.kind in PER_CALL or operation == "RunTask"


@dataclass
class _Injected:
    fault: Fault
    left: int | None
    until: float | None


class FaultTable:
    """The faults that are to be injected. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._injected: dict[int, _Injected] = {}
        self._random = random.Random()  # noqa: S311 - which call is hit is no secret

    def add(self, fault: Fault) -> int:
        """Inject it from now on; its number."""
        until = None if fault.lasts is None else time.monotonic() + fault.lasts
        with self._lock:
            number = next(self._ids)
            self._injected[number] = _Injected(fault, fault.times, until)
            return number

    def clear(self, number: int | None = None) -> None:
        """Remove one, or all."""
        with self._lock:
            if number is None:
                self._injected.clear()
            else:
                self._injected.pop(number, None)

    def hit(self, service: str, operation: str, kinds: Collection[Kind]) -> list[Fault]:
        """What of those kinds befalls this call or new task, oldest first; each is counted down."""
        with self._lock:
            found = []
            for number, injected in list(self._injected.items()):
                if injected.until is not None and time.monotonic() >= injected.until:
                    del self._injected[number]
                    continue
                fault = injected.fault
                if fault.kind not in kinds or not fault.concerns(service, operation):
                    continue
                if fault.share < 1 and self._random.random() >= fault.share:
                    continue
                found.append(fault)
                if injected.left is not None:
                    injected.left -= 1
                    if injected.left == 0:
                        del self._injected[number]
            return found

    def as_json(self) -> list[dict[str, Any]]:
        """All there are, with what is left of each."""
        with self._lock:
            now = time.monotonic()
            return [
                {
                    "id": number,
                    **injected.fault.to_json(),
                    **({} if injected.left is None else {"left": injected.left}),
                    **({} if injected.until is None else {"seconds_left": max(0.0, injected.until - now)}),
                }
                for number, injected in self._injected.items()
            ]
