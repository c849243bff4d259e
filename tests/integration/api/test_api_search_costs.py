"""What one question of /search may read, where it is worked on, and how many one requester may have open."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from tests.integration.api.test_api_search import found, genes, with_names

from gooseherd.api import name_search
from gooseherd.domain.artifact import Kind

pytestmark = pytest.mark.integration

A = {"X-Forwarded-For": "198.51.100.1"}
B = {"X-Forwarded-For": "198.51.100.2"}


def alike(count: int) -> bytes:
    """Rows whose names begin alike."""
    return b"".join(b"chr1\tx\tgene\t5\t9\t.\t+\t.\tID=g%d;Name=peak%07d\n" % (n, n) for n in range(count))


async def test_a_question_reads_so_many_bytes_of_all_its_files_and_takes_them_apart_off_the_event_loop(
    town: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [await genes(town) for _ in range(8)]
    indexes = set()
    for entry in entries:
        part = (await with_names(town, entry, alike(20_000))).part(Kind.NAMES)
        assert part is not None
        assert part.size > 1 << 20
        indexes.add(part.key)
    read = 0
    inner = town.cache.inner.get

    def counted(key: Any, span: Any = None) -> Any:
        nonlocal read
        read += len(span) if key in indexes else 0
        return inner(key, span)

    monkeypatch.setattr(town.cache.inner, "get", counted)
    threads, taken_apart = set(), 0
    matching = name_search._matching

    def watched(*items: Any, **how: Any) -> Any:
        nonlocal taken_apart
        taken_apart += 1
        threads.add(threading.current_thread())
        return matching(*items, **how)

    monkeypatch.setattr(name_search, "_matching", watched)
    names = ",".join(entry.name for entry in entries)
    assert (await found(town, q="peak nothing", files=names))["results"] == []
    assert 1 << 20 < read <= 4 << 20
    assert taken_apart == 0
    answer = await found(town, q="peak0000012", files=names)
    assert {one["file"] for one in answer["results"]} == {entry.name for entry in entries}
    assert threads
    assert threading.current_thread() not in threads


async def test_searches_of_one_requester_are_bounded_and_given_back(
    build_town: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = await build_town(searches_per_requester=1, trusted_proxies=1)
    entry = await genes(town)
    part = (await with_names(town, entry)).part(Kind.NAMES)
    assert part is not None
    reading, go_on = asyncio.Event(), asyncio.Event()
    real = town.cache.get

    def slow(key: Any, *span: Any) -> Any:
        async def chunks() -> Any:
            if key == part.key:
                reading.set()
                await go_on.wait()
            async for chunk in real(key, *span):
                yield chunk

        return chunks()

    monkeypatch.setattr(town.cache, "get", slow)
    path = f"/search?q=BRCA1&files={entry.name}"
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(town.http.get(path, headers=A))
        await reading.wait()
        refused = await town.http.get(path, headers=A)
        other = tasks.create_task(town.http.get(path, headers=B))
        go_on.set()
    assert (refused.status_code, refused.json()["allowed"]) == (429, 1)
    assert [first.result().status_code, other.result().status_code] == [200, 200]
    assert (await town.http.get(path, headers=A)).status_code == 200
