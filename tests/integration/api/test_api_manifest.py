"""What was made of a file, told without a look at the bytes."""

from __future__ import annotations

import hashlib

import pytest

from gooseherd.domain.contig import Contig

pytestmark = pytest.mark.integration


async def test_the_manifest_tells_parts_versions_counts_and_notes(hot_town):
    town = hot_town
    entry = await town.register(local_id="A")
    manifest = await town.publish(
        entry,
        b"sorted",
        density=b"bigWig",
        counts={"records": 3, "dropped": 1},
        notes=("1 line was dropped",),
        tools={"samtools": "1.21"},
    )
    answer = await town.http.get("/files/4DN/A/manifest")
    view = answer.json()
    assert answer.status_code == 200
    assert (view["dcc"], view["local_id"], view["source"]) == ("4dn", "A", f"md5-{entry.md5}")
    assert (view["processor"], view["processor_version"], view["source_format"]) == ("sort", "1", "bam")
    assert (view["counts"], view["notes"]) == ({"records": 3, "dropped": 1}, ["1 line was dropped"])
    assert (view["tools"], view["digest"]) == ({"samtools": "1.21"}, manifest.digest)
    assert (view["contig_count"], view["contigs"]) == (2, None)
    assert [part["kind"] for part in view["parts"]] == ["data", "index", "density"]
    data = view["parts"][0]
    assert (data["size"], data["filename"]) == (6, entry.filename)
    assert data["sha256"] == hashlib.sha256(b"sorted").hexdigest()
    for part, content in zip(view["parts"], (b"sorted", b"BAI\1index", b"bigWig"), strict=True):
        assert (await town.http.get(part["url"])).content == content


async def test_no_key_of_the_cache_is_told(hot_town):
    entry = await hot_town.register(local_id="A")
    manifest = await hot_town.publish(entry, b"sorted")
    text = (await hot_town.http.get("/files/4dn/A/manifest?contigs=true")).text
    assert not any(part.key in text for part in manifest.parts)
    assert '"key"' not in text


async def test_contigs_are_told_when_asked_for_and_their_list_is_bounded(hot_town):
    town = hot_town
    await town.publish(await town.register(local_id="A"), b"sorted")
    view = (await town.http.get("/files/4dn/A/manifest?contigs=true")).json()
    assert view["contigs"] == [["chr1", 248956422], ["chrUn", None]]
    many = tuple(Contig(f"s{n}", n) for n in range(10_050))
    await town.publish(await town.register(local_id="B"), b"sorted too", contigs=many)
    view = (await town.http.get("/files/4dn/B/manifest?contigs=true")).json()
    assert (view["contig_count"], len(view["contigs"])) == (10_050, 10_000)
    assert len((await town.http.get(view["contigs_url"])).json()["contigs"]) == 10_050


async def test_before_there_is_one_it_is_404_and_nothing_is_started(town):
    await town.register(local_id="A")
    answer = await town.http.get("/files/4dn/A/manifest")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-yet-published")
    assert answer.json()["retryable"] is True
    assert (await town.http.get("/jobs")).json()["jobs"] == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"data_access_level": "protected"}, 404),
        ({"status": "withdrawn"}, 410),
        ({"status": "pending"}, 404),
        ({"file_format": "cram", "filename": "c.cram"}, 422),
    ],
)
async def test_it_is_told_to_whom_the_data_are_served(hot_town, fields, status):
    await hot_town.register(local_id="A", **fields)
    assert (await hot_town.http.get("/files/4dn/A/manifest")).status_code == status
    assert (await hot_town.http.get("/data/4dn/A")).status_code == status


async def test_without_processing_there_is_none(build_hot_town):
    town = await build_hot_town(processing=False)
    await town.register(local_id="A")
    answer = await town.http.get("/files/4dn/A/manifest")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/processing-disabled")
