"""Entries without a size get it from their source when they are first asked for, and not before."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from gooseherd.api import describing
from gooseherd.domain.job import JobId
from gooseherd.domain.ports.source import SourceDetails
from gooseherd.domain.ports.store import JobQuery
from gooseherd.sources.rules import OutboundRules

pytestmark = pytest.mark.integration

ADMIN = {"X-API-Key": "the-admin-key"}
TOLD = SourceDetails(18_000, '"v1"')


async def jobs_of(town):
    return (await town.jobs.find(JobQuery())).jobs


async def stored(town, entry):
    return await town.files.get(entry.dcc, entry.local_id)


async def test_the_first_get_asks_the_source_once_and_the_catalog_keeps_the_answer(town):
    entry = await town.register(md5=None)
    town.upstream.known_details[entry.access_url] = TOLD
    answer = await town.http.get(f"/data/{entry.name}")
    assert answer.status_code == 202
    kept = await stored(town, entry)
    assert (kept.size_in_bytes, kept.version_tag) == (18_000, '"v1"')
    assert (await town.http.get(f"/files/{entry.name}")).json()["size_in_bytes"] == 18_000
    (job,) = await jobs_of(town)
    assert job.source == kept
    assert str(kept.identity) in job.workflow_key
    for path in (f"/data/{entry.name}", f"/index/{entry.name}"):
        assert (await town.http.get(path)).json()["job_id"] == job.job_id
    assert (await town.http.get(f"/data/{entry.name}/status")).json()["job_id"] == job.job_id
    assert town.upstream.details_asked == [entry.access_url]


async def test_beside_a_digest_only_the_size_is_kept(town):
    entry = await town.register()
    town.upstream.known_details[entry.access_url] = TOLD
    await town.http.get(f"/data/{entry.name}")
    kept = await stored(town, entry)
    assert (kept.size_in_bytes, kept.version_tag, kept.identity) == (18_000, None, entry.identity)


async def test_many_requests_of_two_processes_share_the_answer_and_the_job(build_town):
    towns = [await build_town(), await build_town()]
    entry = await towns[0].register(md5=None)
    for number, town in enumerate(towns):
        # They may be told different things; what is stored first decides.
        town.upstream.known_details[entry.access_url] = SourceDetails(100 + number, f"v{number}")
    answers = await asyncio.gather(
        *(
            town.http.get(f"/{kind}/{entry.name}")
            for town in towns
            for kind in ("data", "index")
            for _ in range(10)
        )
    )
    assert {answer.status_code for answer in answers} == {202}
    (job,) = await jobs_of(towns[0])
    assert job.source == await stored(towns[0], entry)
    assert all(len(town.upstream.details_asked) <= 1 for town in towns)


async def test_what_another_process_has_learnt_is_not_asked_again(build_town):
    first, second = await build_town(), await build_town()
    entry = await first.register(md5=None)
    assert (await second.http.get(f"/files/{entry.name}")).status_code == 200  # and remembers it
    first.upstream.known_details[entry.access_url] = TOLD
    one = await first.http.get(f"/data/{entry.name}")
    other = await second.http.get(f"/data/{entry.name}")
    assert one.json()["job_id"] == other.json()["job_id"]
    assert second.upstream.details_asked == []


async def test_neither_registration_nor_import_nor_looking_asks(town):
    item = {
        "dcc": "4dn",
        "local_id": "x",
        "filename": "x.bam",
        "access_url": "https://files.example.org/x.bam",
    }
    assert (await town.http.post("/files", json=item, headers=ADMIN)).status_code == 200
    await town.http.post("/files/import", content=json.dumps(item), headers=ADMIN)
    await town.http.get("/files/4dn/x")
    await town.http.get("/data/4dn/x/status")
    assert (await town.http.head("/data/4dn/x")).status_code == 404
    assert town.upstream.details_asked == []


async def test_what_is_published_already_is_served_without_asking(town):
    entry = await town.register(md5=None)
    await town.publish(entry, b"BAM")
    assert (await town.http.get(f"/data/{entry.name}")).content == b"BAM"
    assert town.upstream.details_asked == []


async def test_what_is_published_under_what_the_source_tells_is_served_at_once(town):
    entry = await town.register(md5=None)
    known = await town.register(
        md5=None, access_url=entry.access_url, size_in_bytes=18_000, version_tag='"v1"'
    )
    await town.publish(known, b"BAM")
    town.upstream.known_details[entry.access_url] = TOLD
    assert (await town.http.get(f"/data/{entry.name}")).content == b"BAM"
    assert await jobs_of(town) == ()


async def test_a_source_that_refuses_to_tell_is_prepared_all_the_same(town):
    entry = await town.register(md5=None)
    first = await town.http.get(f"/data/{entry.name}")
    assert first.status_code == 202
    assert await stored(town, entry) == entry
    # A job stands for what the entry says now; a later answer must not make a second one.
    town.upstream.known_details[entry.access_url] = TOLD
    assert (await town.http.get(f"/index/{entry.name}")).json()["job_id"] == first.json()["job_id"]
    assert len(await jobs_of(town)) == 1
    assert await stored(town, entry) == entry


async def test_a_source_that_hangs_is_left_after_a_moment(build_town, monkeypatch):
    monkeypatch.setattr(describing, "DETAILS_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        rules = OutboundRules(allow_http=True, allow_networks=("127.0.0.1/32",))
        sources = rules.sources()
        town = await build_town(sources=sources)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.bam"
        entry = await town.register(md5=None, access_url=url)
        assert (await town.http.get(f"/data/{entry.name}")).status_code == 202
        await sources.close()
    assert await stored(town, entry) == entry


async def test_an_address_that_may_not_be_fetched_is_not_asked(build_town):
    with socket.create_server(("127.0.0.1", 0)) as inner:
        inner.settimeout(0)
        sources = OutboundRules(allow_http=True).sources()
        town = await build_town(sources=sources)
        url = f"http://127.0.0.1:{inner.getsockname()[1]}/x.bam"
        entry = await town.register(md5=None, access_url=url)
        assert (await town.http.get(f"/data/{entry.name}")).status_code == 202
        await sources.close()
        with pytest.raises(BlockingIOError):
            inner.accept()


async def test_a_client_that_leaves_does_not_take_the_answer_from_the_others(town):
    entry = await town.register(md5=None)
    town.upstream.known_details[entry.access_url] = TOLD
    leaving = asyncio.create_task(town.http.get(f"/data/{entry.name}"))
    staying = asyncio.create_task(town.http.get(f"/data/{entry.name}"))
    await asyncio.wait_for(town.upstream.details_begun.wait(), 10)
    leaving.cancel()
    answer = await staying
    job = await town.jobs.get(JobId(answer.json()["job_id"]))
    assert job.source.size_in_bytes == 18_000
    await asyncio.gather(leaving, return_exceptions=True)


async def test_an_entry_that_is_removed_while_its_source_is_asked_starts_no_job(town):
    entry = await town.register(md5=None)
    town.upstream.known_details[entry.access_url] = TOLD
    town.upstream.details_may_come.clear()
    asking = asyncio.create_task(town.http.get(f"/data/{entry.name}"))
    await asyncio.wait_for(town.upstream.details_begun.wait(), 10)
    assert (await town.http.delete(f"/files/{entry.name}", headers=ADMIN)).status_code == 200
    town.upstream.details_may_come.set()
    assert (await asking).status_code == 404
    assert await jobs_of(town) == ()
    assert await stored(town, entry) is None
