"""The density is a part like data and index: ranges, tags, waiting; and where there is none that is said."""

from __future__ import annotations

import asyncio

import pytest

from gooseherd.domain.artifact import Kind

BIGWIG = bytes(range(256)) * 40


async def test_it_is_served_by_ranges_with_a_strong_tag(town):
    entry = await town.register()
    manifest = await town.publish(entry, b"data", density=BIGWIG)
    path, etag = f"/density/{entry.name}", manifest.part(Kind.DENSITY).etag
    whole = await town.http.get(path)
    assert (whole.status_code, whole.content, whole.headers["etag"]) == (200, BIGWIG, etag)
    some = await town.http.get(path, headers={"Range": "bytes=256-511", "Origin": "https://x.example"})
    assert (some.status_code, some.content) == (206, BIGWIG[256:512])
    assert some.headers["content-range"] == f"bytes 256-511/{len(BIGWIG)}"
    assert some.headers["access-control-allow-origin"] == "*"
    assert (await town.http.get(path, headers={"If-None-Match": etag})).status_code == 304
    head = await town.http.head(path)
    assert (head.status_code, int(head.headers["content-length"])) == (200, len(BIGWIG))
    ready = (await town.http.get(f"{path}/status")).json()
    assert (ready["ready"], ready["size"], ready["etag"]) == (True, len(BIGWIG), etag)


async def test_asking_for_it_first_starts_the_one_job(town):
    entry = await town.register()
    assert (await town.http.head(f"/density/{entry.name}")).status_code == 404
    assert (await town.http.get(f"/density/{entry.name}/status")).json()["ready"] is False
    first = await town.http.get(f"/density/{entry.name}")
    second = await town.http.get(f"/data/{entry.name}")
    assert (first.status_code, first.headers["location"]) == (202, second.headers["location"])
    asking = asyncio.create_task(town.http.get(f"/density/{entry.name}?wait=20"))
    job = await town.run(first.json()["job_id"])
    await town.complete(job, await town.publish(entry, b"data", density=BIGWIG))
    assert (await asking).content == BIGWIG
    body = (await town.http.get(first.headers["location"])).json()
    assert body["density_url"].endswith(f"/files/{entry.name}/reads%200.bam.bw")
    assert [part["kind"] for part in body["parts"]] == ["data", "index", "density"]


@pytest.mark.parametrize("suffix", ["", "/status"])
async def test_an_artifact_that_came_without_one_says_so(town, suffix):
    entry = await town.register()
    await town.publish(entry, b"data")
    answer = await town.http.get(f"/density/{entry.name}{suffix}")
    body = answer.json()
    assert (answer.status_code, body["type"], body["what"]) == (404, "/problems/no-such-part", "density")
    assert body["retryable"] is False
    assert (await town.http.get(f"/data/{entry.name}")).status_code == 200


@pytest.mark.parametrize(
    ("fields", "query", "kind"),
    [
        ({"filename": "table.csv"}, "", "no-such-part"),
        ({"sidecars": [{"kind": "px2", "access_url": "https://example.org/i"}]}, "", "no-such-part"),
        ({}, "?raw=true", "not-found"),
    ],
)
async def test_what_can_have_none_never_starts_work(town, fields, query, kind):
    entry = await town.register(**fields)
    answer = await town.http.get(f"/density/{entry.name}{query}")
    assert (answer.status_code, answer.json()["type"]) == (404, f"/problems/{kind}")
    assert (await town.http.get("/jobs")).json()["jobs"] == []
    assert town.upstream.asked == []
