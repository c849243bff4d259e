"""Says in the log, each minute, what has been waiting, running or without an owner for too long.

Prometheus computes the same of the metrics; this is for deployments whose alarms watch the log. Each API
process says it, of the jobs of all. Nothing is changed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gooseherd.control.loop import Loop
from gooseherd.control.queue_statistics import JobAges, QueueStatistics
from gooseherd.control.wakeups import Wakeup
from gooseherd.domain.alerts import ALERT_FIELD, Alert

_log = logging.getLogger(__name__)

# As in deploy/prometheus/alerts.yaml.
QUEUE_OLD: Final = timedelta(minutes=30)
UNOWNED: Final = timedelta(minutes=10)
"""The reaper takes a job over when its lease has ended, five minutes later at the latest."""
BEYOND_LIMIT: Final = timedelta(minutes=15)
"""An attempt ends at its limit; finalizing may go on for a while."""
_TICK_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Overdue:
    """One finding, of the job for which it is worst."""

    alert: Alert
    what: str
    seconds: float


def overdue(ages: JobAges, attempt_limit_seconds: float) -> Sequence[Overdue]:
    """What is to be said of these ages."""
    looked_at = (
        (Alert.QUEUE_OLD, "a job waits for too long", ages.oldest_pending, QUEUE_OLD.total_seconds()),
        (Alert.JOB_UNOWNED, "no process takes a job over", ages.lease_overdue, UNOWNED.total_seconds()),
        (
            Alert.JOB_STUCK, "an attempt runs for longer than any may", ages.oldest_attempt,
            attempt_limit_seconds + BEYOND_LIMIT.total_seconds(),
        ),
    )  # fmt: skip
    return [Overdue(alert, what, seconds) for alert, what, seconds, limit in looked_at if seconds > limit]


class OverdueWatch:
    """The loop that says it."""

    def __init__(
        self, queue: QueueStatistics, *, attempt_limit_seconds: float, tick_seconds: float = _TICK_SECONDS
    ) -> None:
        self.loop: Loop[JobAges, Overdue] = Loop(
            "overdue",
            observe=queue.ages,
            plan=lambda ages: overdue(ages, attempt_limit_seconds),
            act=_log_it,
            wakeup=Wakeup(),
            tick_seconds=tick_seconds,
            when_blind=Alert.STORE_AWAY,
        )


async def _log_it(found: Overdue) -> None:
    _log.warning(found.what, extra={ALERT_FIELD: found.alert, "seconds": round(found.seconds)})
