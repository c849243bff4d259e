"""What nginx in front is told that asks for the file at an address."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gooseherd.api.artifact_delivery import ArtifactDelivery
from gooseherd.domain.errors import StoreUnavailable
from gooseherd.domain.source import AccessLevel

ASKS = {"X-Sendfile-Type": "lookup"}
RANGE = {"Range": "bytes=0-9"}


@pytest.fixture
async def asked(build_hot_town):
    """(town, entry, a clock, what nginx is told)."""
    now = [0.0]
    town = await build_hot_town(delivery=ArtifactDelivery(mode="accel"), clock=lambda: now[0])
    entry = await town.register(filename="reads.bam")
    await town.publish(entry, bytes(1000))
    path = f"/data/{entry.name}"

    async def told():
        answer = await town.http.get(path, headers=ASKS)
        return answer.status_code, answer.headers["x-artifact-file"]

    assert await told() == (200, "-")  # nobody has asked for it yet
    assert (await town.http.get(path, headers=RANGE)).status_code == 206
    return town, entry, now, told


async def test_a_file_is_named_whenever_nginx_asks(asked):
    _, _, now, told = asked
    found = await told()
    assert found[0] == 204
    for now[0] in (1.5, 3.6, 10.0, 100.0):
        assert await told() == found


async def test_nginxs_connections_that_ask_together_read_the_store_once(asked, monkeypatch):
    town, _, now, told = asked
    reads, get = [], town.files.get

    async def counted(*ids):
        reads.append(ids)
        await asyncio.sleep(0.05)
        return await get(*ids)

    monkeypatch.setattr(town.files, "get", counted)
    now[0] = 5.0
    answers = await asyncio.gather(*(told() for _ in range(20)))
    assert ({status for status, _ in answers}, len(reads)) == ({204}, 1)


async def test_a_file_that_is_no_longer_public_is_not_named(asked):
    town, entry, now, told = asked
    assert (await told())[0] == 204
    await town.files.put([replace(entry, access_level=AccessLevel.PROTECTED)])  # by another process
    now[0] = 2.0
    assert await told() == (200, "-")
    assert await told() == (200, "-")


async def test_nginx_is_told_of_nothing_that_was_read_more_than_a_second_ago(asked):
    """It keeps the answer for up to three seconds, and a file that is not public is sent for four at most."""
    town, entry, now, told = asked
    await town.files.put([replace(entry, access_level=AccessLevel.PROTECTED)])  # by another process
    now[0] = 0.9
    assert (await told())[0] == 204
    now[0] = 1.0
    assert await told() == (200, "-")


async def test_what_nginx_keeps_it_keeps_for_a_moment_and_clients_get_their_own_lifetime(asked):
    town, entry, _, _ = asked
    answer = await town.http.get(f"/data/{entry.name}", headers=ASKS)
    direct = await town.http.get(f"/data/{entry.name}", headers=RANGE)
    assert answer.headers["cache-control"] == "max-age=1, stale-while-revalidate=1"
    assert answer.headers["x-artifact-cache-control"] == direct.headers["cache-control"]


async def test_a_file_is_not_named_while_the_store_does_not_answer(asked, monkeypatch):
    town, _, now, told = asked

    async def fail(*_):
        raise StoreUnavailable("files.get")

    monkeypatch.setattr(town.files, "get", fail)
    now[0] = 2.0
    assert await told() == (200, "-")


async def test_a_file_is_not_named_by_a_server_that_is_stopping(asked):
    town, _, _, told = asked
    town.dependencies.holds.stop()
    assert await told() == (200, "-")
