"""When leasing pauses because workers end before they begin, and when it goes on."""

from __future__ import annotations

from gooseherd.control.launch_breaker import LaunchBreaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_two_failures_in_a_row_pause_nothing() -> None:
    breaker = LaunchBreaker()
    breaker.failed()
    breaker.failed()
    assert breaker.allows(4, launching=0) == 4


def test_the_third_pauses_leasing_and_then_one_at_a_time_is_tried() -> None:
    clock = Clock()
    breaker = LaunchBreaker(clock=clock)
    for _ in range(3):
        breaker.failed()
    assert breaker.allows(4, launching=0) == 0
    clock.now += 5
    assert breaker.allows(4, launching=0) == 1
    assert breaker.allows(4, launching=1) == 0
    assert breaker.allows(0, launching=0) == 0


def test_pauses_grow_to_two_minutes() -> None:
    clock = Clock()
    breaker = LaunchBreaker(clock=clock)
    for _ in range(40):
        breaker.failed()
    clock.now += 119
    assert breaker.allows(4, launching=0) == 0
    clock.now += 1
    assert breaker.allows(4, launching=0) == 1


def test_an_attempt_that_begins_ends_the_pause() -> None:
    breaker = LaunchBreaker(clock=Clock())
    for _ in range(5):
        breaker.failed()
    breaker.began()
    assert breaker.allows(4, launching=2) == 4
