"""What an attempt says of how far it is."""

from __future__ import annotations

from typing import Any

from gooseherd.domain.attempt import EventKind
from gooseherd.worker.percentage import Meter


def test_a_wait_is_said_with_all_progress_until_more_of_the_source_arrives() -> None:
    said: list[dict[str, Any]] = []
    meter = Meter(lambda kind, **fields: said.append(fields), wall_clock=lambda: 1000.0)
    meter.begin()
    meter.arrived(0.5, 50)
    meter.waiting("upstream broke off", 12.04)
    meter.running(90.0, 0.1, 40, 10)  # a step reads what has arrived so far
    meter.arrived(0.6, 60)
    waits = [(one.get("detail"), one.get("until")) for one in said]
    assert waits == [(None, None)] * 2 + [("upstream broke off", 1012.0)] * 2 + [(None, None)]
    percents = [one["percent"] for one in said]
    assert percents == sorted(percents)


def test_there_is_no_estimate_during_a_wait() -> None:
    said: list[dict[str, Any]] = []
    time = iter(range(100))
    meter = Meter(lambda kind, **fields: said.append(fields), clock=lambda: float(next(time)))
    meter.arrived(1.0, 50)
    assert said[-1]["eta_seconds"] is not None
    meter.waiting("upstream broke off", 5)
    assert said[-1]["eta_seconds"] is None


def test_the_kind_of_a_wait_is_progress() -> None:
    kinds: list[EventKind] = []
    Meter(lambda kind, **_: kinds.append(kind)).waiting("upstream timed out", 1)
    assert kinds == [EventKind.PROGRESS]
