"""What each client may have: at a time, and of bytes within a minute."""

from __future__ import annotations

import pytest

from gooseherd.api.allowances import ByteBudget, Concurrent, limit_field, policy_field
from gooseherd.api.problems import problem
from gooseherd.domain.errors import LimitReached

MINUTE = 60_000


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_place_is_given_back_however_the_block_ends() -> None:
    counts: list[int] = []
    streams = Concurrent("streams", per_requester=1, total=2, on_change=counts.append)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), streams.place("a"):
            raise ZeroDivisionError
    with streams.place("a"), streams.place("b"):
        pass
    assert counts == [1, 0] * 3 + [1, 2, 1, 0]


def test_one_client_is_refused_before_it_has_all_places_and_all_together_at_the_last() -> None:
    streams = Concurrent("streams", per_requester=2, total=3)
    with streams.place("a"), streams.place("a"):
        with pytest.raises(LimitReached, match="of this requester: 2 of 2"):
            streams.place("a").__enter__()
        with streams.place("b"), pytest.raises(LimitReached, match="streams: 3 of 3"):
            streams.place("c").__enter__()


def test_who_took_more_bytes_than_it_may_waits_until_time_has_made_up_for_it() -> None:
    clock = Clock()
    budget = ByteBudget(MINUTE, clock)
    budget.check("a")
    budget.spend("a", MINUTE - 1000)
    assert budget.check("a") > 0
    budget.spend("a", 11_000)  # a response is sent to its end
    with pytest.raises(LimitReached) as refused:
        budget.check("a")
    assert 10 <= refused.value.retry_after_seconds <= 11
    assert budget.check("b") == MINUTE
    clock.now += refused.value.retry_after_seconds
    assert budget.check("a") > 0
    clock.now += 3600
    assert budget.left("a") == MINUTE


def test_over_an_hour_a_client_gets_what_it_may_and_one_response_more() -> None:
    clock, sent = Clock(), 0
    budget = ByteBudget(MINUTE, clock)
    for _ in range(36_000):
        clock.now += 0.1
        if budget.left("a") > 0:
            budget.spend("a", 5000)
            sent += 5000
    assert 60 * MINUTE <= sent <= 61 * MINUTE + 5000


def test_clients_beyond_number_are_forgotten_oldest_first() -> None:
    budget = ByteBudget(MINUTE, Clock())
    for number in range(10_001):
        budget.spend(str(number), 2 * MINUTE)
    assert budget.left("0") == MINUTE
    assert budget.left("1") < 0


def test_a_refusal_says_the_limit_in_the_fields_of_the_ratelimit_draft() -> None:
    budget = ByteBudget(MINUTE, Clock())
    budget.spend("a", MINUTE)
    with pytest.raises(LimitReached) as refused:
        budget.check("a")
    headers = dict(problem(refused.value, instance="/", request_id="r").headers)
    assert headers[b"ratelimit-policy"] == b'"bytes within a minute";q=60000;w=60;qu="content-bytes"'
    assert headers[b"ratelimit"] == b'"bytes within a minute";r=0;t=1'
    assert headers[b"retry-after"] == b"1"
    assert budget.fields("b") == [
        policy_field("bytes within a minute", MINUTE, 60, "content-bytes"),
        limit_field("bytes within a minute", MINUTE, 1),
    ]
    held = problem(LimitReached("held", 5, 5, 2, unit="concurrent-requests"), instance="/", request_id="r")
    assert dict(held.headers)[b"ratelimit-policy"] == b'"held";q=5;qu="concurrent-requests"'
