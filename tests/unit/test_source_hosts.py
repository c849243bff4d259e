"""Hosts that fail: how far apart the tries of their files are."""

from __future__ import annotations

from datetime import timedelta

from gooseherd.control.source_hosts import SourceHosts
from gooseherd.domain.failures import Reason, Retry, next_try

FIRST, DAY = 30.0, 86400.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_tries_of_all_files_of_a_host_count_until_one_works() -> None:
    hosts = SourceHosts(Clock())
    assert [hosts.failed(f"https://slow.example/{n}") for n in range(3)] == [1, 2, 3]
    assert hosts.failed("https://user:word@SLOW.example/x?sig=1") == 4
    assert hosts.failed("https://other.example/x") == 1
    assert hosts.failed("https://slow.example:8443/x") == 1
    hosts.worked("https://slow.example/9")
    assert hosts.failed("https://slow.example/1") == 1


def test_what_failed_long_ago_is_forgotten() -> None:
    clock = Clock()
    hosts = SourceHosts(clock)
    hosts.failed("https://slow.example/1")
    clock.now += DAY
    assert hosts.failed("https://slow.example/1") == 1


def test_hosts_beyond_number_are_forgotten_oldest_first() -> None:
    hosts = SourceHosts(Clock())
    for number in range(1001):
        hosts.failed(f"https://h{number}.example/")
    assert hosts.failed("https://h0.example/") == 1
    assert hosts.failed("https://h1000.example/") == 2


def test_the_next_try_waits_longer_the_more_its_host_failed_and_never_more_than_eight_times() -> None:
    def delay(ended_so: int, of_host: int) -> timedelta:
        found = next_try(Reason.SOURCE_UNAVAILABLE, ended_so, of_host=of_host)
        assert isinstance(found, Retry)
        return found.delay

    assert [delay(1, of_host).total_seconds() / FIRST for of_host in (0, 1, 2, 3, 4, 100)] == [
        1,
        1,
        2,
        4,
        8,
        8,
    ]
    assert delay(2, 1) == timedelta(seconds=2 * FIRST)
    # How many tries a file has is its own affair: a host that was away for a moment costs none.
    assert next_try(Reason.SOURCE_UNAVAILABLE, 3, of_host=1) is None
