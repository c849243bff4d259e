"""The one shape of every control loop: observe, plan, act, report.

`observe` does I/O, `plan` is pure, `act` does I/O and is idempotent. A read that failed
ends the pass with no action: not seeing is not seeing gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gooseherd import telemetry
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.alerts import ALERT_FIELD, Alert
from gooseherd.domain.errors import Conflict, GooseherdError, Misconfigured, Unavailable

_log = logging.getLogger(__name__)

O = TypeVar("O")  # noqa: E741 - an observation
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class PassReport(Generic[A]):
    """What one pass decided and how it went; `seen` is False when the observation itself failed."""

    seen: bool
    planned: Sequence[A] = ()
    lost_races: int = 0
    errors: int = 0


class Loop(Generic[O, A]):
    """Run a pass at each wake-up, and every `tick_seconds` as a safety net.

    `when_blind`: the alert that the log line of a pass without an observation stands for. `next_pass`: in how
    many seconds after a pass the next one begins, where that is not `tick_seconds`.
    """

    def __init__(
        self,
        name: str,
        *,
        observe: Callable[[], Awaitable[O]],
        plan: Callable[[O], Sequence[A]],
        act: Callable[[A], Awaitable[None]],
        wakeup: Wakeup,
        tick_seconds: float,
        when_blind: Alert | None = None,
        next_pass: Callable[[PassReport[A]], float] | None = None,
    ) -> None:
        self.name = name
        self._observe = observe
        self._plan = plan
        self._act = act
        self._wakeup = wakeup
        self._tick_seconds = tick_seconds
        self._next_pass = next_pass
        self._when_blind = {} if when_blind is None else {ALERT_FIELD: when_blind}
        for outcome in ("ok", "errors", "blind", "crashed"):
            # There from the start: an increase from nothing is none to Prometheus.
            telemetry.LOOP_PASSES.labels(name, outcome)

    async def run_once(self, *, dry_run: bool = False) -> PassReport[A]:
        """One pass. With `dry_run` nothing is done; the report says what would be."""
        try:
            observation = await self._observe()
        except (Unavailable, Misconfigured) as error:  # as a store that refuses its password
            return self._report(PassReport(seen=False), because=error)
        planned = self._plan(observation)
        if dry_run:
            return PassReport(seen=True, planned=planned)
        lost = errors = 0
        for action in planned:
            try:
                await self._act(action)
            except Conflict:
                lost += 1
            except GooseherdError as error:
                errors += 1
                _log.warning(
                    "action failed", extra={"loop": self.name, "action": repr(action), "error": str(error)}
                )
        return self._report(PassReport(seen=True, planned=planned, lost_races=lost, errors=errors))

    def _report(self, report: PassReport[A], because: Exception | None = None) -> PassReport[A]:
        outcome = "blind" if not report.seen else "errors" if report.errors else "ok"
        telemetry.LOOP_PASSES.labels(self.name, outcome).inc()
        if because is not None:
            _log.warning(
                "pass ended without an observation",
                extra={"loop": self.name, "error": str(because), **self._when_blind},
            )
        elif report.planned:
            _log.debug(
                "pass",
                extra={"loop": self.name, "actions": len(report.planned), "lost": report.lost_races},
            )
        return report

    async def run(self) -> None:
        """Passes until cancelled. An unexpected error is logged and the next pass is made all the same."""
        while True:
            seconds = self._tick_seconds
            try:
                report = await self.run_once()
                if self._next_pass is not None:
                    seconds = self._next_pass(report)
            except asyncio.CancelledError:
                raise
            except Exception:
                telemetry.LOOP_PASSES.labels(self.name, "crashed").inc()
                _log.exception("pass crashed", extra={"loop": self.name})
            await self._wakeup.wait(seconds)
