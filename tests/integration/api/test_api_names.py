"""Parts of a file under names that say what the bytes are, held for whoever asks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gooseherd.domain.ports.store import JobQuery
from gooseherd.domain.source import Sidecar, SidecarKind

pytestmark = pytest.mark.integration

PERSON = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}


async def make_when_asked_for(town, entry, **parts):
    jobs: Any = ()
    while not jobs:
        await asyncio.sleep(0.01)
        jobs = (await town.jobs.find(JobQuery())).jobs
    job = await town.run(jobs[0].job_id)
    await town.complete(job, await town.publish(entry, b"the bytes", **parts))


async def test_data_index_and_density_are_there_by_their_names(town):
    entry = await town.register(filename="reads.bam")
    await town.publish(entry, b"the bytes", density=b"a bigWig")
    for name, body in (
        ("reads.bam", b"the bytes"),
        ("reads.bam.bai", b"BAI\1index"),
        ("reads.bam.bw", b"a bigWig"),
    ):
        answer = await town.http.get(f"/files/{entry.name}/{name}")
        assert (answer.status_code, answer.content) == (200, body)
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        ranged = await town.http.get(f"/files/{entry.name}/{name}", headers={"Range": "bytes=1-3"})
        assert (ranged.status_code, ranged.content) == (206, body[1:4])


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    "name", ["reads.bam.csi", "reads.bam.tbi", "other.bam", "reads", "x.bai", "reads.bam.bai.csi"]
)
async def test_any_other_name_is_404_at_once_and_starts_nothing(town, warm, name):
    entry = await town.register(filename="reads.bam")
    if warm:
        await town.publish(entry, b"the bytes")
    answer = await town.http.get(f"/files/{entry.name}/{name}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert (await town.jobs.find(JobQuery())).jobs == ()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_tool_is_held_until_the_file_is_made(town, method):
    """IGV desktop asks for what there is with HEAD."""
    entry = await town.register(filename="reads.bam")
    held = asyncio.create_task(
        town.http.request(method, f"/files/{entry.name}/reads.bam", follow_redirects=True)
    )
    await make_when_asked_for(town, entry)
    answer = await held
    assert (answer.status_code, answer.headers["content-length"]) == (200, "9")


async def test_a_tool_is_redirected_to_an_absolute_address(build_town):
    town = await build_town(wait_max_seconds=0.02)
    entry = await town.register(filename="my reads.bam")
    path = f"/files/{entry.name}/my%20reads.bam"
    answer = await town.http.get(path)
    assert (answer.status_code, answer.headers["location"]) == (307, f"{town.url}{path}?hop=1")


@pytest.mark.parametrize("query", ["", "?wait=0"])
async def test_a_tool_ends_with_503_and_never_with_202(build_town, query):
    town = await build_town(wait_max_seconds=0.02)
    entry = await town.register(filename="reads.bam")
    answer = await town.http.get(f"/files/{entry.name}/reads.bam{query}", follow_redirects=True)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/not-ready")
    assert int(answer.headers["retry-after"]) >= 1


async def test_without_holds_a_name_is_503_at_once(build_town):
    town = await build_town(hold_viewers=False)
    entry = await town.register(filename="reads.bam")
    answer = await town.http.get(f"/files/{entry.name}/reads.bam")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")


async def test_a_csi_index_has_its_own_name_once_it_is_made(town):
    """The usual index is expected, and that is never what another kind is served as."""
    entry = await town.register(filename="reads.bam")
    held = asyncio.create_task(town.http.get(f"/files/{entry.name}/reads.bam.bai", follow_redirects=True))
    await make_when_asked_for(town, entry, index_name="reads.bam.csi")
    assert (await held).status_code == 404
    assert (await town.http.get(f"/files/{entry.name}/reads.bam.csi")).content == b"BAI\1index"
    assert (await town.http.get(f"/files/{entry.name}/reads.bam.bai")).status_code == 404


async def test_two_entries_of_one_content_have_each_their_own_names(town):
    one = await town.register(filename="one.bam", md5="1" * 32)
    await town.publish(one, b"the bytes")
    two = await town.register(filename="two.bam", md5="1" * 32)
    for entry, name in ((one, "one.bam"), (two, "two.bam")):
        for path in (f"/files/{entry.name}/{name}", f"/data/{entry.name}"):
            answer = await town.http.get(path)
            assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        assert (await town.http.get(f"/files/{entry.name}/{name}.bai")).status_code == 200


async def test_an_index_of_upstream_is_there_by_its_exact_kind(town):
    entry = await town.register(filename="calls.vcf.gz", file_format="vcf")
    url = f"{entry.access_url}.px2"
    entry = replace(entry, sidecars=(Sidecar(SidecarKind.PX2, url),))
    await town.files.put([entry])
    town.upstream.files[url] = b"upstream's index"
    there = await town.http.get(f"/files/{entry.name}/calls.vcf.gz.px2")
    assert there.content == b"upstream's index"
    assert there.headers["content-disposition"] == 'attachment; filename="calls.vcf.gz.px2"'
    assert (await town.http.get(f"/files/{entry.name}/calls.vcf.gz.csi")).status_code == 404


async def test_the_folder_of_a_file_lists_its_names(town):
    entry = await town.register(filename="my reads.bam")
    folder = f"/files/{entry.name}/"
    cold = (await town.http.get(folder)).json()["names"]
    assert [(n["name"], n["kind"], n["ready"], n["size"]) for n in cold] == [
        ("my reads.bam", "data", False, None),
        ("my reads.bam.bai", "index", False, None),
        ("my reads.bam.bw", "density", False, None),
    ]
    assert (await town.jobs.find(JobQuery())).jobs == ()
    manifest = await town.publish(entry, b"the bytes")
    warm = (await town.http.get(folder)).json()["names"]
    assert [(n["name"], n["ready"], n["size"]) for n in warm] == [
        ("my reads.bam", True, 9),
        ("my reads.bam.bai", True, 9),
    ]
    assert warm[0]["sha256"] == manifest.parts[0].sha256
    assert (await town.http.get(warm[0]["url"])).content == b"the bytes"
    page = await town.http.get(folder, headers=PERSON)
    assert page.headers["content-type"].startswith("text/html")
    assert 'href="my%20reads.bam.bai"' in page.text


async def test_names_of_a_file_that_is_not_public_are_not_told(town):
    entry = await town.register(filename="reads.bam", data_access_level="protected")
    assert (await town.http.get(f"/files/{entry.name}/")).status_code == 404
    assert (await town.http.get(f"/files/{entry.name}/reads.bam")).status_code == 404


async def test_what_else_stands_below_a_file_is_no_name(town):
    entry = await town.register(filename="manifest", file_format="csv")
    await town.publish(entry, b"a,b\n", index=None)
    assert "parts" in (await town.http.get(f"/files/{entry.name}/manifest")).json()
    assert (await town.http.post(f"/files/{entry.name}/x.bam")).status_code == 405
