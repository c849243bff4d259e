"""The stream of all changes: what a caller sees of it, going on behind an event, one reader for all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.integration.api.test_api_file_states import Counted

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}


class Stream:
    """Events as they come, each with its name, data and id."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self, *wanted: str) -> dict[str, Any]:
        """The next event with one of these names."""
        event: dict[str, Any] = {}
        async with asyncio.timeout(30):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name in ("event", "data", "id"):
                    event[name] = value
                elif not line and "event" in event:
                    if event["event"] in wanted:
                        return {**event, "data": json.loads(event["data"])}
                    event = {}
        raise AssertionError("the stream ended")

    async def of(self, local_id: str, status: str) -> dict[str, Any]:
        while True:
            event = await self.next("job")
            if (event["data"]["local_id"], event["data"]["status"]) == (local_id, status):
                return event


@asynccontextmanager
async def events(town: Any, **headers: str) -> AsyncIterator[Stream]:
    async with town.http.stream("GET", "/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response.aiter_lines())


async def test_it_begins_with_a_resync_and_tells_each_change_of_a_job_and_of_the_queue(town):
    entry = await town.register(local_id="mine")
    async with events(town) as stream:
        await stream.next("resync")
        accepted = (await town.http.get(f"/data/{entry.name}")).json()
        pending = await stream.of("mine", "pending")
        assert pending["data"]["job_id"] == accepted["job_id"]
        assert pending["data"]["waiting"]["reason"] == "queued"
        queue = await stream.next("queue")
        assert queue["data"]["pending"] == 1
        assert queue["data"]["requesters"] is None
        job = await town.run(accepted["job_id"])
        running = await stream.of("mine", "running")
        assert running["data"]["progress"]["step"] == "starting a worker"
        await town.complete(job, await town.publish(entry, b"data"))
        await stream.of("mine", "completed")


async def test_what_was_missed_is_sent_behind_the_last_event_and_a_stranger_is_told_to_read_again(town):
    entries = [await town.register(local_id=f"f{n}") for n in range(3)]
    async with events(town) as stream:
        await stream.next("resync")
        await town.http.get(f"/data/{entries[0].name}")
        seen = await stream.of("f0", "pending")
    await town.http.get(f"/data/{entries[1].name}")
    async with events(town) as other:
        await other.next("resync")  # the reader is the same, and has seen f1 by the next change
        await town.http.get(f"/data/{entries[2].name}")
        await other.of("f2", "pending")
    async with events(town, **{"Last-Event-ID": seen["id"]}) as stream:
        assert (await stream.next("resync", "job"))["data"]["local_id"] == "f1"
        await stream.of("f2", "pending")
    for strange in ("", "x", f"{seen['id'].split('-')[0]}-999999", "0-0"):
        async with events(town, **{"Last-Event-ID": strange}) as stream:
            await stream.next("resync")


async def test_jobs_and_batches_on_hidden_files_are_for_those_who_see_them(town):
    hidden = await town.register(local_id="hidden1", data_access_level="protected")
    shown = await town.register(local_id="shown1")
    async with events(town) as anybody, events(town, **ADMIN) as admin:
        await anybody.next("resync")
        await admin.next("resync")
        await town.http.get(f"/data/{hidden.name}", headers=ADMIN)
        body = {"files": [hidden.name]}
        await town.http.post("/batches", json=body, headers=ADMIN)
        await admin.of("hidden1", "pending")
        await admin.next("batch")
        await town.http.post("/batches", json={"files": [shown.name]})
        await town.advance_batches()
        event = await anybody.next("job", "batch")
        if event["event"] == "job":
            assert event["data"]["local_id"] == "shown1"
        else:
            assert event["data"]["total"] == 1
        assert "hidden1" not in json.dumps(event)


async def test_registering_and_removing_is_told_without_names(town):
    async with events(town) as stream:
        await stream.next("resync")
        entry = {"dcc": "lab", "local_id": "new", "access_url": "https://files.example.org/new.bam"}
        await town.http.post("/files", json=entry, headers=ADMIN)
        assert (await stream.next("catalog"))["data"] == {}
        await town.http.delete("/files/lab/new", headers=ADMIN)
        await stream.next("catalog")


async def test_one_reader_feeds_all_streams_and_rests_without_them(build_town, town):
    counted = await build_town(jobs=Counted(town.jobs))
    calls = counted.dependencies.jobs.calls
    async with events(counted) as one, events(counted) as two, events(counted) as three:
        for stream in (one, two, three):
            await stream.next("resync")
        calls.clear()
        await asyncio.sleep(1.5)
        assert 1 <= calls["find"] <= 3


async def test_the_time_is_asked_once_a_look_however_many_changes_and_listeners(build_town, town):
    counted = await build_town(jobs=Counted(town.jobs))
    calls = counted.dependencies.jobs.calls
    entries = [await counted.register(local_id=f"f{n}") for n in range(4)]
    async with events(counted) as first:
        await first.next("resync")
        for entry in entries:
            await counted.http.get(f"/data/{entry.name}")
        seen = await first.of("f0", "pending")
        await first.of("f3", "pending")
    calls.clear()
    for headers in ({}, ADMIN):
        for _ in range(5):
            async with events(counted, **{"Last-Event-ID": seen["id"]}, **headers) as replayed:
                for name in ("f1", "f2", "f3"):
                    again = await replayed.of(name, "pending")
                    assert again["data"]["job_url"].startswith(counted.url)
    assert calls.get("now", 0) <= 2 * calls.get("find", 0) + 2


async def test_a_stream_ends_when_asked_and_has_a_place_like_those_of_jobs(build_town):
    town = await build_town(event_streams_per_requester=1)
    whole = await town.http.get("/events", params={"seconds": 0})
    assert whole.text.count("event: ") == 1
    async with events(town) as stream:
        await stream.next("resync")
        assert (await town.http.get("/events", params={"seconds": 0})).status_code == 429


async def test_the_end_of_the_service_ends_the_stream(town):
    async with events(town) as stream:
        await stream.next("resync")
        town.dependencies.holds.stop()
        with pytest.raises(AssertionError, match="the stream ended"):
            await stream.next("job")
