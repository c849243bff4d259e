"""How long and how often upstream is waited for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gooseherd.sources.retry_policy import RetryPolicy, retry_after

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def test_waits_double_up_to_the_bound() -> None:
    patience = RetryPolicy(backoff_seconds=1, max_wait_seconds=10)
    assert [patience.wait(n, None, 1.0) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


@given(failures=st.integers(1, 500), random=st.floats(0, 1), asked=st.none() | st.floats(0, 1e6))
def test_no_wait_is_longer_than_the_bound_or_shorter_than_asked(
    failures: int, random: float, asked: float | None
) -> None:
    patience = RetryPolicy()
    wait = patience.wait(failures, asked, random)
    if wait is None:
        assert asked is not None
        assert asked > patience.max_wait_seconds
    else:
        assert (asked or 0) <= wait <= patience.max_wait_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_is_read_in_both_forms(text: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": text}, NOW) == seconds


def test_no_retry_after_asks_for_nothing() -> None:
    assert retry_after({}, NOW) is None
