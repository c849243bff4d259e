"""How long a place in the queue is said to take, from how fast jobs start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gooseherd.domain.queueing import expected_wait

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass
class Started:
    started_at: datetime


def started(*minutes_ago: float) -> list[Started]:
    return [Started(NOW - minutes * MINUTE) for minutes in minutes_ago]


def test_starts_of_the_last_minutes_tell_where_there_are_enough() -> None:
    assert expected_wait(0, started(1, 2, 3, 9, 100), NOW) == 9 * 60 / 4
    assert expected_wait(3, started(1, 2, 3, 9, 100), NOW) == 9 * 60


def test_two_workers_with_jobs_of_twenty_minutes_have_an_estimate() -> None:
    starts = started(*range(5, 400, 10))
    assert expected_wait(0, starts, NOW) == 55 * 60 / 6
    assert expected_wait(5, starts, NOW) == 55 * 60


def test_jobs_of_hours_have_one_too() -> None:
    assert expected_wait(0, started(70, 190, 310, 1000), NOW) == round(310 * 60 / 3, 1)


def test_before_anything_else_is_known_each_may_take_as_long_again_as_it_has_run() -> None:
    running_since = [NOW - 15 * MINUTE, NOW - 25 * MINUTE]
    assert expected_wait(0, started(15, 25), NOW, running_since) == 10 * 60
    assert expected_wait(2, started(15, 25), NOW, running_since) == 30 * 60


def test_of_nothing_at_all_nothing_is_said() -> None:
    assert expected_wait(0, [], NOW) is None
    assert expected_wait(0, started(1, 400, 401), NOW) is None
