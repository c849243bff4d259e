"""What an attempt says of how far it is."""

from __future__ import annotations

from typing import Any

from gooseherd.domain.attempt import EventKind
from gooseherd.worker.progress import ProgressReporter


def test_a_wait_is_said_with_all_progress_until_more_of_the_source_arrives() -> None:
    lines: list[dict[str, Any]] = []
    progress = ProgressReporter(lambda kind, **fields: lines.append(fields), wall_clock=lambda: 1000.0)
    progress.begin_step()
    progress.arrived(0.5, 50)
    progress.waiting("upstream broke off", 12.04)
    progress.running(90.0, 0.1, 40, 10)  # a step reads what has arrived so far
    progress.arrived(0.6, 60)
    waits = [(one.get("detail"), one.get("until")) for one in lines]
    assert waits == [(None, None)] * 2 + [("upstream broke off", 1012.0)] * 2 + [(None, None)]
    percents = [one["percent"] for one in lines]
    assert percents == sorted(percents)


def test_there_is_no_estimate_during_a_wait() -> None:
    lines: list[dict[str, Any]] = []
    time = iter(range(100))
    progress = ProgressReporter(lambda kind, **fields: lines.append(fields), clock=lambda: float(next(time)))
    progress.arrived(1.0, 50)
    assert lines[-1]["eta_seconds"] is not None
    progress.waiting("upstream broke off", 5)
    assert lines[-1]["eta_seconds"] is None


def test_the_kind_of_a_wait_is_progress() -> None:
    kinds: list[EventKind] = []
    ProgressReporter(lambda kind, **_: kinds.append(kind)).waiting("upstream timed out", 1)
    assert kinds == [EventKind.PROGRESS]
