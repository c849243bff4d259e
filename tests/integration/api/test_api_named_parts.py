"""The parts of an artifact beyond data, index and density: where they are served and listed."""

from __future__ import annotations

import hashlib

from gooseherd.domain.artifact import Kind

MORE = {Kind.GZI: b"the blocks", Kind.SECOND_END: b"by the other end"}


async def test_a_named_part_is_served_by_its_name_and_by_data_with_a_query(hot_town):
    entry = await hot_town.register(filename="parts.bam")
    await hot_town.publish(entry, b"data", b"index", more=MORE)
    for kind, content in MORE.items():
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        for path in (f"/data/{entry.name}?part={kind}", f"/files/{entry.name}/parts.bam.{kind}"):
            answer = await hot_town.http.get(path)
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (200, content, etag)
            ranged = await hot_town.http.get(path, headers={"Range": "bytes=4-6"})
            assert (ranged.status_code, ranged.content) == (206, content[4:7])
        status = await hot_town.http.get(f"/data/{entry.name}/status?part={kind}")
        assert status.json()["size"] == len(content)
    for kind, content in ((Kind.DATA, b"data"), (Kind.INDEX, b"index")):
        assert (await hot_town.http.get(f"/data/{entry.name}?part={kind}")).content == content


async def test_the_manifest_the_listing_and_the_job_say_where_named_parts_are(town):
    entry = await town.register(filename="parts.bam")
    accepted = await town.http.get(f"/data/{entry.name}")
    job = await town.run(accepted.json()["job_id"])
    await town.complete(job, await town.publish(entry, b"data", b"index", more=MORE))
    manifest = (await town.http.get(f"/files/{entry.name}/manifest")).json()
    record = (await town.http.get(f"/jobs/{job.job_id}")).json()
    listing = (await town.http.get(f"/files/{entry.name}/")).json()
    for parts in (manifest["parts"], record["parts"], listing["names"]):
        places = {part["kind"]: part["url"] for part in parts}
        assert list(places) == ["data", "index", "gzi", "second_end"]
        assert (await town.http.get(places["gzi"])).content == MORE[Kind.GZI]


async def test_a_part_that_there_is_not_is_refused_in_words(hot_town):
    entry = await hot_town.register(filename="parts.bam")
    await hot_town.publish(entry, b"data", b"index")
    lacking = await hot_town.http.get(f"/data/{entry.name}?part=gzi")
    assert (lacking.status_code, lacking.json()["type"]) == (404, "/problems/no-such-part")
    unknown = await hot_town.http.get(f"/data/{entry.name}?part=nope")
    assert unknown.status_code == 422
    assert "second_end_index" in unknown.json()["detail"]
    elsewhere = await hot_town.http.get(f"/index/{entry.name}?part=gzi")
    assert elsewhere.status_code == 422
