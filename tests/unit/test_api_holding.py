"""Whose requests are held, for how long, and where they go on."""

from __future__ import annotations

import pytest

from gooseherd.api.holding import HOPS, Client, Holds, client_of, hold_seconds, next_query
from gooseherd.domain.errors import LimitReached
from gooseherd.domain.job import Requester

CHROMIUM = b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36"
HTML = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
JAVA = b"text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ({b"sec-fetch-mode": b"cors"}, Client.VIEWER),
        ({b"sec-fetch-mode": b"same-origin"}, Client.VIEWER),
        ({b"sec-fetch-mode": b"no-cors"}, Client.VIEWER),
        ({b"sec-fetch-mode": b"navigate", b"user-agent": CHROMIUM}, Client.NAVIGATION),
        ({b"sec-fetch-mode": b"websocket"}, Client.PROGRAM),
        ({b"origin": b"http://portal.example.org"}, Client.VIEWER),
        ({b"user-agent": CHROMIUM, b"accept": b"*/*"}, Client.VIEWER),
        ({b"user-agent": CHROMIUM, b"accept": HTML}, Client.NAVIGATION),
        ({b"user-agent": b"Java/17.0.1", b"accept": JAVA}, Client.PROGRAM),
        ({b"user-agent": b"curl/8.5.0", b"accept": b"*/*"}, Client.PROGRAM),
        ({b"user-agent": b"IGV Version 2.17", b"accept": b"text/plain"}, Client.PROGRAM),
        ({}, Client.PROGRAM),
    ],
)
def test_who_asks_is_read_from_the_headers(headers, client):
    assert client_of(headers) is client


def test_a_browser_is_held_shortly_at_first_and_then_as_long_as_is_allowed():
    holds = [hold_seconds(hop, 50, browser=True) or 0 for hop in range(HOPS + 1)]
    assert holds[:4] == [2, 2, 2, 5]
    assert holds == sorted(holds)
    assert holds[-1] == 50


def test_a_tool_is_held_as_long_as_is_allowed_from_the_start():
    assert hold_seconds(0, 50, browser=False) == 50


def test_a_hold_is_never_longer_than_is_allowed():
    assert {hold_seconds(hop, 1.5, browser=True) for hop in range(HOPS + 1)} == {1.5}


def test_after_as_many_redirects_as_browsers_follow_nobody_is_held():
    assert hold_seconds(HOPS, 50, browser=True) == 50
    assert hold_seconds(HOPS + 1, 50, browser=True) is None
    assert hold_seconds(10**8, 50, browser=False) is None


@pytest.mark.parametrize(
    ("query", "hop", "expected"),
    [
        (b"", 0, "hop=1"),
        (b"hop=1", 1, "hop=2"),
        (b"token=a%20b", 0, "token=a%20b&hop=1"),
        (b"hop=3&token=x", 3, "token=x&hop=4"),
        (b"token=x&hop=3", 3, "token=x&hop=4"),
        (b"a=1&hop=3&b=2&hop=9", 9, "a=1&b=2&hop=10"),
        (b"shop=3", 0, "shop=3&hop=1"),
    ],
)
def test_a_redirect_changes_nothing_of_the_query_but_the_hop(query, hop, expected):
    assert next_query(query, hop) == expected


def test_held_requests_are_bounded_for_each_requester_and_in_all():
    holds, one, two, three = Holds(per_requester=1, total=2), *map(Requester, "123")
    with holds.place(one):
        with pytest.raises(LimitReached, match="this requester"), holds.place(one):
            pass
        with holds.place(two), pytest.raises(LimitReached, match="held requests: 2 of 2"), holds.place(three):
            pass
    with holds.place(one), holds.place(three):
        pass


async def test_stopping_ends_the_holds_there_are_and_those_to_come():
    holds = Holds(per_requester=1, total=1)
    before = holds.stopping
    assert not before.done()
    holds.stop()
    holds.stop()
    assert before.done()
    assert holds.stopping.done()
    early = Holds(per_requester=1, total=1)
    early.stop()
    assert early.stopping.done()
