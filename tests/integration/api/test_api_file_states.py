"""What the catalog tells of each entry in one call: ready or not, its job, and where its parts are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gooseherd.domain.failures import Reason
from gooseherd.domain.source import SourceFile

pytestmark = pytest.mark.integration

DATA, INDEX = b"BAM\1" + b"d" * 3000, b"BAI\1" + b"i" * 300


class Counted:
    """A store or cache whose calls are counted by name."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            return found(*args, **kwargs)

        return counted


async def listed(town: Any, **query: Any) -> dict[str, Any]:
    files = (await town.http.get("/files", params=query)).json()["files"]
    return {f"{file['dcc']}/{file['local_id']}": file for file in files}


async def test_the_list_and_the_entry_tell_what_is_ready_and_what_its_job_does(town):
    cold, live, bad, made, odd = [
        await town.register(local_id=name, **more)
        for name, more in (
            ("cold", {}),
            ("live", {}),
            ("bad", {}),
            ("made", {}),
            ("odd", {"filename": "x.cram"}),
        )
    ]
    ids = {e.local_id: (await town.http.get(f"/data/{e.name}")).json()["job_id"] for e in (live, bad, made)}
    await town.run(ids["live"])
    await town.fail(await town.run(ids["bad"]), Reason.SOURCE_INVALID, "line 3 is none")
    job = await town.run(ids["made"])
    await town.complete(job, await town.publish(made, DATA, INDEX))
    found = await listed(town)
    alone = {e.name: (await town.http.get(f"/files/{e.name}")).json() for e in (cold, live, bad, made, odd)}
    for answers in (found, alone):
        assert {name: file["ready"] for name, file in answers.items()} == {
            "4dn/cold": False,
            "4dn/live": False,
            "4dn/bad": False,
            "4dn/made": True,
            "4dn/odd": False,
        }
        assert answers["4dn/cold"]["job"] is None
        running = answers["4dn/live"]["job"]
        assert (running["job_id"], running["status"], running["progress"]["step"]) == (
            ids["live"],
            "running",
            "starting a worker",
        )
        failed = answers["4dn/bad"]["job"]
        assert (failed["status"], failed["reason"], failed["detail"], failed["retryable"]) == (
            "failed",
            "source_invalid",
            "line 3 is none",
            False,
        )
        assert "cram" in answers["4dn/odd"]["problem"]
        urls = answers["4dn/made"]["urls"]
        assert {kind: url.split("/")[3] for kind, url in urls.items()} == {
            "data": "artifacts",
            "index": "artifacts",
        }
        assert urls == answers["4dn/made"]["artifact_urls"]
        assert (await town.http.get(urls["index"])).content == INDEX
        assert set(answers["4dn/cold"]["urls"]) == {"data", "index", "density"}
        assert answers["4dn/cold"]["urls"]["data"].startswith(f"{town.url}/files/4dn/cold/")
        assert answers["4dn/cold"]["artifact_urls"] is None


async def test_a_pending_entry_tells_its_place_in_the_queue(town):
    first, second = await town.register(), await town.register()
    for entry in (first, second):
        await town.http.get(f"/data/{entry.name}")
    job = (await town.http.get(f"/files/{second.name}")).json()["job"]
    assert (job["status"], job["position"], job["waiting"]["reason"]) == ("pending", 1, "queued")


async def test_a_page_of_many_asks_the_store_twice_and_the_cache_once_for_each_unknown(build_town, town):
    counted = await build_town(jobs=Counted(town.jobs), cache=Counted(town.cache))
    for _ in range(60):
        await counted.register()
    made = [await counted.register(local_id=f"made{n}") for n in range(3)]
    for entry in made:
        await counted.publish(entry, DATA, INDEX)
    for calls in (counted.dependencies.jobs.calls, counted.dependencies.cache.calls):
        calls.clear()
    for _ in range(3):
        found = await listed(counted, limit=200)
        assert {name for name, file in found.items() if file["ready"]} == {entry.name for entry in made}
    assert counted.dependencies.jobs.calls == {"latest_of": 3}
    assert counted.dependencies.cache.calls == {"head": 63}


async def test_a_list_without_states_looks_neither_for_jobs_nor_into_the_cache(build_town, town):
    counted = await build_town(jobs=Counted(town.jobs), cache=Counted(town.cache))
    for number in range(3):
        await counted.register(local_id=f"file{number}")
    bad = await counted.register(local_id="odd", filename="x.cram")
    for calls in (counted.dependencies.jobs.calls, counted.dependencies.cache.calls):
        calls.clear()
    bare = await listed(counted, states="false")
    assert counted.dependencies.jobs.calls == counted.dependencies.cache.calls == {}
    full = await listed(counted)
    assert {name: (file["ready"], file["job"]) for name, file in bare.items()} == {
        name: (False if name == bad.name else None, None) for name in full
    }
    of_state = ("ready", "job")
    for name, file in full.items():
        assert {k: v for k, v in bare[name].items() if k not in of_state} == {
            k: v for k, v in file.items() if k not in of_state
        }


async def test_what_was_not_there_a_moment_ago_is_ready_as_soon_as_its_job_is(town):
    entry = await town.register()
    assert (await listed(town))[entry.name]["ready"] is False
    accepted = (await town.http.get(f"/data/{entry.name}")).json()
    job = await town.run(accepted["job_id"])
    await town.complete(job, await town.publish(entry, DATA, INDEX))
    assert (await listed(town))[entry.name]["ready"] is True


async def test_a_cache_that_does_not_answer_in_time_leaves_ready_unknown_until_it_has(build_town, town):
    let_go = asyncio.Event()

    class Slow(Counted):
        async def head(self, key: Any) -> Any:
            await let_go.wait()
            return await self._inner.head(key)

    slow = await build_town(cache=Slow(town.cache))
    entry = await slow.register()
    await slow.publish(entry, DATA, INDEX)
    assert (await listed(slow))[entry.name]["ready"] is None
    let_go.set()
    for _ in range(200):
        if (await listed(slow))[entry.name]["ready"] is not None:
            break
    assert (await listed(slow))[entry.name]["ready"] is True


async def test_the_job_of_a_hidden_entry_with_the_same_content_is_shown_without_its_names(town):
    hidden: SourceFile = await town.register(filename="secret.bam", data_access_level="protected")
    shown = await town.register(md5=hidden.md5, filename="open.bam")
    await town.http.get(f"/data/{hidden.name}", headers={"X-API-Key": "the-admin-key"})
    for job in (
        (await listed(town))[shown.name]["job"],
        (await town.http.get(f"/files/{shown.name}")).json()["job"],
    ):
        assert job["status"] == "pending"
        assert (job["dcc"], job["local_id"], job["filename"]) == ("hidden", "hidden", "hidden")
    assert hidden.name not in await listed(town)


async def test_without_processing_everything_is_ready_as_upstream_has_it(build_town):
    town = await build_town(processing=False)
    entry, gone = await town.register(), await town.register(status="withdrawn")
    found = await listed(town)
    assert (found[entry.name]["ready"], found[entry.name]["job"]) == (True, None)
    assert (found[gone.name]["ready"], found[gone.name]["problem"]) == (False, "withdrawn")
