"""When leasing pauses because workers end before they begin, and when it goes on."""

from __future__ import annotations

from gooseherd.control.launch_breaker import LaunchBreaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_two_failures_in_a_row_pause_nothing() -> None:
    breaker = LaunchBreaker()
    breaker.failed("no subnet")
    breaker.failed("no subnet")
    assert breaker.allows(4, launching=0) == 4


def test_the_third_pauses_leasing_and_then_one_at_a_time_is_tried() -> None:
    clock = Clock()
    breaker = LaunchBreaker(clock=clock)
    for _ in range(3):
        breaker.failed("no subnet")
    assert breaker.allows(4, launching=0) == 0
    clock.now += 5
    assert breaker.allows(4, launching=0) == 1
    assert breaker.allows(4, launching=1) == 0
    assert breaker.allows(0, launching=0) == 0


def test_pauses_grow_to_two_minutes() -> None:
    clock = Clock()
    breaker = LaunchBreaker(clock=clock)
    for _ in range(40):
        breaker.failed("no subnet")
    clock.now += 119
    assert breaker.allows(4, launching=0) == 0
    clock.now += 1
    assert breaker.allows(4, launching=0) == 1


def test_an_attempt_that_begins_ends_the_pause() -> None:
    breaker = LaunchBreaker(clock=Clock())
    for _ in range(5):
        breaker.failed("no subnet")
    breaker.began()
    assert breaker.allows(4, launching=2) == 4


def test_what_is_wrong_is_known_while_leasing_pauses() -> None:
    breaker = LaunchBreaker(clock=Clock())
    known = []
    for setting in ("ECS_CLUSTER", "ECS_WORKER_SUBNETS", "ECS_WORKER_TASK_DEFINITION"):
        breaker.failed(f"{setting}: no")
        known.append(breaker.trouble)
    breaker.began()
    assert [*known, breaker.trouble] == [None, None, "ECS_WORKER_TASK_DEFINITION: no", None]
