"""One requester does not take what the others need: streams, raw bytes, bytes a minute."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

A = {"X-Forwarded-For": "198.51.100.1"}
A_AGAIN = {"X-Forwarded-For": "198.51.100.1:4711"}
B = {"X-Forwarded-For": "198.51.100.2"}


async def opened(town: Any, stack: AsyncExitStack, path: str, headers: dict[str, str]) -> Any:
    return await stack.enter_async_context(town.http.stream("GET", path, headers=headers))


async def until(look: Any) -> None:
    for _ in range(1000):
        if await look():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("not in time")


async def test_event_streams_of_one_requester_are_bounded_and_given_back(build_town: Any) -> None:
    town = await build_town(event_streams_per_requester=2, event_streams=3, trusted_proxies=1)
    entry = await town.register()
    job = (await town.http.get(f"/data/{entry.name}", headers=A)).json()["job_id"]
    events = f"/jobs/{job}/events"
    async with AsyncExitStack() as stack:
        for _ in range(2):
            assert (await opened(town, stack, events, A)).status_code == 200
        refused = await town.http.get(events, headers=A_AGAIN)
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["ratelimit-policy"].endswith(';q=2;qu="concurrent-requests"')
        assert int(refused.headers["retry-after"]) > 0
        assert (await opened(town, stack, events, B)).status_code == 200
        assert (await town.http.get(events, headers=B)).status_code == 429  # there are three in all

    async def free() -> bool:
        async with town.http.stream("GET", events, headers=A) as again:
            return bool(again.status_code == 200)

    await until(free)
    await until(free)


async def test_a_head_of_a_stream_gives_its_place_back(build_town: Any) -> None:
    town = await build_town(event_streams_per_requester=1)
    entry = await town.register()
    job = (await town.http.get(f"/data/{entry.name}")).json()["job_id"]

    async def answered() -> bool:
        return bool((await town.http.head(f"/jobs/{job}/events")).status_code == 200)

    for _ in range(3):
        await until(answered)  # the place is free a moment after the headers are there


async def test_raw_responses_of_one_requester_are_bounded_and_given_back(build_town: Any) -> None:
    town = await build_town(raw_per_requester=1, trusted_proxies=1)
    entry = await town.register()
    town.upstream.files[entry.access_url] = b"x" * 30_000_000  # more than fits between the two sockets
    path = f"/data/{entry.name}?raw=true"
    async with AsyncExitStack() as stack:
        assert (await opened(town, stack, path, A)).status_code == 200
        refused = await town.http.get(path, headers=A)
        assert (refused.status_code, refused.json()["allowed"]) == (429, 1)
        assert (await opened(town, stack, path, B)).status_code == 200

    async def free() -> bool:
        async with town.http.stream("GET", path, headers=A) as again:
            return bool(again.status_code == 200)

    await until(free)


async def test_bytes_a_minute_are_bounded_by_requester_and_shown_in_headers(build_hot_town: Any) -> None:
    town = await build_hot_town(bytes_per_minute=100_000, trusted_proxies=1)
    entry = await town.register()
    await town.publish(entry, b"x" * 250_000)
    path = f"/data/{entry.name}"
    first = await town.http.get(path, headers={**A, "Range": "bytes=0-999"})
    policy = '"bytes within a minute";q=100000;w=60;qu="content-bytes"'
    assert first.headers["ratelimit-policy"] == policy
    assert first.headers["ratelimit"].startswith('"bytes within a minute";r=100000;t=')
    whole = await town.http.get(path, headers=A_AGAIN)
    assert len(whole.content) == 250_000  # begun within the limit, it is sent to its end
    refused = await town.http.get(path, headers={**A, "Range": "bytes=0-9"})
    assert refused.status_code == 429
    assert refused.headers["ratelimit"].startswith('"bytes within a minute";r=0;t=')
    assert 60 < int(refused.headers["retry-after"]) <= 91
    assert "RateLimit" in refused.headers["access-control-expose-headers"]
    assert (await town.http.get(f"/index/{entry.name}", headers=A)).status_code == 429
    for headers in (B, {**A, "X-API-Key": "the-admin-key"}):
        assert (await town.http.get(path, headers={**headers, "Range": "bytes=0-9"})).status_code == 206
    assert (await town.http.head(path, headers=A)).status_code == 200
    assert (await town.http.get("/healthz", headers=A)).status_code == 200


async def test_who_is_over_its_bytes_may_ask_again_when_time_has_made_up_for_it(build_hot_town: Any) -> None:
    now = [1000.0]
    town = await build_hot_town(bytes_per_minute=60_000, clock=lambda: now[0])
    entry = await town.register()
    await town.publish(entry, b"x" * 90_000)
    path = f"/data/{entry.name}"
    assert (await town.http.get(path)).status_code == 200
    refused = await town.http.get(path)
    assert refused.status_code == 429
    now[0] += int(refused.headers["retry-after"])
    assert (await town.http.get(path)).status_code == 200


async def test_raw_bytes_count_too(build_town: Any) -> None:
    town = await build_town(bytes_per_minute=5000)
    entry = await town.register()
    town.upstream.files[entry.access_url] = b"x" * 10_000
    path = f"/data/{entry.name}?raw=true"
    assert len((await town.http.get(path)).content) == 10_000
    assert (await town.http.get(path)).status_code == 429


@pytest.mark.parametrize("path", ["/files", "/jobs"])
async def test_without_a_limit_no_answer_speaks_of_one(town: Any, path: str) -> None:
    assert "ratelimit" not in (await town.http.get(path)).headers
